"""The head of a report: what was studied, how sure its figures are, and the answer in a sentence or two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from shardprof.study.conclusions.criteria import MEMORY, best
from shardprof.study.conclusions.groups import DDP, DEEPSPEED, FSDP, CellTrials, axis_words, family
from shardprof.study.conclusions.hypotheses import runs_on_gpu
from shardprof.study.conclusions.phrases import between, few, ratio
from shardprof.study.conclusions.statistics import differs
from shardprof.study.conclusions.step_times import LEAST_REPEATS
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import Estimate, Head, Situation
from shardprof.words import enumeration

_AXES = ("model", "precision", "checkpointing", "batch_size", "accumulation", "nodes", "ranks", "fabric_bytes_per_s")
_MOST_NAMES = 3
_NO_ANSWER = {
    "none": "No training has ended yet, so there is nothing to compare.",
    "unfinished": "No training finished, so there is nothing to compare.",
    "diverged": "Every training that finished diverged, so there is nothing to compare.",
    "untimed": "No step counts: all are warm-up or captured, so there are no speeds to compare.",
}


def head(study: Study) -> Head:
    """The head of the report of a study."""
    repeats = [len(cell.finished) for cell in study.cells] or [0]
    left = _left(study)
    values = {axis: _values(study, axis) for axis in _AXES}
    names = tuple(dict.fromkeys(cell.name for cell in study.cells))
    return Head(
        studies=tuple(sorted({trial.study for trial in study.trials})),
        trials=dict(Counter(trial.status for trial in study.trials)),
        left=left,
        cells=len(study.cells),
        repeats=(min(repeats), max(repeats)),
        on_gpu=runs_on_gpu(study),
        shared={axis: told[0] for axis, told in values.items() if len(told) == 1 and told[0]},
        varied={"configuration": names} | {axis: told for axis, told in values.items() if len(told) > 1},
        environment=_environment(study),
        hours=sum(trial.seconds for trial in study.trials) / 3600,
        answer=(*_reservations(study, left), *_answer(study)),
        sureness=_sureness(repeats),
    )


def _left(study: Study) -> int:
    """The trainings that are planned and not there."""
    there: dict[tuple[str, float | None, int], int] = Counter(
        (trial.study, trial.fabric_bytes_per_s, trial.planned) for trial in study.trials if trial.planned is not None
    )
    return sum(planned - count for (_, _, planned), count in there.items())


def _values(study: Study, axis: str) -> tuple[str, ...]:
    all_of_them = dict.fromkeys(cell.situation for cell in study.cells)
    situations = sorted(all_of_them, key=lambda situation: getattr(situation, axis) or 0)
    if axis == "fabric_bytes_per_s" and not any(situation.fabric_bytes_per_s for situation in situations):
        return ()
    return tuple(dict.fromkeys(axis_words(situation, axis) for situation in situations))


def _environment(study: Study) -> dict[str, str]:
    """The facts that all trials share."""
    told = [set(trial.environment.items()) for trial in study.trials]
    return dict(sorted(set.intersection(*told))) if told else {}


def _sureness(repeats: Sequence[int]) -> str:
    """What the intervals rest on, by the repeats of the cells."""
    parts = []
    if max(repeats) >= LEAST_REPEATS:
        parts.append("intervals of 95 % are from the medians of the repeats, and of ratios within repeats")
    if min(repeats) < LEAST_REPEATS:
        parts.append(
            f"with fewer than {LEAST_REPEATS} repeats intervals of step times are from drawing steps again: what "
            "differs from run to run is not in them, so that they are narrower than the truth"
        )
    if LEAST_REPEATS - 1 in repeats:
        parts.append("those of memory are from the repeats, and wide where there are two")
    return "; ".join([*parts, "each interval is right in 95 of 100 cases, so that of many some are wrong"])


def _reservations(study: Study, left: int) -> Iterator[str]:
    """What to know before the answer: what has not run, and what diverged."""
    if left:
        have = "has" if left == 1 else "have"
        yield f"{left:,} of {len(study.trials) + left:,} trainings {have} not run yet: what follows is of the others."
    diverged = dict.fromkeys(cell.name for cell in study.cells if cell.diverged_at is not None)
    if diverged:
        names = enumeration(list(diverged))
        yield f"{names} diverged: the loss is no number, so speed and bytes are compared with nothing."


def _answer(study: Study) -> Iterator[str]:
    """The fastest in each situation, FSDP or DDP against DeepSpeed, and the least memory."""
    timed = [situation for situation in study.situations if study.by_speed(situation)]
    if not timed:
        yield _NO_ANSWER[_why_none(study)]
        return
    yield _fastest(study, timed)
    yield from _rivals(study, timed)
    yield from _least_memory(study, timed)


def _why_none(study: Study) -> str:
    if not study.cells:
        return "none"
    finished = [cell for cell in study.cells if cell.finished]
    if not finished:
        return "unfinished"
    return "untimed" if any(cell.diverged_at is None for cell in finished) else "diverged"


def _fastest(study: Study, situations: Sequence[Situation]) -> str:
    """The leaders of each situation; situations with the same ones together."""
    at: dict[tuple[str, ...], list[Situation]] = {}
    for situation in situations:
        at.setdefault(tuple(_leaders(study, situation)), []).append(situation)
    if len(at) > _MOST_NAMES:
        return _most_often_fastest(study, situations)
    return "; ".join(_leading_words(names) + _where(study, where, situations) for names, where in at.items()) + "."


def _leaders(study: Study, situation: Situation) -> list[str]:
    """The fastest, and those that are not told from it."""
    order = study.by_speed(situation)
    return [cell.name for cell in order if cell is order[0] or not differs(study.time_ratio(cell, order[0]))]


def _leading_words(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"{names[0]} is fastest"
    return f"{few(names)} are fastest and not told apart"


def _where(study: Study, where: Sequence[Situation], situations: Sequence[Situation]) -> str:
    if len(where) == len(situations):
        return "" if len(situations) == 1 else f" in all {len(situations)} situations"
    if len(where) <= _MOST_NAMES:
        return f" at {enumeration([study.words(situation) for situation in where])}"
    return f" in {len(where)} of {len(situations)} situations"


def _most_often_fastest(study: Study, situations: Sequence[Situation]) -> str:
    """Where the leaders are too many to be listed by situation."""
    often = Counter(name for situation in situations for name in _leaders(study, situation)).most_common(_MOST_NAMES)
    told = [f"{name} in {count}" for name, count in often]
    return f"Who is fastest depends: among the fastest are, of {len(situations)} situations, {enumeration(told)}."


def _rivals(study: Study, situations: Sequence[Situation]) -> Iterator[str]:
    """The fastest of DeepSpeed against the fastest of the others: the ratio, or how often which is ahead."""
    found = [rival for situation in situations if (rival := _rival_ratio(study, situation))]
    ratios = [times for times, _, _ in found]
    if len(found) == 1:
        times, theirs, ours = found[0]
        told = "" if differs(times) else ", no difference as far as these trials tell"
        yield (
            f"The best DeepSpeed configuration ({theirs.name}) takes {ratio(times.value)}{between(times)} times the "
            f"step of the best of FSDP and DDP ({ours.name}){told}."
        )
    elif found:
        slower = [times for times in ratios if differs(times) and times.value > 1]
        faster = [times for times in ratios if differs(times) and times.value < 1]
        level = len(ratios) - len(slower) - len(faster)
        if level == len(ratios):
            yield f"Best against best, DeepSpeed and the others are told apart in none of {level} situations."
            return
        clauses = [
            f"{word} in {len(some)} of {len(ratios)} situations{_range(some)}"
            for word, some in (("longer", slower), ("shorter", faster))
            if some
        ]
        clauses += [f"not told apart in {level} of {len(ratios)}"] * bool(level)
        yield f"Best configuration against best, DeepSpeed's step is, beside FSDP's and DDP's, {enumeration(clauses)}."


def _range(found: Sequence[Estimate]) -> str:
    """The least and the largest ratio of step times."""
    low, high = (ratio(pick(one.value for one in found)) for pick in (min, max))
    return f" (step time x{low})" if low == high else f" (step time x{low} to x{high})"


def _rival_ratio(study: Study, situation: Situation) -> tuple[Estimate, CellTrials, CellTrials] | None:
    order = study.by_speed(situation)
    theirs = next((cell for cell in order if family(cell.cell.strategy) == DEEPSPEED), None)
    ours = next((cell for cell in order if family(cell.cell.strategy) in (FSDP, DDP)), None)
    found = study.time_ratio(theirs, ours) if theirs and ours else None
    return (found, theirs, ours) if found and theirs and ours else None


def _least_memory(study: Study, situations: Sequence[Situation]) -> Iterator[str]:
    """Which configurations take the least memory, and in how many situations."""
    leading = [best(study, MEMORY, situation) for situation in situations]
    telling = [cells for cells, at in zip(leading, situations, strict=True) if len(cells) < len(study.by_speed(at))]
    often = Counter(cell.name for cells in telling for cell in cells).most_common(_MOST_NAMES)
    what = next((figures.memory_is for figures in study.figures.values() if figures.memory_is), "")
    if often:
        names = [f"{name} in {count}" if len(situations) > 1 else name for name, count in often]
        of = f", of {len(situations)} situations" if len(situations) > 1 else ""
        yield f"Least memory, by the {what}{of}: {enumeration(names)}."
