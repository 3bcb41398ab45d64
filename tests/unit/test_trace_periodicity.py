"""Steps of traces that nobody marked: cycles of hand-made work, and of recorded traces whose marks are taken away."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.trace.importers.kineto import KinetoTrace, read_kineto
from shardprof.trace.periodicity import Cycles, evenness, find_cycles
from shardprof.trace.steps import find_steps
from shardprof.trace.work import Work, work_in_order
from tests.conftest import Trace

HERE = Path(__file__).parents[2]
RECORDED = sorted((HERE / "traces").glob("*/ranks/*/trace.json.gz"))
PLACE = Path(os.environ.get("SHARDPROF_TRACES") or HERE.parent / "shared" / "traces")
SEVERAL_STEPS = [
    "before-after/control.json.gz", "before-after/test.json.gz", "dataloader-bound/workers0.json.gz",
    "dataloader-bound/workers4.json.gz", "ddp-nccl-metadata-a100/rank0.json.gz", "mi300-ddp/rank0.json.gz",
    "ns-resolution/rank0.json.gz",
]  # fmt: skip
ONE_STEP = [
    "h100-single/qwen1.5-0.5b.json.gz", "dlrm-8rank-v100/worker0.json.gz", "dlrm-8rank-v100/worker3.json.gz",
    "edge/mi250_stream0.json.gz", "edge/rank_unavailable.json.gz", "edge/cpu_only_rank34.json.gz",
]  # fmt: skip

EMBED, LAYER, LOSS = ["embed", "cast"], ["norm", "gemm", "softmax", "gemm2", "gelu"], ["head", "nll", "mean"]
BACK = ["gelu_back", "gemm_back", "norm_back"]
FORWARD_BACKWARD = EMBED + 6 * LAYER + LOSS + 6 * BACK
STEP = [*FORWARD_BACKWARD, "clip", "AdamFunctor"]


def given_work(sequence: list[str], waits: dict[int, int] | None = None) -> tuple[Work, tuple[str, ...]]:
    """Pieces of work that take 6 ns each, 10 ns apart; before some of them there is a longer wait."""
    names = tuple(sorted(set(sequence)))
    begin_ns = 10 * np.arange(len(sequence)) + np.cumsum([(waits or {}).get(i, 0) for i in range(len(sequence))])
    name = np.array([names.index(kernel) for kernel in sequence], dtype=np.uint32)
    return Work(name=name, begin_ns=begin_ns, end_ns=begin_ns + 6), names


def cycles_of(sequence: list[str], waits: dict[int, int] | None = None) -> Cycles | None:
    work, names = given_work(sequence, waits)
    return find_cycles(work, names, 0)


def cut_after(found: Cycles | None) -> list[int]:
    """The last piece of work in each window of work without waits."""
    assert found is not None
    return [(end - 6) // 10 for end in found.windows[:, 1].tolist()]


def test_a_step_is_the_outer_cycle() -> None:
    found = cycles_of(5 * STEP)
    assert cut_after(found) == [len(STEP) * (i + 1) - 1 for i in range(5)]
    assert found is not None
    assert found.windows[:, 0].tolist() == [0, *found.windows[:-1, 1].tolist()]
    assert found.confidence == pytest.approx(1 - 2**-4, abs=0.02)


@given(
    layers=st.integers(1, 12), cycles=st.integers(3, 9), before=st.integers(0, 200), after=st.integers(0, 200),
    optimizer=st.booleans(),
)  # fmt: skip
def test_what_is_cut_off_is_no_step(layers: int, cycles: int, before: int, after: int, *, optimizer: bool) -> None:
    step = EMBED + layers * LAYER + LOSS + layers * BACK + ["clip", "AdamFunctor" if optimizer else "update"]
    before, after = (cut if 0.1 < cut / len(step) < 0.9 else 0 for cut in (before % len(step), after % len(step)))
    after = after if before + after != len(step) else 0  # whole cycles, of which nobody knows where they begin
    sequence = (step[-before:] if before else []) + cycles * step + step[:after]
    waits = dict.fromkeys(range(before, len(sequence), len(step)), 500)
    work, names = given_work(sequence, waits)
    found = find_cycles(work, names, int(work.begin_ns[0]))
    assert found is not None
    ends = [before + len(step) * (i + 1) - 1 for i in range(cycles)]
    assert found.windows[:, 1].tolist() == work.end_ns[ends].tolist()
    assert found.windows[1:, 0].tolist() == found.windows[:-1, 1].tolist()


def test_two_halves_that_are_alike_are_no_steps() -> None:
    assert cycles_of(2 * STEP) is None
    assert cycles_of(3 * STEP) is not None


def test_layers_of_a_single_step_are_no_steps() -> None:
    assert cycles_of(EMBED + 80 * LAYER + LOSS) is None
    assert cycles_of(EMBED + 24 * LAYER + LOSS + 24 * BACK + ["clip", "AdamFunctor"]) is None


@given(st.integers(0, 10**6), st.integers(2, 40))
def test_chance_is_no_cycle(seed: int, names: int) -> None:
    chance = random.Random(seed)
    assert cycles_of([f"k{chance.randrange(names)}" for _ in range(600)]) is None


@pytest.mark.parametrize("sequence", [[], ["a"], ["a"] * 500, ["a", "b"] * 500, [f"k{i}" for i in range(500)]])
def test_what_is_too_plain_is_no_cycle(sequence: list[str]) -> None:
    assert cycles_of(sequence) is None


def test_micro_batches_are_parts_of_the_step_that_the_optimizer_ends() -> None:
    accumulated = 4 * FORWARD_BACKWARD + ["clip", "AdamFunctor"]
    assert cut_after(cycles_of(5 * accumulated)) == [len(accumulated) * (i + 1) - 1 for i in range(5)]


def test_what_comes_every_other_step_makes_no_step() -> None:
    step = [*(f"convolution of size {size}" for size in range(40)), "AdamFunctor"]
    found = cycles_of(3 * [*step, *step, "loss_to_log"])
    assert cut_after(found) == [40, 81, 123, 164, 206, 247]


def test_copies_of_parameters_are_no_optimizer() -> None:
    gathered = [kernel for layer in range(6) for kernel in ("multi_tensor_apply<CopyFunctor>", *LAYER)]
    step = [*EMBED, *gathered, *LOSS, "AdamFunctor"]
    found = cycles_of(step[7:] + 4 * step + step[:20])
    assert cut_after(found) == [len(step) - 8 + len(step) * (i + 1) for i in range(4)]


def test_without_an_optimizer_a_step_begins_with_the_batch() -> None:
    step = ["Memcpy HtoD (Pageable -> Device)", *FORWARD_BACKWARD, "update"]
    sequence = step[9:] + 4 * step + step[:20]
    waits = dict.fromkeys(range(25, len(sequence), len(step)), 900)  # a longer wait, elsewhere
    work, names = given_work(sequence, waits)
    found = find_cycles(work, names, 0)
    assert found is not None
    first = len(step) - 9
    assert found.windows[:, 0].tolist() == [work.end_ns[first - 1 + i * len(step)] for i in range(4)]


def test_uneven_cycles_are_less_sure() -> None:
    even, uneven = cycles_of(6 * STEP), cycles_of(6 * STEP, {len(STEP): 300, 3 * len(STEP): 250, 5 * len(STEP): 200})
    assert even is not None
    assert uneven is not None
    assert uneven.confidence < even.confidence


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=9))
def test_evenness(lengths: list[int]) -> None:
    ends = np.cumsum(lengths)
    typical = float(np.median(lengths))
    deviation = sorted(abs(length - typical) for length in lengths)
    expected = 1 - float(np.median(deviation)) / typical if typical else 0.0
    assert evenness(np.stack((ends - lengths, ends), axis=1)) == pytest.approx(max(0.0, expected))


def training(steps: int, step: list[str]) -> Trace:
    """A trace without marks: each kernel is launched 10 ns after the one before and runs 1000 ns later."""
    made = Trace({})
    for i, name in enumerate(steps * step):
        made.launch(i, 10 * i).kernel(name, 1000 + 10 * i, 1008 + 10 * i, correlation=i)
    return made


def test_steps_are_found_by_launches(trace: Callable[[Trace], dict[str, Any]]) -> None:
    rank = trace(training(4, STEP))
    assert rank["report"]["step_source"] == "periodicity"
    assert [step["wall_ns"] for step in rank["steps"]][1:] == 3 * [10 * len(STEP)]


def read(made: Trace, folder: Path) -> KinetoTrace:
    return read_kineto(made.write(folder / "trace.json"))


def test_work_is_in_the_order_of_launches(tmp_path: Path) -> None:
    made = Trace({}).kernel("before", 0, 5, correlation=9).launch(1, 10).launch(2, 20).launch(3, 30)
    made.kernel("third", 40, 50, correlation=3).kernel("first", 60, 70, correlation=1)
    made.kernel("Memcpy", 80, 90, correlation=2, cat="gpu_memcpy").kernel("none", 90, 91, cat="gpu_memset")
    read_trace = read(made, tmp_path)
    work = work_in_order(read_trace.events, read_trace.main_thread)
    assert [read_trace.events.names[name] for name in work.name] == ["first", "Memcpy", "third"]
    assert work.begin_ns.tolist() == [10, 20, 30]


def test_without_launches_work_is_in_the_order_in_which_it_ran(tmp_path: Path) -> None:
    read_trace = read(Trace({}).kernel("b", 40, 50).kernel("a", 10, 20, stream=3), tmp_path)
    assert work_in_order(read_trace.events, None).begin_ns.tolist() == [10, 40]


def test_on_a_cpu_work_is_operators_inside_no_other(tmp_path: Path) -> None:
    made = Trace({}).event("aten::linear", 0, 50).event("aten::mm", 0, 40).event("aten::add", 50, 60)
    made.event("AddBackward0", 60, 90).event("aten::neg", 70, 80).event("aten::mm", 10, 20, tid=5)
    read_trace = read(made, tmp_path)
    work = work_in_order(read_trace.events, read_trace.main_thread)
    assert [read_trace.events.names[name] for name in work.name] == ["aten::linear", "aten::add", "aten::neg"]


MARKS = re.compile(r"ProfilerStep|[Oo]ptimizer")


def without_marks(trace: Path, folder: Path) -> Path:
    """The trace as a tool would write it that marks nothing."""
    with gzip.open(trace, "rt", encoding="utf-8", errors="replace") as text:
        whole = json.load(text, strict=False, parse_float=str)
    whole["traceEvents"] = [event for event in whole["traceEvents"] if not MARKS.search(str(event.get("name")))]
    plain = folder / "trace.json"
    plain.write_text(re.sub(r'"(ts|dur)": "([\d.]+)"', r'"\1": \2', json.dumps(whole)))
    return plain


def found_and_true(trace: Path, folder: Path) -> tuple[Any, Any]:
    return find_steps(read_kineto(without_marks(trace, folder)), ()), find_steps(read_kineto(trace), ())


def public(name: str) -> Path:
    if not PLACE.exists():
        pytest.skip(f"the public traces are not in {PLACE} (SHARDPROF_TRACES)")
    return PLACE / name


def assert_the_steps_are_the_same(found: Any, true: Any) -> None:
    lengths, true_lengths = (steps.windows[:, 1] - steps.windows[:, 0] for steps in (found, true))
    assert (found.source, len(lengths)) == ("periodicity", len(true_lengths))
    assert np.abs(lengths - true_lengths).max() <= 0.03 * np.median(true_lengths)
    assert 0.5 < found.confidence < true.confidence == 1


@pytest.mark.parametrize("trace", RECORDED, ids=lambda trace: "-".join(trace.parts[-4::2]))
def test_recorded_steps_are_found_without_their_marks(trace: Path, tmp_path: Path) -> None:
    assert_the_steps_are_the_same(*found_and_true(trace, tmp_path))


@pytest.mark.parametrize("name", SEVERAL_STEPS)
def test_public_steps_are_found_without_their_marks(name: str, tmp_path: Path) -> None:
    assert_the_steps_are_the_same(*found_and_true(public(name), tmp_path))


@pytest.mark.parametrize("name", ONE_STEP)
def test_a_single_step_is_not_taken_for_several(name: str, tmp_path: Path) -> None:
    found, _ = found_and_true(public(name), tmp_path)
    assert (found.source, len(found.windows), found.confidence) == ("whole trace", 1, 0)
