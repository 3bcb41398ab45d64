"""`shardprof open` in a real browser: Perfetto's own viewer takes the timeline whole, from this machine alone."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.timelines import Written

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PUBLIC = Path(os.environ.get("SHARDPROF_TRACES") or Path(__file__).parents[3] / "shared" / "traces")
WORKLOAD = "shardprof.study.workloads.vit"
TRAINING = ("--width", "64", "--batch-size", "8", "--steps", "8", "--threads", "1")
LOADED = "() => window.app?.trace && !window.app.isLoadingTrace && window.app.trace.workspace.pinnedTracks.length"
WAIT_S = 120

pytestmark = [pytest.mark.integration, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(autouse=True)
def nothing_runs_on() -> None:
    """The browser stays from test to test."""


@dataclass
class Seen:
    """A timeline in Perfetto: ask its engine, look at its tracks."""

    page: Any
    origins: set[str]
    timeline: Written

    def query(self, sql: str) -> list[list[Any]]:
        rows: list[list[Any]] = self.page.evaluate(
            """async (sql) => {
                const result = await window.app.trace.engine.query(sql), names = result.columns(), rows = [];
                const plain = (value) => typeof value === "bigint" ? Number(value) : value;
                for (const row = result.iter({}); row.valid(); row.next())
                    rows.push(names.map(name => plain(row.get(name))));
                return rows;
            }""",
            sql,
        )
        return rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, record_job: Callable[..., Any], free_port: Any) -> dict[str, Path]:
    """Trainings of four ranks, with counters, and the public traces of a job of eight."""
    folder = tmp_path_factory.mktemp("runs")
    torchrun = ("torchrun", "--standalone", "--nproc-per-node", "4", "-m", WORKLOAD, "--strategy", "fsdp2-full")
    deepspeed = ("deepspeed", "--quiet", "--num_gpus", "4", "--master_port", free_port(), "--module", WORKLOAD)
    options = ("--steps", "4:6")
    fsdp2 = record_job(folder, *torchrun, *TRAINING, out="fsdp2", options=options)
    zero3 = record_job(folder, *deepspeed, "--strategy", "zero3", *TRAINING, out="zero3", options=options)
    assert fsdp2.exit_code == zero3.exit_code == 0, fsdp2.stderr + zero3.stderr
    if PUBLIC.exists():
        shutil.copytree(PUBLIC / "dlrm-8rank-v100", folder / "dlrm", copy_function=shutil.copyfile)
        (folder / "dlrm").chmod(0o755)
    return {name: folder / name for name in ("fsdp2", "zero3", "dlrm")}


@pytest.fixture(scope="module", params=[("fsdp2", 4), ("zero3", 4), ("dlrm", 8)], ids=lambda param: param[0])
def seen(request: pytest.FixtureRequest, runs: dict[str, Path]) -> Iterator[tuple[Seen, int]]:
    name, ranks = request.param
    if name == "dlrm" and not PUBLIC.exists():
        pytest.skip(f"the public traces are not in {PUBLIC} (SHARDPROF_TRACES)")
    with opened(runs[name]) as (address, _), browser() as page:
        origins: set[str] = set()
        page.on("response", lambda response: origins.add(_origin(response.url)))
        page.goto(address)
        page.wait_for_function(LOADED, timeout=WAIT_S * 1000)
        yield Seen(page, origins, Written(runs[name] / "timeline.json.gz")), ranks


@contextmanager
def opened(path: Path, *options: str) -> Iterator[tuple[str, Any]]:
    """`shardprof open`, and the address that it says."""
    command = [sys.executable, "-m", "shardprof", "open", str(path), "--no-browser", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = next((line.strip() for line in process.stdout if line.startswith("http")), None)
        assert address, process.stderr.read() if process.stderr else ""
        yield address, process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium.new_page(viewport={"width": 1600, "height": 1000})
        chromium.close()


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return parts.hostname or parts.scheme


def test_the_viewer_imports_all_of_it_without_an_error(seen: tuple[Seen, int]) -> None:
    shown, _ = seen
    wrong = shown.query("select name, value from stats where severity in ('error', 'data_loss') and value != 0")
    assert wrong == []
    assert shown.page.evaluate("window.app.trace.traceInfo.importErrors") == 0
    events = Counter(event["ph"] for event in shown.timeline.events)
    ((slices, counters),) = shown.query("select (select count(*) from slice), (select count(*) from counter)")
    assert slices == events["X"] + events["i"]
    assert counters == events["C"]


def test_each_rank_is_a_process_and_has_its_tracks(seen: tuple[Seen, int]) -> None:
    shown, ranks = seen
    processes = [name for (name,) in shown.query("select name from process where name is not null")]
    assert sorted(processes) == sorted(shown.timeline.names.values())
    assert sum(name.startswith("rank ") for name in processes) == ranks
    threads = Counter(name for (name,) in shown.query("select name from thread where name is not null and upid > 0"))
    assert threads == Counter(shown.timeline.threads.values())
    counters = {name.strip() for (name,) in shown.query("select distinct name from counter_track")}
    assert counters == {name for _, name in shown.timeline.counters()}


def test_arrows_go_from_rank_to_rank(seen: tuple[Seen, int]) -> None:
    shown, ranks = seen
    ((across,),) = shown.query(
        "select count(*) from flow join slice a on slice_out = a.id join slice b on slice_in = b.id"
        " join thread_track ta on a.track_id = ta.id join thread_track tb on b.track_id = tb.id"
        " join thread ha on ta.utid = ha.utid join thread hb on tb.utid = hb.utid where ha.upid != hb.upid"
    )
    joined = Counter(event["id"] for event in shown.timeline.of("s", "t", "f") if event["cat"] == "collective")
    assert across == sum(count - 1 for count in joined.values()) > 0
    assert max(joined.values()) == ranks


def test_tracks_stand_in_the_order_of_ranks_and_classes_on_top(seen: tuple[Seen, int]) -> None:
    shown, ranks = seen
    names = shown.page.evaluate("window.app.trace.workspace.children.map(node => node.name)")
    assert [int(name.split()[1]) for name in names if name.startswith("rank ")] == list(range(ranks))
    pinned = shown.page.evaluate("window.app.trace.workspace.pinnedTracks.map(node => node.name)")
    assert [re.sub(r" \d+$", "", name) for name in pinned] == [f"rank {rank} · step classes" for rank in range(ranks)]
    first = shown.page.evaluate(
        "window.app.trace.workspace.children.find(node => node.name.startsWith('rank 0')).children.map(n => n.name)"
    )
    expected = [name for _, name in shown.timeline.in_order()][
        : len([n for n in shown.timeline.in_order() if n[0].startswith("rank 0")])
    ]
    found = [re.sub(r" \d+$", "", name) for name in first]
    assert found[: len(expected)] == expected


def test_nothing_comes_from_anywhere_else(seen: tuple[Seen, int]) -> None:
    shown, _ = seen
    assert shown.origins - {"data", "blob", ""} == {"127.0.0.1"}


def test_a_timeline_that_is_there_is_shown_again_and_ctrl_c_ends(runs: dict[str, Path]) -> None:
    file = runs["fsdp2"] / "timeline.json.gz"
    with opened(runs["fsdp2"]):
        pass
    made_ns = file.stat().st_mtime_ns
    with opened(runs["fsdp2"]) as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert file.stat().st_mtime_ns == made_ns
    with opened(runs["fsdp2"], "--slim") as (_, process):
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert file.stat().st_mtime_ns != made_ns, "another choice is another timeline"


def test_where_nothing_may_be_written_it_is_shown_all_the_same(runs: dict[str, Path]) -> None:
    file = PUBLIC / "ddp-nccl-metadata-a100" / "rank0.json.gz"
    if not file.exists():
        pytest.skip(f"the public traces are not in {PUBLIC} (SHARDPROF_TRACES)")
    with opened(file) as (address, process):
        assert address.startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
    assert not (file.parent / "timeline.json.gz").exists()
