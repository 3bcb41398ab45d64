"""The volumes of a training as sentences: what it moves beside what its strategy needs, what its model states take."""

from __future__ import annotations

from shardprof.analysis.result import Result, Source, Volumes
from shardprof.trace.classes import class_name
from shardprof.words import enumeration, size

_AS_MUCH = 0.02


def strategy_words(source: Source) -> str:
    """The strategy as people call it, with its framework where that does not go without saying: "FSDP2 full shard"."""
    strategy, framework = str(source.settings.get("strategy") or ""), source.framework or ""
    return strategy if strategy.startswith(framework) else f"{framework} {strategy}".strip()


def volume_words(result: Result) -> tuple[str, ...]:
    """A line for what is moved and one for what is held, each where it is known."""
    volumes = result.volumes
    if volumes is None:
        return ()
    return tuple(line for line in (_moved(volumes, strategy_words(result.source)), _held(volumes)) if line)


def _moved(volumes: Volumes, strategy: str) -> str:
    total = volumes.total
    ratio = total.measured_per_theory
    if ratio is None or total.measured_bytes is None or total.theory_bytes is None:
        return ""
    if abs(ratio - 1) <= _AS_MUCH:
        words = f"moves what {strategy} needs, {size(total.measured_bytes)} a rank and step"
    else:
        sizes = f"{size(total.measured_bytes)} a rank and step instead of {size(total.theory_bytes)}"
        words = f"moves {ratio:.2f}x what {strategy} needs ({sizes})"
    return words + (f": {'; '.join(volumes.reasons)}" if volumes.reasons else "")


def _held(volumes: Volumes) -> str:
    """What the model states take on a rank: as measured or, of what is freed when that is done, by formula."""
    parts = []
    for state in volumes.model_states:
        known = state.expected_bytes if state.measured_bytes is None else state.measured_bytes
        parts += [f"{class_name(state.part)} {size(known)}"] if known else []
    return f"model states on a rank: {enumeration(parts)}" if parts else ""
