"""What a rule looks at: the report so far, and the few questions that rules ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, TypeVar

from shardprof.analysis.result import Collective, Evidence, Finding, KindSummary, Rank, Result, Step, StepsSummary
from shardprof.analysis.rules._exposed import WHOLE_STEP, Exposed
from shardprof.analysis.rules._moving import Communicating
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.volumes.training_settings import TrainingSettings, UnknownError
from shardprof.trace.classes import COMM_KINDS
from shardprof.words import milliseconds

Seen = TypeVar("Seen", bound=Observation)

HIGH, MEDIUM = 0.1, 0.03
TOLD = 0.01
"""Of a step: less waiting than this is not worth a word beside what moves."""
GRADIENT_KINDS = ("reduce_scatter", "all_reduce")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A run that was reported; `steps` is its summary over the captured steps that hold work, `observations` what was
    seen in the traces themselves. `replayed` collects the ranks whose replays were asked for costs."""

    result: Result
    steps: StepsSummary
    observations: tuple[Observation, ...] = ()
    replayed: set[int] = field(default_factory=set)

    @property
    def framework(self) -> str:
        """ "FSDP1", "FSDP2", "DDP", "DeepSpeed", or "" where it is not known."""
        return self.result.source.framework or ""

    @property
    def step_ns(self) -> float:
        """The mean step."""
        return sum(self.steps.groups_ns.values()) / self.steps.count

    @property
    def on_gpu(self) -> bool:
        """Did GPUs do the work?"""
        return any(rank.device == "cuda" for rank in self.result.ranks)

    def setting(self, name: str) -> Any:
        """What the framework was set to; None where that was not recorded."""
        return self.result.source.settings.get(name)

    def number(self, name: str) -> float | None:
        """The same of a number."""
        value = self.setting(name)
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None

    def kinds(self, *wanted: str) -> list[KindSummary]:
        """The communication of these kinds."""
        return [kind for kind in self.steps.kinds if kind.kind in (wanted or COMM_KINDS)]

    def seen(self, kind: type[Seen]) -> list[Seen]:
        """What was observed of one kind, by rank."""
        return [observation for observation in self.observations if isinstance(observation, kind)]

    def exposed(self, *kinds: str, phase: str = WHOLE_STEP) -> list[Exposed]:
        """The communication of these kinds, launched in this phase, that steps wait for."""
        return [seen for seen in self.seen(Exposed) if seen.kind in kinds and seen.phase == phase]

    def cost_ns(self, seen: Sequence[Observation], otherwise_ns: float) -> float:
        """What replaying says that it costs a step: the mean over ranks, summed over subjects. Where nothing was
        replayed, what the steps' times say."""
        costs: dict[str, list[int]] = {}
        for observation in seen:
            if observation.cost_ns is not None:
                costs.setdefault(observation.subject, []).append(observation.cost_ns)
                self.replayed.add(observation.rank)
        return sum(map(fmean, costs.values())) if costs else otherwise_ns

    def longest(self, seen: Sequence[Observation], partition: str, message: str) -> Evidence:
        """The longest single range of what was observed; where nothing was, the worst step of a class."""
        ranges = [evidence for observation in seen for evidence in observation.evidence]
        return replace(max(ranges, key=_range_ns), message=message) if ranges else self.worst(partition, message)

    def full_steps(self) -> Iterator[tuple[Rank, Step]]:
        """Every captured step that holds work, with its rank."""
        for rank in self.result.ranks:
            for step in rank.steps:
                if not step.empty:
                    yield rank, step

    def worst(self, partition: str, message: str) -> Evidence:
        """The step in which a class of the partition took longest, as evidence."""
        rank, step = max(self.full_steps(), key=lambda entry: entry[1].partition_ns.get(partition, 0))
        return Evidence(
            message=message,
            rank=rank.rank,
            step=step.step,
            begin_ns=step.begin_ns,
            end_ns=step.begin_ns + step.wall_ns,
        )

    def severity(self, cost_ns: float | None) -> str:
        """By the share of a step that it costs; what costs memory or soundness rather than time is "medium"."""
        if cost_ns is None:
            return "medium"
        share = cost_ns / self.step_ns
        return "high" if share >= HIGH else "medium" if share >= MEDIUM else "low"

    def finding(self, rule: str, title: str, evidence: list[Evidence], cost_ns: float | None, turn: Turn) -> Finding:
        """A Finding of this case."""
        return Finding(
            rule=rule,
            severity=self.severity(cost_ns),
            title=title,
            evidence=tuple(evidence),
            cost_ns_per_step=None if cost_ns is None else round(cost_ns),
            advice=turn.advice,
            knob=turn.knob,
            side_effect=turn.side_effect,
            disproof=turn.disproof,
        )

    @property
    def trained_elements(self) -> float | None:
        """How many elements have gradients; where that is not known, those of all parameters."""
        try:
            return TrainingSettings(self.result.source.settings).trained_elements
        except UnknownError:
            return self.number("parameters")

    @property
    def is_one_dimensional(self) -> bool:
        """Do all ranks of the job share and replicate the model, so that no other parallelism communicates beside? By
        the settings; where these do not tell, all of them communicate in one group."""
        settings, world_size = TrainingSettings(self.result.source.settings), self.result.source.world_size
        try:
            return settings.shards * settings.replicas == world_size
        except UnknownError:
            return {row.group_size for row in self.result.collectives} == {world_size}

    def mean_of_ranks(self, seen: Sequence[Seen], measured: Callable[[Seen], float]) -> float:
        """What was observed on ranks, in the mean over all of them: 0 where it was not observed."""
        by_rank: dict[int, list[float]] = {}
        for observation in seen:
            by_rank.setdefault(observation.rank, []).append(measured(observation))
        return sum(map(fmean, by_rank.values())) / len({rank.rank for rank, _ in self.full_steps()})

    def waiting_ns(self, *kinds: str) -> float:
        """What replaying says that a step waits for these kinds of communication to move their bytes: without what it
        waits for ranks that come late, which moving less would not win."""
        return self.cost_ns(self.exposed(*kinds), self.moving_ns(*kinds))

    def moving_ns(self, *kinds: str) -> float:
        """The same by the steps' times; of all kinds where none are named."""
        exposed_ns = sum(kind.exposed_ns for kind in self.kinds(*kinds)) / self.steps.count
        return min(sum(map(self._moving_ns, self.kinds(*kinds))), exposed_ns)

    def _moving_ns(self, kind: KindSummary) -> float:
        seen = self.exposed(kind.kind)
        if seen:
            return self.mean_of_ranks(seen, lambda one: one.moving_ns)
        rows = [row for row in self.result.collectives if row.kind == kind.kind]
        return kind.exposed_ns / self.steps.count * _moving_share(rows)

    def beside_waiting(self, seen: Sequence[Communicating]) -> str:
        """What is to be said after a time without waiting for late ranks, where there is much of that beside it."""
        waited_ns = self.mean_of_ranks(seen, lambda one: one.exposed_ns - one.moving_ns)
        return f" beside {milliseconds(waited_ns)} that wait for late ranks" if waited_ns >= TOLD * self.step_ns else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Which knob to turn: what to do, the exact setting, its price, and what would show that it is not this."""

    advice: str
    knob: str
    side_effect: str
    disproof: str


def _range_ns(evidence: Evidence) -> int:
    return (evidence.end_ns or 0) - (evidence.begin_ns or 0)


def _moving_share(rows: Sequence[Collective]) -> float:
    """The share of their time that collectives move bytes rather than wait for the last rank to come; 1 where the
    traces do not tell."""
    moving_ns = sum(row.transfer_ns for row in rows if row.transfer_ns is not None)
    waiting_ns = sum(row.wait_ns for row in rows if row.wait_ns is not None)
    return moving_ns / (moving_ns + waiting_ns) if moving_ns + waiting_ns else 1.0


def said(message: str) -> Evidence:
    """Evidence that is of the whole run."""
    return Evidence(message=message, rank=None, step=None, begin_ns=None, end_ns=None)


def of_framework(knobs: Mapping[str, str], case: Case) -> str:
    """The knob of the framework that the run uses; all of them where that is not known."""
    if case.framework in knobs:
        return knobs[case.framework]
    return "; ".join(f"{framework}: {knob}" for framework, knob in knobs.items())
