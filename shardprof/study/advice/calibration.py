"""What a study's trainings say of the predictions: measured over predicted, of step times and memory.

Only trainings on GPUs say anything: gloo overlaps other things than NCCL, and sends reduce-scatters as all-reduces.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from statistics import median

import msgspec

from shardprof.study.advice.outlook import Case, step_range
from shardprof.study.advice.question import NETWORK_EFFICIENCY, Calibration, Question, Range
from shardprof.study.bench.cells import AS_SHIPPED
from shardprof.study.bench.fit import fit
from shardprof.study.knobs import Knobs
from shardprof.study.model_sizes import ModelFacts
from shardprof.study.results import FINISHED, Trial, Trials
from shardprof.words import plural

_MILLISECOND_S = 1e-3
_GIB = 2**30
_Strategy = tuple[str, bool]


class UnusableError(Exception):
    """A training that says nothing of a prediction, and why."""


def calibrated_by(trials: Trials) -> Calibration:
    """From the least to the most that was measured over what is predicted, by strategy."""
    times: dict[_Strategy, list[float]] = defaultdict(list)
    memory: dict[_Strategy, list[float]] = defaultdict(list)
    refused = Counter[str]()
    for trial in trials:
        try:
            strategy = _strategy(trial)
            times[strategy].append(_time_ratio(trial))
            memory[strategy] += _memory_ratio(trial)
        except UnusableError as reason:
            refused[str(reason)] += 1
    return Calibration(time=_ranges(times), memory=_ranges(memory), notes=_notes(times, refused))


def _ranges(ratios: Mapping[_Strategy, list[float]]) -> dict[_Strategy, Range]:
    return {strategy: Range(min(found), max(found)) for strategy, found in ratios.items() if found}


def _notes(times: Mapping[_Strategy, list[float]], refused: Counter[str]) -> tuple[str, ...]:
    used = sum(map(len, times.values()))
    names = sorted({strategy for strategy, _ in times})
    told = f"{plural(used, 'training')} of the study say how long steps of {', '.join(names)} take"
    unused = (f"{plural(number, 'training')} of the study tell nothing: {why}" for why, number in refused.items())
    return (told if used else "nothing in the study is usable: the ranges are those of the assumptions", *unused)


def _strategy(trial: Trial) -> _Strategy:
    """As the answer names it."""
    if trial.status != FINISHED:
        raise UnusableError(f"it is not {FINISHED}")
    report = trial.measurement.report
    if report is None or not any(rank.device == "cuda" for rank in report.ranks):
        raise UnusableError("it did not train on GPUs")
    if trial.cell.knobs == AS_SHIPPED:
        return trial.cell.strategy.replace("fsdp1", "fsdp2"), False
    knobs = _knobs(trial)
    if knobs.reduce_bucket_elements is None:
        raise UnusableError("it is tuned in other ways than the advice is for")
    return trial.cell.strategy, True


def _knobs(trial: Trial) -> Knobs:
    return msgspec.convert({name: trial.knobs[name] for name in Knobs.__struct_fields__ if name in trial.knobs}, Knobs)


def _facts(trial: Trial) -> ModelFacts:
    try:
        return msgspec.convert(dict(trial.measurement.workload), ModelFacts)
    except msgspec.ValidationError as error:
        raise UnusableError("it did not tell the sizes of its model") from error


def _time_ratio(trial: Trial) -> float:
    """Its median step over what is predicted for as long as it computed."""
    counted = [step.wall_ns for step in trial.measurement.steps if step.counts]
    alone, overlapped = (trial.figure(name, part) for name, part in (("compute_only", ""), ("overlap", "")))
    if not counted or alone is None or overlapped is None:
        raise UnusableError("it has no step times, or does not tell how long it computed")
    cell = trial.cell
    if cell.accumulation > 1:
        raise UnusableError("its steps have several micro-batches")
    if cell.nodes > 1 and trial.fabric_bytes_per_s is None:
        raise UnusableError("what its nodes can send each other is not told")
    question = Question(
        parameters=_facts(trial).parameters,
        nodes=cell.nodes,
        gpus_per_node=cell.ranks // cell.nodes,
        memory_bytes=0,
        fabric_bytes_per_s=trial.fabric_bytes_per_s,
        precision=cell.precision,
    )
    case = Case(
        computes_s=(alone + overlapped) * _MILLISECOND_S,
        link_bytes_per_s=question.link.middle * NETWORK_EFFICIENCY.middle,
        fabric_bytes_per_s=(trial.fabric_bytes_per_s or 0.0) * NETWORK_EFFICIENCY.middle,
    )
    predicted = step_range(question, cell, _knobs(trial), _facts(trial), case)
    return median(counted) / 1e9 / predicted.middle


def _memory_ratio(trial: Trial) -> list[float]:
    """What torch allocated at most over the parts that it allocates; none where it was not measured."""
    measured = trial.figure("gpu_mem_allocated_peak")
    held = fit(trial.cell, _knobs(trial), _facts(trial), None, "cuda")
    return [] if measured is None else [measured * _GIB / (held.peak_bytes - held.parts["context"])]
