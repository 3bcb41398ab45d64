"""What a strategy would do on the machines: whether it fits, what it sends, and how long a step may take.

A *case* is one way in which what is shared by all strategies may turn out: how long a step computes, how fast the links
are. Inside a case a strategy has a best and a worst time; what it hides and, of ZeRO-3, what it gathers again differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from shardprof.study.advice.question import NETWORK_EFFICIENCY, OVERLAP, Question, Range
from shardprof.study.advice.traffic import BACKWARD, FORWARD, Traffic, Transfer, traffic
from shardprof.study.bench.cells import AS_SHIPPED, TUNED, Cell
from shardprof.study.bench.expected_settings import zero_stage
from shardprof.study.bench.fit import Fit, fit
from shardprof.study.bench.tuning import tuned
from shardprof.study.knobs import Knobs
from shardprof.study.model_sizes import ModelFacts

_FORWARD_SHARE = 1 / 3
_NETWORK_TIMES = (0.25, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Seconds that a step computes, and bytes a second inside and between nodes that collectives reach."""

    computes_s: float
    link_bytes_per_s: float
    fabric_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A strategy's. `inside_bytes` and `between_bytes` are what a rank sends a step inside its node and to others;
    `network_s` is how long that takes, `can_hide` the share that may run under compute, which needs `hides_from_s` of
    compute a step. `times_s` are its best and worst step in each case, `measured` where a study told them; `step_s` is
    None where nobody told how long a step computes. `most_tokens` are those of a rank and step that fit.
    """

    strategy: str
    knobs: str
    checkpointing: bool
    fit: Fit
    most_tokens: int
    inside_bytes: float
    between_bytes: float
    network_s: Range
    can_hide: float
    hides_from_s: float
    step_s: Range | None
    times_s: tuple[Range, ...]
    measured: bool

    @property
    def is_deepspeed(self) -> bool:
        """Or else of PyTorch."""
        return zero_stage(self.strategy) is not None

    @property
    def family(self) -> str:
        """What of its overlap is like that of others."""
        return overlap_of(self.strategy)


def overlap_of(strategy: str) -> str:
    """The key of OVERLAP."""
    return {None: "torch", 3: "zero3"}.get(zero_stage(strategy), "zero")


def candidates(question: Question) -> tuple[Cell, ...]:
    """Each strategy with and without checkpointing; hybrid sharding where it is neither full sharding nor DDP."""
    names = ["ddp", "fsdp2-full", "fsdp2-grad-op", "zero0", "zero1", "zero2", "zero3"]
    if question.nodes > 1 and question.gpus_per_node > 1:
        names.insert(3, "fsdp2-hybrid")
    told = [(name, AS_SHIPPED) for name in names]
    told += [(name, TUNED) for name in ("zero1", "zero2", "zero3")]
    return tuple(
        Cell(
            strategy=strategy,
            knobs=knobs,
            precision=question.precision,
            checkpointing=checkpointing,
            batch_size=question.tokens or 0,
            accumulation=1,
            model="",
            ranks=question.ranks,
            nodes=question.nodes,
        )
        for strategy, knobs in told
        for checkpointing in (False, True)
    )


def outlooks(question: Question) -> list[Outlook]:
    """Of all candidates, their times in the same cases."""
    cells = candidates(question)
    moved = [traffic(cell, _knobs(cell, question), question.facts(checkpointing=False)) for cell in cells]
    every = _cases(question, moved)
    return [_outlook(question, cell, each, every) for cell, each in zip(cells, moved, strict=True)]


def _knobs(cell: Cell, question: Question) -> Knobs:
    return tuned(cell.strategy, question.parameters, cell.accumulation) if cell.knobs == TUNED else Knobs()


def _cases(question: Question, moved: Sequence[Traffic]) -> tuple[Case, ...]:
    """All combinations of the ends of what is not known. How long a step computes, if nobody told it: a quarter of what
    the network takes to as much, where the network matters."""
    links, fabric = question.link.ends, question.fabric_bytes_per_s or 0.0
    reached = [(link * e, fabric * e) for link in links for e in NETWORK_EFFICIENCY.ends]
    known = question.computes_s
    if known is not None:
        computes = known.ends
    else:
        slow = Case(computes_s=0.0, link_bytes_per_s=reached[0][0], fabric_bytes_per_s=reached[0][1])
        longest = max(network_s(each.most, question, slow) for each in moved)
        computes = tuple(times * longest for times in _NETWORK_TIMES)
    return tuple(
        Case(computes_s=seconds, link_bytes_per_s=link, fabric_bytes_per_s=between)
        for seconds, (link, between) in itertools.product(computes, reached)
    )


def _outlook(question: Question, cell: Cell, moved: Traffic, every: Sequence[Case]) -> Outlook:
    facts = question.facts(checkpointing=cell.checkpointing)
    computed_again = facts.executed_flops_per_sample / facts.flops_per_sample
    held = fit(cell, _knobs(cell, question), facts, question.memory_bytes, "cuda")
    key = (cell.strategy, cell.knobs == TUNED)
    measured, memory = question.calibration.time.get(key), question.calibration.memory.get(key)
    held = held.scaled(memory.high) if memory else held
    room = held.room_bytes or 0
    times = tuple(_calibrated(_time(question, cell, moved, case, computed_again), measured) for case in every)
    network = [network_s(transfers, question, case) for case in every for transfers in (moved.least, moved.most)]
    between = sum(t.between_bytes(question.nodes, question.gpus_per_node) for t in moved.most)
    return Outlook(
        strategy=cell.strategy,
        knobs=cell.knobs,
        checkpointing=cell.checkpointing,
        fit=held,
        most_tokens=max(0, room) // facts.activation_bytes_per_sample,
        inside_bytes=moved.sent_bytes - between,
        between_bytes=between,
        network_s=Range(min(network), max(network)),
        can_hide=sum(t.sent_bytes * t.can_hide for t in moved.most) / moved.sent_bytes,
        hides_from_s=max(_hides_from_s(question, moved, case) for case in every),
        step_s=None if question.computes_s is None else Range(min(t.low for t in times), max(t.high for t in times)),
        times_s=times,
        measured=measured is not None,
    )


def network_s(transfers: Sequence[Transfer], question: Question, case: Case) -> float:
    """How long the transfers take one after the other."""
    return sum(_seconds(transfer, question, case) for transfer in transfers)


def _seconds(transfer: Transfer, question: Question, case: Case) -> float:
    """The slowest link that it goes over says how long it takes."""
    between = transfer.between_bytes(question.nodes, question.gpus_per_node) * question.gpus_per_node
    inside_s = transfer.sent_bytes / case.link_bytes_per_s if transfer.inside and question.gpus_per_node > 1 else 0.0
    return max(inside_s, between / case.fabric_bytes_per_s if between else 0.0)


def step_range(question: Question, cell: Cell, knobs: Knobs, facts: ModelFacts, case: Case) -> Range:
    """The best and the worst step of a cell in a case, of which the time that it computes has all that is computed."""
    return _time(question, cell, traffic(cell, knobs, facts), case, computed_again=1.0)


def _time(question: Question, cell: Cell, moved: Traffic, case: Case, computed_again: float) -> Range:
    overlap = OVERLAP[overlap_of(cell.strategy)]
    computes_s = case.computes_s * computed_again
    forward_s = case.computes_s * _FORWARD_SHARE
    windows = {FORWARD: forward_s, BACKWARD: computes_s - forward_s}
    best, worst = (
        computes_s + _exposed_s(transfers, windows, share, question, case)
        for transfers, share in ((moved.least, overlap.high), (moved.most, overlap.low))
    )
    return Range(best, worst)


def _exposed_s(
    transfers: Sequence[Transfer], windows: dict[str, float], share: float, question: Question, case: Case
) -> float:
    """What a step waits for: what does not hide, `share` of what can being hidden as far as compute lasts."""
    hideable = dict.fromkeys(windows, 0.0)
    for transfer in transfers:
        if transfer.can_hide:
            hideable[transfer.phase] += share * transfer.can_hide * _seconds(transfer, question, case)
    hidden = sum(min(hideable[phase], windows[phase]) for phase in windows)
    return network_s(transfers, question, case) - hidden


def _hides_from_s(question: Question, moved: Traffic, case: Case) -> float:
    """From how much compute a step on all that can hide does, if as much hides as can."""
    needs = {FORWARD: 0.0, BACKWARD: 0.0}
    for transfer in moved.most:
        if transfer.can_hide:
            needs[transfer.phase] += transfer.can_hide * _seconds(transfer, question, case)
    return max(needs[FORWARD] / _FORWARD_SHARE, needs[BACKWARD] / (1 - _FORWARD_SHARE))


def _calibrated(time_s: Range, measured: Range | None) -> Range:
    """A time that a study tells: its middle by what was measured over it."""
    return Range(time_s.middle * measured.low, time_s.middle * measured.high) if measured else time_s
