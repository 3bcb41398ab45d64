"""What the counters of a node explain: what each captured step met, and what went wrong while steps ran.

`step_counters` gives the figures of one step of one rank; `notices` finds what stands out over the whole run: a clock
that dropped, a node that swaps, threads without end, ranks that wait for a CPU, errors of a GPU or a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shardprof.analysis.result import Notice
from shardprof.trace.counters import Counters, Float64s, Int64s, Series
from shardprof.trace.schema import HostRecord, RankRecord, StepRecord
from shardprof.words import numbers, plural

LOW_CLOCK = 0.9
BUSY_PERCENT = 50
SWAP_BYTES_PER_S = 1e6
FAULTS_PER_S = 100
THREADS_GROWN = 2
FEWEST_THREADS = 64
WAITING_SHARE = 0.1
LOW_MEMORY = 0.05
DROPS = 100
SAMPLES_APART_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class StepTimes:
    """When the steps of a rank began and ended, and how often torch's allocator had run short by then."""

    numbers: Int64s
    begins_ns: Int64s
    ends_ns: Int64s
    alloc_retries: Int64s

    @staticmethod
    def of(steps: Sequence[StepRecord]) -> StepTimes:
        """The times of a rank's records: of days of them, only these are kept."""
        columns = [(s.step, s.begin_ns, s.end_ns, s.cuda_memory.get("alloc_retries", 0)) for s in steps]
        return StepTimes(*np.array(columns, dtype=np.int64).reshape(-1, 4).T)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRank:
    """A rank of a node: its record, its steps, and the counters' name for its GPU (None: it has none)."""

    record: RankRecord
    steps: StepTimes
    gpu: str | None

    @property
    def subject(self) -> str:
        """The counters' name for its process."""
        return f"rank {self.record.rank}"

    @property
    def span_ns(self) -> tuple[int, int] | None:
        """From the begin of its second step, by when it has started up, to the end of its last."""
        begins, ends = self.steps.begins_ns, self.steps.ends_ns
        return (int(begins[1]), int(ends[-1])) if len(begins) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as its recorder saw it."""

    record: HostRecord
    counters: Counters
    ranks: Sequence[NodeRank]


@dataclass(frozen=True, slots=True)
class _Ill:
    """What a rank met, how bad it is beside other ranks, and when."""

    badness: float
    message: str
    begin_ns: int
    end_ns: int


def step_counters(counters: Counters, rank: NodeRank, begins_ns: Int64s, ends_ns: Int64s) -> dict[str, Float64s]:
    """What steps met, by counter: the means of a state, the increases of a total; of the GPU with "gpu_" before it.

    NaN where the samples do not reach around a step.
    """
    of_gpu = counters.over(rank.gpu, begins_ns, ends_ns) if rank.gpu else {}
    return counters.over(rank.subject, begins_ns, ends_ns) | {f"gpu_{name}": told for name, told in of_gpu.items()}


def notices(node: Node) -> list[Notice]:
    """What stands out on a node, over all that was recorded of it."""
    return [notice for rule in _RULES for notice in rule(node)]


def _low_clock(node: Node, rank: NodeRank) -> _Ill | None:
    """The clock of a GPU that works, below what it reached while it worked."""
    series = node.counters.series.get(rank.gpu or "", {})
    if rank.span_ns is None or "sm_clock_mhz" not in series:
        return None
    clock = series["sm_clock_mhz"]
    works = _inside(clock, rank.span_ns) & _works(clock, series.get("utilization_percent"))
    usual_mhz = float(np.percentile(clock.values[works], 95)) if works.any() else 0.0
    low = _stretches(works & (clock.values < LOW_CLOCK * usual_mhz))
    if not low:
        return None
    spans = [(int(clock.times_ns[begin]), int(clock.times_ns[end])) for begin, end in low]
    seconds = sum(end_ns - begin_ns for begin_ns, end_ns in spans) / 1e9
    least_mhz = min(clock.values[begin : end + 1].min() for begin, end in low)
    message = (
        f"{rank.gpu} ({rank.subject}) ran at down to {least_mhz:,.0f} MHz for {seconds:,.1f} s, "
        f"at {usual_mhz:,.0f} otherwise{_reasons(node, rank, spans)}"
    )
    return _Ill(seconds, message, spans[0][0], spans[-1][1])


def _reasons(node: Node, rank: NodeRank, spans_ns: Sequence[tuple[int, int]]) -> str:
    """What NVML says of it meanwhile, or at the sample before."""
    reasons = {
        event.text
        for event in node.counters.events
        if event.subject == rank.gpu and event.text.startswith("throttled")
        for begin_ns, end_ns in spans_ns
        if begin_ns - SAMPLES_APART_NS <= event.time_ns <= end_ns
    }
    return f": {'; '.join(sorted(reasons))}" if reasons else ""


def _swapping(node: Node) -> Iterator[Notice]:
    series = node.counters.series.get("node", {})
    for name, words in (("swap_in_bytes", "read from"), ("swap_out_bytes", "written to")):
        if name in series and (span := _span_above(series[name], SWAP_BYTES_PER_S)):
            swapped = series[name].over_one(*span) or 0
            message = f"{node.record.name}: {swapped / 1e6:,.0f} MB were {words} swap"
            yield _notice(node, "swapping", message, node.ranks, *span)


def _page_faults(node: Node, rank: NodeRank) -> _Ill | None:
    faults = node.counters.series.get(rank.subject, {}).get("major_page_faults")
    if not faults or not rank.span_ns or not (span := _span_above(_within(faults, rank.span_ns), FAULTS_PER_S)):
        return None
    count = faults.over_one(*span) or 0
    return _Ill(count, f"{rank.subject}: {count:,.0f} page faults that had to read from storage", *span)


def _threads(node: Node, rank: NodeRank) -> _Ill | None:
    series = node.counters.series.get(rank.subject, {}).get("threads")
    if series is None or rank.span_ns is None or not len(inside := _within(series, rank.span_ns).values):
        return None
    first, most = float(inside[0]), float(inside.max())
    if most < max(FEWEST_THREADS, THREADS_GROWN * first):
        return None
    return _Ill(most, f"{rank.subject}: its threads grew from {first:,.0f} to {most:,.0f}", *rank.span_ns)


def _waiting_for_cpu(node: Node, rank: NodeRank) -> _Ill | None:
    waited = node.counters.series.get(rank.subject, {}).get("main_thread_waiting_s")
    if waited is None or not len(waited.times_ns) or rank.span_ns is None:
        return None
    begin_ns = max(rank.span_ns[0], int(waited.times_ns[0]))
    end_ns = min(rank.span_ns[1], int(waited.times_ns[-1]))
    share = (waited.over_one(begin_ns, end_ns) or 0) * 1e9 / (end_ns - begin_ns) if begin_ns < end_ns else 0
    if share < WAITING_SHARE:
        return None
    message = f"{rank.subject}: its main thread waited for a CPU {share:.0%} of the time".replace("%", " %")
    return _Ill(share, message, begin_ns, end_ns)


def _low_memory(node: Node) -> Iterator[Notice]:
    available = node.counters.series.get("node", {}).get("memory_available_bytes")
    if available is None:
        return
    for begin, end in _stretches(available.values < LOW_MEMORY * node.record.memory_bytes):
        least = available.values[begin : end + 1].min()
        message = (
            f"{node.record.name}: only {least / 1e9:.1f} of {node.record.memory_bytes / 1e9:.0f} GB of memory were left"
        )
        yield _notice(
            node, "memory_low", message, node.ranks, int(available.times_ns[begin]), int(available.times_ns[end])
        )


def _network(node: Node) -> Iterator[Notice]:
    for subject, series in node.counters.series.items():
        for name, least in (("tx_errors", 1), ("rx_errors", 1), ("tx_drops", DROPS), ("rx_drops", DROPS)):
            if name in series and (count := series[name].values[-1] - series[name].values[0]) >= least:
                message = f"{node.record.name}, {subject}: {count:,.0f} {name.replace('_', ' ')} on the network"
                times = series[name].times_ns
                yield _notice(node, "network_errors", message, node.ranks, int(times[0]), int(times[-1]))


def _gpu_errors(node: Node) -> Iterator[Notice]:
    for event in node.counters.events:
        if event.text.startswith(("xid", "gpu lost")):
            ranks = [rank for rank in node.ranks if rank.gpu == event.subject]
            message = f"{node.record.name}, {event.subject}: {event.text}"
            yield _notice(node, "gpu_error", message, ranks, event.time_ns, event.time_ns)


def _allocator(_node: Node, rank: NodeRank) -> _Ill | None:
    """torch frees all that it caches and asks again: each time the GPU waits."""
    more = np.flatnonzero(np.diff(rank.steps.alloc_retries) > 0) + 1
    if not len(more):
        return None
    message = f"{rank.subject}: torch ran out of GPU memory and freed its cache in {plural(len(more), 'step')}"
    return _Ill(len(more), message, int(rank.steps.begins_ns[more[0]]), int(rank.steps.ends_ns[more[-1]]))


def _each_rank(code: str, rule: Callable[[Node, NodeRank], _Ill | None]) -> Callable[[Node], Iterator[Notice]]:
    """One notice for all ranks of a node: what the one that it met worst shows, and who else met it."""

    def rule_of_node(node: Node) -> Iterator[Notice]:
        ill = {rank.record.rank: (rank, found) for rank in node.ranks if (found := rule(node, rank))}
        if not ill:
            return
        worst = max(ill, key=lambda rank: ill[rank][1].badness)
        others = [rank for rank in ill if rank != worst]
        also = f"; rank{'s' if len(others) > 1 else ''} {numbers(others)} too" if others else ""
        begin_ns = min(found.begin_ns for _, found in ill.values())
        end_ns = max(found.end_ns for _, found in ill.values())
        yield _notice(node, code, ill[worst][1].message + also, [rank for rank, _ in ill.values()], begin_ns, end_ns)

    return rule_of_node


_RULES: tuple[Callable[[Node], Iterator[Notice]], ...] = (
    _gpu_errors,
    _each_rank("clock_low", _low_clock),
    _each_rank("allocator_retries", _allocator),
    _swapping,
    _each_rank("page_faults", _page_faults),
    _low_memory,
    _each_rank("threads", _threads),
    _each_rank("cpu_wait", _waiting_for_cpu),
    _network,
)


def _notice(node: Node, code: str, message: str, ranks: Sequence[NodeRank], begin_ns: int, end_ns: int) -> Notice:
    return Notice(
        code=code,
        message=message,
        host=node.record.name,
        ranks=tuple(rank.record.rank for rank in ranks),
        begin_ns=begin_ns,
        end_ns=end_ns,
        steps=_steps_between(ranks, begin_ns, end_ns),
    )


def _steps_between(ranks: Sequence[NodeRank], begin_ns: int, end_ns: int) -> tuple[int, int] | None:
    """The first and the last step that any of the ranks was in meanwhile."""
    times = [rank.steps for rank in ranks]
    numbers = [t.numbers[(t.begins_ns <= end_ns) & (t.ends_ns > begin_ns)] for t in times]
    met = np.concatenate(numbers) if numbers else np.array([], dtype=np.int64)
    return (int(met.min()), int(met.max())) if len(met) else None


def _inside(series: Series, span_ns: tuple[int, int]) -> npt.NDArray[np.bool_]:
    return (series.times_ns >= span_ns[0]) & (series.times_ns <= span_ns[1])


def _within(series: Series, span_ns: tuple[int, int]) -> Series:
    inside = _inside(series, span_ns)
    return Series(series.name, series.times_ns[inside], series.values[inside])


def _works(clock: Series, utilization: Series | None) -> npt.NDArray[np.bool_]:
    """Which samples of the clock are of a GPU that works; all, where that is not known."""
    if utilization is None or len(utilization.times_ns) != len(clock.times_ns):
        return np.ones(len(clock.times_ns), dtype=np.bool_)
    return utilization.values >= BUSY_PERCENT


def _stretches(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of every run of at least two samples."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(begin), int(end) - 1) for begin, end in edges.reshape(-1, 2) if end - begin >= 2]


def _span_above(series: Series, rate: float) -> tuple[int, int] | None:
    """From the first to the last time at which a total grew faster than this a second; None where it never did."""
    above = np.flatnonzero(series.rates() > rate)
    return (int(series.times_ns[above[0]]), int(series.times_ns[above[-1] + 1])) if len(above) else None
