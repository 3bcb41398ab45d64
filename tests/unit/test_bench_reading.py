"""The benchmark of reading: the floor counts what is there, a run is charged what it used, targets are judged right."""

from __future__ import annotations

import gzip
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Trace, distributed_info

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # scripts, which import one another by bare names

from measuring import Sample, measure, number, spread
from reading_inputs import as_rank
from reading_results import FileCost, ReadingCost, Target
from reading_speed import build_floor

GB = 1e9


@pytest.fixture(scope="module")
def floor() -> Path:
    if not (shutil.which("cmake") and shutil.which("ninja")):
        pytest.skip("cmake and ninja are not installed")
    return build_floor()


def run_floor(floor: Path, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([floor, path], capture_output=True, text=True)


def test_the_floor_counts_events_and_their_fields(floor: Path, tmp_path: Path) -> None:
    made = Trace().step(1, 0, 90).event('a "quoted" { name', 1, 5, shape=[[2, [3]], {}], text="}]")
    made.events += [{}, {"ph": "M", "args": {"traceEvents": [1, 2]}}, {"list": [{"a": 1}, {"b": 2}]}]
    path = made.write(tmp_path / "trace.json.gz")
    counted = json.loads(run_floor(floor, path).stdout)
    assert counted["events"] == len(made.events) == 5
    assert counted["fields"] == sum(len(event) for event in made.events)
    assert counted["text_bytes"] == len(made.text().encode())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-20], "cut off"),
        (lambda data: data + data, "more than one gzip member"),
        (lambda data: data[:-8] + bytes(8), "damaged"),
        (lambda _: b"no gzip data at all", "damaged"),
        (lambda _: gzip.compress(b"[]"), "type"),
    ],
)
def test_the_floor_refuses_what_it_did_not_read_whole(
    floor: Path, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = Trace().step(1, 0, 90).write(tmp_path / "trace.json.gz")
    path.write_bytes(damage(path.read_bytes()))
    done = run_floor(floor, path)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


def test_a_run_is_charged_what_it_used() -> None:
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + (64 << 20)  # more than is handed on
    sample, printed = measure([sys.executable, "-c", f"print(len(b'x' * {size}))"], {})
    assert printed == f"{size}\n"
    assert size < sample.peak_rss_bytes < size + (64 << 20)
    assert sample.cpu_s > 0
    assert sample.wall_s > 0


def test_what_is_added_to_the_environment_arrives() -> None:
    _, printed = measure([sys.executable, "-c", "import os; print(os.environ['ADDED'])"], {"ADDED": "0"})
    assert printed == "0\n"


def test_a_run_that_fails_ends_the_script() -> None:
    with pytest.raises(SystemExit, match=r"exit code 3\nwhy$"):
        measure([sys.executable, "-c", "import sys; sys.stderr.write('why'); sys.exit(3)"], {})


def test_a_figure_is_the_median_with_the_extremes() -> None:
    assert spread([3.0, 1.0, 200.0]) == "3.00 (1.00..200)"
    assert spread([2.5]) == "2.50"
    assert [number(value) for value in (0.0625, 12.34, 1234.5)] == ["0.062", "12.3", "1,234"]


def samples(*cpu_s: float, wall_s: float = 1.0, rss: float = 0.1 * GB) -> list[Sample]:
    return [Sample(cpu_s=cpu, wall_s=wall_s, peak_rss_bytes=int(rss)) for cpu in cpu_s]


def file_cost(copies: int = 10, **contestants: list[Sample]) -> FileCost:
    base = {"floor": samples(1, 1, 1), "shardprof": samples(1, 1, 1)}
    return FileCost(copies=copies, floor={"events": 1_000_000}, samples=base | contestants)


def verdicts(targets: list[Target]) -> dict[str, bool]:
    return {target.what.split(": ")[-1]: target.met for target in targets}


def test_ratios_are_of_the_same_round() -> None:
    cost = file_cost(floor=samples(1, 10, 100), shardprof=samples(2, 30, 100))
    assert cost.ratios("cpu_s", "shardprof", "floor") == [2, 3, 1]


@pytest.mark.parametrize(
    ("target", "just_met", "missed"),
    [
        ("CPU time over the floor's", {"shardprof": samples(2, 2, 9)}, {"shardprof": samples(1, 2.1, 2.1)}),
        ("wall time over the floor's", {}, {"shardprof": samples(1, 1, 1, wall_s=1.01)}),
        ("peak RSS, 100 MB + 80 B an event", {"shardprof": samples(1, 1, 1, rss=0.18 * GB)},
         {"shardprof": samples(1, 1, 1, rss=0.181 * GB)}),
        ("HTA's wall time over ours", {"HTA": samples(1, 1, 1, wall_s=50)}, {"HTA": samples(1, 1, 1, wall_s=49)}),
    ],
)  # fmt: skip
def test_targets_of_a_file(target: str, just_met: dict[str, Any], missed: dict[str, Any]) -> None:
    assert verdicts(file_cost(**just_met).targets())[target] is True
    assert verdicts(file_cost(**missed).targets())[target] is False


def test_a_small_file_and_one_without_hta_have_fewer_targets() -> None:
    assert "wall time over the floor's" not in verdicts(file_cost(copies=1).targets())
    assert "HTA's wall time over ours" not in verdicts(file_cost().targets())
    assert "HTA's wall time over ours" not in verdicts(file_cost(copies=20, HTA=samples(9, 9, 9)).targets())


@pytest.mark.parametrize(("growth", "linear"), [(lambda n: 5 * n, True), (lambda n: n + n * n / 100, False)])
def test_the_cost_of_a_rank_may_not_grow_with_their_number(*, growth: Callable[[int], float], linear: bool) -> None:
    jobs = {ranks: samples(growth(ranks), growth(ranks), wall_s=growth(ranks)) for ranks in (8, 32, 128)}
    cost = ReadingCost(files=[file_cost()], ranks=jobs, answer=samples(1, wall_s=0.6))
    met = verdicts(cost.targets())
    assert met["CPU time a rank, 128 ranks over 8"] is linear
    assert met["wall time a rank, 128 ranks over 8"] is linear
    assert met["a small trace is answered within"] is False


def test_a_trace_is_made_that_of_another_rank(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    metadata = {"Collective name": "allreduce", "Process Group Name": "0", "Process Group Ranks": "[0, 1]",
                "Group size": 2, "In msg nelems": 4, "Out msg nelems": 4, "dtype": "Float"}  # fmt: skip
    made = Trace(distributed_info(0, [0, 1])).step(1, 0, 100).launch(1, 5)
    made.kernel("ncclDevKernel_AllReduce", 10, 20, correlation=1)
    made.events[-1]["args"] |= metadata
    for rank in range(3):
        (tmp_path / f"{rank}.json").write_bytes(as_rank(made.text().encode(), rank, 3))
    told = report(tmp_path)
    assert [rank["rank"] for rank in told["ranks"]] == [0, 1, 2]
    assert told["source"]["world_size"] == 3
    assert [(row["ranks"], row["group_size"]) for row in told["collectives"]] == [([0, 1, 2], 3)]
    arguments = json.loads((tmp_path / "2.json").read_bytes())["traceEvents"][-1]["args"]
    assert (arguments["Process Group Ranks"], arguments["Group size"]) == ("[0, 1, 2]", 3)
