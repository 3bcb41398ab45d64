"""Timelines of real traces: every event once, what was added agrees with the report, and nothing that viewers drop."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.classes import class_name
from shardprof.trace.run import load
from shardprof.trace.timeline import Asked, write_timeline
from shardprof.trace.timeline.choice import Choice
from tests.timelines import Slice, Written, assert_nested

RECORDED = Path(__file__).parents[2] / "traces"
PUBLIC = Path(os.environ.get("SHARDPROF_TRACES") or Path(__file__).parents[3] / "shared" / "traces")
PUBLIC_NAMES = (
    "dlrm-8rank-v100", "ddp-nccl-metadata-a100", "mi300-ddp", "ns-resolution", "h100-single",
    "dataloader-bound/workers0.json.gz", "critical-path/alexnet.json.gz", "stragglers/slow-last-stage.json.gz",
)  # fmt: skip
PLACES = [*(RECORDED / name for name in ("fsdp2-vit-2ranks", "zero3-vit-2ranks")), *(PUBLIC / n for n in PUBLIC_NAMES)]
OPERATORS = ("cpu_op", "cuda_runtime", "python_function")

Report = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module", params=PLACES, ids=[place.name for place in PLACES])
def place(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    if not found.exists():
        pytest.skip(f"the public traces are not in {PUBLIC} (SHARDPROF_TRACES)")
    return found


@pytest.fixture(scope="module")
def whole(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return written(place, tmp_path_factory.mktemp("whole"))


def written(place: Path, tmp_path: Path, asked: Asked = Asked()) -> Written:  # noqa: B008
    write_timeline(load([place]), tmp_path / "t.json.gz", asked)
    return Written(tmp_path / "t.json.gz")


def test_every_slice_is_there_once_and_nests(place: Path, whole: Written) -> None:
    assert_nested(whole.all_slices())
    assert min(event["ts"] for event in whole.of("X", "C", "i", "s", "t", "f")) >= 0, "viewers drop what is before 0"
    files = [place] if place.is_file() else [*place.glob("ranks/*/trace*.json*"), *place.glob("*.json.gz")]
    expected: Counter[str] = Counter()
    for file in files:
        trace = json.loads(gzip.decompress(file.read_bytes()), parse_float=Decimal)
        events = trace if isinstance(trace, list) else trace["traceEvents"]
        expected += Counter(event["name"] for event in events if event.get("ph") == "X")
    found = Counter(one.name for one in whole.slices())
    assert {name: found[name] for name in expected} == dict(expected)


def test_classes_of_steps_sum_to_the_partition(place: Path, whole: Written, report: Report) -> None:
    steps = _steps(whole)
    for rank in report(place)["ranks"]:
        shown = steps[rank["rank"]]
        assert len(shown) == len(rank["steps"])
        for (step, parts), expected in zip(shown, rank["steps"], strict=True):
            assert step.name in (f"step {expected['step']}", "no steps")
            stretch = (step.end_ns - step.begin_ns) / expected["wall_ns"]  # on the reference's clock a step is longer
            assert abs(stretch - 1) < 1e-3
            for name, time_ns in expected["partition_ns"].items():
                if name != "idle":
                    assert parts[class_name(name)] == pytest.approx(
                        time_ns * stretch, abs=3 * (1 + parts["pieces"]) * (stretch != 1)
                    )


def _steps(timeline: Written) -> dict[int, list[tuple[Slice, Counter[str]]]]:
    """By rank the steps, and how long each class is below each."""
    found: defaultdict[int, list[tuple[Slice, Counter[str]]]] = defaultdict(list)
    for one in timeline.all_slices():
        name = timeline.threads[one.track]
        if not name.endswith("step classes"):
            continue
        steps = found[int(name.split()[1])]
        if one.name.startswith("step ") or one.name == "no steps":
            steps.append((one, Counter()))
        else:
            step, parts = steps[-1]
            assert step.begin_ns <= one.begin_ns <= one.end_ns <= step.end_ns
            parts[one.name] += one.end_ns - one.begin_ns
            parts["pieces"] += 1
    return found


def test_slim_leaves_operators_out_and_keeps_what_moves(place: Path, whole: Written, tmp_path: Path) -> None:
    slim = written(place, tmp_path, Asked(choice=Choice(slim=True)))
    kept = Counter(event["cat"] for event in slim.of("X") if "cat" in event)
    all_of = Counter(event["cat"] for event in whole.of("X") if "cat" in event)
    assert kept["kernel"] == all_of["kernel"]
    assert kept["user_annotation"] == all_of["user_annotation"]
    if all_of["kernel"] or all_of["user_annotation"]:
        assert not any(kept[category] for category in OPERATORS)
    assert_nested(slim.all_slices())


@pytest.mark.parametrize(("name", "collectives", "ranks"), [("dlrm-8rank-v100", 8, 8), ("fsdp2-vit-2ranks", 42, 2)])
def test_arrows_join_a_collectives_slices_on_all_ranks(name: str, collectives: int, ranks: int, tmp_path: Path) -> None:
    place = next(place for place in PLACES if place.name == name)
    if not place.exists():
        pytest.skip(f"the public traces are not in {PUBLIC} (SHARDPROF_TRACES)")
    timeline = written(place, tmp_path)
    begins = {(one.track, one.begin_ns): one for one in timeline.all_slices()}
    arrows = defaultdict(list)
    for event in timeline.of("s", "t", "f"):
        if event["cat"] == "collective":
            arrows[event["id"]].append(event)
    assert len(arrows) == collectives
    for ends in arrows.values():
        assert [end["ph"] for end in ends] == ["s", *["t"] * (ranks - 2), "f"]
        assert [end["ts"] for end in ends] == sorted(end["ts"] for end in ends)
        assert len({end["pid"] for end in ends}) == ranks
        slices = [begins[end["tid"], timeline.ns(end)] for end in ends]
        assert len({one.name for one in slices}) == 1
        assert {one.args["last rank"] for one in slices} == {int(slices[-1].process.split()[1])}, (
            "who comes last is last"
        )
        assert float(slices[-1].args["waited for others (us)"]) == 0


def test_a_choice_of_ranks_and_steps_keeps_all_that_is_always_shown(tmp_path: Path) -> None:
    place = RECORDED / "zero3-vit-2ranks"
    timeline = written(place, tmp_path, Asked(choice=Choice(ranks=frozenset({1}), steps=range(4, 5))))
    steps = _steps(timeline)
    assert [step.name for step, _ in steps[0]] == [step.name for step, _ in steps[1]] == ["step 3", "step 4", "step 5"]
    (begin_ns, end_ns) = next((step.begin_ns, step.end_ns) for step, _ in steps[1] if step.name == "step 4")
    captured = [one for one in timeline.slices() if timeline.threads[one.track] != "recorded steps"]
    assert {one.process for one in captured} == {"rank 1 · node-a"}
    assert all(one.begin_ns < end_ns and one.end_ns >= begin_ns for one in captured)
    assert {one.process for one in timeline.slices()} == {"rank 0 · node-a", "rank 1 · node-a"}
