"""What a step communicates beside what its strategy needs and what its implementation is known to move; the same of
the memory that model states take. For runs whose settings were recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from shardprof.analysis.result import (
    Collective,
    ModelState,
    Result,
    StepsSummary,
    Volume,
    Volumes,
    sum_if_all_known,
)
from shardprof.analysis.volumes.model_states import PARTS, expected_states
from shardprof.analysis.volumes.strategy_traffic import Passes, Traffic, expected, theory
from shardprof.analysis.volumes.training_settings import TrainingSettings, UnknownError
from shardprof.analysis.volumes.volume_reasons import NOTABLE, reasons
from shardprof.trace.classes import COMM_KINDS, wire_factor

T = TypeVar("T")


def volumes(result: Result) -> Volumes | None:
    """The volumes of a summarised Result; None where its settings tell none, or one rank trained alone."""
    settings = TrainingSettings(result.source.settings)
    ranks = _or_none(lambda: settings.shards * settings.replicas)
    if ranks is None or ranks < 2 or settings.get("gradient_bytes") is None:
        return None
    # Where the job has more ranks than that, other dimensions of parallelism communicate too: nobody knows how much.
    is_alone = ranks == (result.source.world_size or ranks)
    steps = result.summary.steps if result.summary and is_alone else None
    scattered_as = _scattered_as(settings, result.collectives)
    passes = _passes(settings, steps)
    needed = _or_none(lambda: theory(settings, passes.micro_batches)) if passes else None
    known = _or_none(lambda: expected(settings, passes, scattered_as)) if passes else None
    measured = _measured(steps, result.collectives) if steps else None
    total = _total(needed, known, measured)
    return Volumes(
        micro_batches=passes.micro_batches if passes else None,
        reductions=passes.reductions if passes else None,
        kinds=_rows(needed, known, measured),
        total=total,
        reasons=reasons(settings, total, passes, scattered_as) if passes else (),
        model_states=_model_states(settings),
    )


def _passes(settings: TrainingSettings, steps: StepsSummary | None) -> Passes | None:
    """The micro-batches of a step: DeepSpeed tells them, with FSDP its units are counted, with DDP its bytes."""
    if settings.zero_stage is not None:
        told = settings.get("gradient_accumulation_steps")
        return Passes(micro_batches=told, reductions=told if settings.zero_stage >= 2 else 1) if told else None
    if steps is None:
        return None
    calls = {kind.kind: kind.calls / steps.count for kind in steps.kinds}
    if settings.is_replicated:
        moved = {kind.kind: (kind.payload_bytes or 0) / steps.count for kind in steps.kinds}
        reductions = _times(moved.get("all_reduce"), settings.get("reduce_bytes"))
        return Passes(micro_batches=reductions, reductions=reductions) if reductions else None
    gathers = (settings.get("units") or 0) + (settings.get("units_gathered_again") or 0)
    micro_batches = _times(calls.get("all_gather"), gathers)
    reductions = _times(calls.get("reduce_scatter"), settings.get("units_reduced"))
    return Passes(micro_batches=micro_batches, reductions=reductions) if micro_batches and reductions else None


def _times(whole: float | None, part: int | None) -> int | None:
    """How often a part is in the whole, where that is a whole number, nearly."""
    if not whole or not part:
        return None
    times = round(whole / part)
    return times if times and abs(whole / part / times - 1) <= NOTABLE else None


def _scattered_as(settings: TrainingSettings, collectives: Sequence[Collective]) -> str:
    """How a reduce-scatter is really sent: gloo sends an all-reduce of its whole input."""
    per_payload = _wire_per_payload(collectives).get("reduce_scatter", 0.0)
    is_whole = per_payload > 1.5 * wire_factor("reduce_scatter", settings.shards)
    return "all_reduce" if is_whole else "reduce_scatter"


def _wire_per_payload(collectives: Sequence[Collective]) -> dict[str, float]:
    """What a rank sends for a byte of payload, by kind; kinds of which a size or group is unknown are left out."""
    factors = {}
    for kind in {row.kind for row in collectives}:
        rows = [row for row in collectives if row.kind == kind]
        # A group's row stands for what each of its ranks did.
        payload = sum_if_all_known([_of_ranks(row, row.payload_bytes) for row in rows])
        wire = sum_if_all_known([_of_ranks(row, row.wire_bytes) for row in rows])
        if payload and wire is not None:
            factors[kind] = wire / payload
    return factors


def _of_ranks(row: Collective, size_bytes: int | None) -> int | None:
    return None if size_bytes is None else size_bytes * (len(row.ranks or ()) or row.group_size or 1)


def _measured(steps: StepsSummary, collectives: Sequence[Collective]) -> dict[str, float | None]:
    """What a rank sends in a step, on average; None where that is not known of a kind."""
    factors = _wire_per_payload(collectives)
    payload = {kind.kind: kind.payload_bytes for kind in steps.kinds if kind.calls}
    return {
        kind: 0.0 if size == 0 else None if size is None or kind not in factors else size * factors[kind] / steps.count
        for kind, size in payload.items()
    }


def _rows(
    needed: Traffic | None, known: Traffic | None, measured: Mapping[str, float | None] | None
) -> tuple[Volume, ...]:
    """A row a kind that is needed, expected or measured; what a source that is there does not name is 0."""
    sources: list[Mapping[str, float | None]] = [source for source in (needed, known, measured) if source is not None]
    kinds = [kind for kind in COMM_KINDS if any(kind in source for source in sources)]

    def of(source: Mapping[str, float | None] | None, kind: str) -> float | None:
        return None if source is None else source.get(kind, 0.0)

    return tuple(_volume(kind, of(needed, kind), of(known, kind), of(measured, kind)) for kind in kinds)


def _total(needed: Traffic | None, known: Traffic | None, measured: Mapping[str, float | None] | None) -> Volume:
    def total(source: Mapping[str, float | None] | None) -> float | None:
        sizes = [] if source is None else [size for size in source.values() if size is not None]
        return sum(sizes) if source is not None and len(sizes) == len(source) else None

    return _volume("total", total(needed), total(known), total(measured))


def _volume(kind: str, needed: float | None, known: float | None, measured: float | None) -> Volume:
    return Volume(
        kind=kind,
        theory_bytes=None if needed is None else round(needed),
        expected_bytes=None if known is None else round(known),
        measured_bytes=None if measured is None else round(measured),
        measured_per_theory=_ratio(measured, needed),
        measured_per_expected=_ratio(measured, known),
    )


def _ratio(measured: float | None, reference: float | None) -> float | None:
    return measured / reference if measured is not None and reference else None


def _model_states(settings: TrainingSettings) -> tuple[ModelState, ...]:
    known, held = expected_states(settings), settings.state_bytes
    return tuple(
        ModelState(part=part, expected_bytes=known[part], measured_bytes=held.get(part))
        for part in PARTS
        if known[part] or held.get(part)
    )


def _or_none(compute: Callable[[], T]) -> T | None:
    try:
        return compute()
    except UnknownError:
        return None
