"""What rules see of a trace, and what a replayed step says that it costs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shardprof.analysis.rules import with_findings
from shardprof.analysis.rules._observing import MOST_RANKS_REPLAYED, Observation, Observer
from shardprof.analysis.rules._view import View
from shardprof.analysis.rules.host_sync import Synchronizing
from shardprof.trace.importers.kineto import read_kineto
from shardprof.trace.quality import Quality
from shardprof.trace.steps import find_steps
from tests.conftest import BASE_NS, Trace
from tests.unit import builders
from tests.unit.builders import result, step

US = 1_000


def sleeping(step_us: int = 1000, sleep_us: int = 300) -> Trace:
    """Three steps on a CPU that sleep in an operator of their own between others."""
    trace = Trace()
    for number in range(3):
        begin = number * step_us * US
        trace.step(number + 4, begin, begin + step_us * US)
        trace.event("aten::mm", begin + 100 * US, begin + 300 * US)
        trace.event("mine::sleep", begin + 300 * US, begin + (300 + sleep_us) * US)
    return trace


def view(trace: Trace, path: Path, rank: int = 0) -> View:
    read = read_kineto(trace.write(path / f"rank{rank}.json"))
    assert read.activities is not None
    return View(rank=rank, trace=read, activities=read.activities, steps=find_steps(read, ()))


def sleeps(seen: View) -> Iterator[Observation]:
    rows = seen.rows(seen.events.named("mine::sleep".__eq__))
    yield Observation(rank=seen.rank, evidence=(seen.at(int(rows[0]), "here"),), rows=seen.in_sample(rows))


def test_a_cost_is_what_the_step_would_be_shorter(tmp_path: Path) -> None:
    observer = Observer([sleeps])
    observer.take(view(sleeping(), tmp_path))
    (seen,) = observer.seen
    assert seen.cost_ns == pytest.approx(300 * US, abs=1 * US)
    assert len(seen.rows) == 0, "the trace can go"


def test_evidence_is_an_event_with_its_step_in_epoch_time(tmp_path: Path) -> None:
    observer = Observer([sleeps])
    observer.take(view(sleeping(), tmp_path, rank=3))
    (evidence,) = observer.seen[0].evidence
    assert (evidence.rank, evidence.step) == (3, 4)
    assert evidence.begin_ns == BASE_NS + 300 * US
    assert evidence.end_ns == BASE_NS + 600 * US


def test_only_some_ranks_are_replayed(tmp_path: Path) -> None:
    observer = Observer([sleeps])
    for rank in range(4):
        observer.take(view(sleeping(), tmp_path, rank))
    costs = [seen.cost_ns for seen in observer.seen]
    assert [cost is not None for cost in costs] == [rank < MOST_RANKS_REPLAYED for rank in range(4)]


def test_costs_of_a_step_that_does_not_replay_are_doubted(tmp_path: Path) -> None:
    """The GPU is idle for most of the step, though all it does was launched at the step's begin."""
    trace = Trace()
    for number in range(3):
        begin = number * 1000 * US
        trace.step(number, begin, begin + 1000 * US)
        for i, at_us in enumerate((20, 71, 122, 173, 720)):
            correlation = 5 * number + i + 1
            trace.launch(correlation, begin + (10 + i) * US)
            trace.kernel("gemm", begin + at_us * US, begin + (at_us + 50) * US, correlation=correlation)
        trace.event(
            "cudaDeviceSynchronize", begin + 20 * US, begin + 780 * US, cat="cuda_runtime", correlation=90 + number
        )
    seen = view(trace, tmp_path)

    def kernels(of: View) -> Iterator[Observation]:
        yield Observation(rank=0, rows=of.in_sample(of.rows(of.events.in_categories("kernel"))))

    observer = Observer([kernels])
    observer.take(seen)
    assert seen.replay_error > 0.05
    assert [doubt.code for doubt in observer.doubts.values()] == ["costs_not_trusted"]
    unasked = Observer([])
    unasked.take(seen)
    assert unasked.doubts == {}, "nothing was said of costs"


@pytest.mark.parametrize(("won_ms", "codes"), [(3, ["costs_not_trusted"]), (0, [])])
def test_a_cost_is_doubted_only_where_a_finding_rests_on_it(won_ms: int, codes: list[str]) -> None:
    won_ns = won_ms * 1_000 * US
    call = Synchronizing(rank=0, cost_ns=won_ns, most_ns=won_ns, waited_ns=won_ns, callers="aten::item 1x")
    doubts = {rank: Quality(code="costs_not_trusted", message=f"rank {rank}") for rank in (0, 1)}
    made = with_findings(result(builders.rank(0, step(compute=20))), Observer([], [call], doubts), None)
    assert [doubt.code for doubt in made.quality] == codes, "of rank 1 nothing was used"
    assert [finding.rule for finding in made.findings or ()] == (["R29"] if won_ms else [])


def test_what_nothing_computes_under_is_exposed(tmp_path: Path) -> None:
    trace = Trace().step(1, 0, 100 * US).event("aten::mm", 10 * US, 50 * US)
    seen = view(trace, tmp_path)
    beside = np.array([[30 * US, 70 * US]])
    assert seen.a_step_ns(beside) == 40 * US
    assert seen.exposed_ns(beside) == 20 * US
