"""How cells learn: losses and accuracies by samples and time, time to the target, and whether losses agree in fp32."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean, median

from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.reading import base_figure, missing
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import AGREES, Agreement, Learning, Point, Situation
from shardprof.study.results import Accuracy, Loss, Trial

AGREEING_STEPS = 50
_LAST_LOSSES = 10
_MOST_POINTS = 200
_NS = 1e9


def learning(study: Study) -> tuple[Learning, ...]:
    """Of every cell that logged its losses."""
    firsts = [(cell, first) for cell in study.cells if (first := _first(cell))]
    equal_samples = min((first.measurement.losses[-1].samples for _, first in firsts), default=0)
    return tuple(_learning(cell, first, equal_samples) for cell, first in firsts)


def _first(cell: CellTrials) -> Trial | None:
    """The first repeat that logged losses."""
    logged = [trial for _, trial in sorted(cell.finished.items()) if trial.measurement.losses]
    return logged[0] if logged else None


def _learning(cell: CellTrials, first: Trial, equal_samples: int) -> Learning:
    measured = [trial.measurement for trial in cell.finished.values() if trial.measurement.losses]
    reached = [one.accuracies[-1].accuracy for one in measured if one.accuracies]
    took_ns = cell.values(lambda trial: base_figure(trial, "time_to_target"))
    took_samples = cell.values(lambda trial: base_figure(trial, "samples_to_target"))
    target = first.length.get("target_accuracy")
    begin_ns = first.measurement.losses[0].at_ns
    finite = [loss for loss in first.measurement.losses if math.isfinite(loss.loss)]
    return Learning(
        name=cell.name,
        situation=cell.situation,
        loss=_last_loss([one.losses for one in measured]),
        loss_at_equal=_last_loss([[loss for loss in one.losses if loss.samples <= equal_samples] for one in measured]),
        equal_samples=equal_samples,
        diverged_at=cell.diverged_at,
        accuracy=median(reached) if reached else None,
        target=None if target is None else float(target),
        seconds_to_target=median(took_ns.values()) / _NS if took_ns else None,
        samples_to_target=median(took_samples.values()) if took_samples else None,
        why_not="" if took_ns else missing(first, "time_to_target"),
        losses=tuple(_point(loss, loss.loss, begin_ns) for loss in thinned(finite)),
        accuracies=tuple(_point(seen, seen.accuracy, begin_ns) for seen in first.measurement.accuracies),
    )


def _last_loss(repeats: Sequence[Sequence[Loss]]) -> float | None:
    """The mean of the last losses, in the median of the repeats; None where one of them was no number."""
    means = [fmean(loss.loss for loss in losses[-_LAST_LOSSES:]) for losses in repeats if losses]
    return median(means) if means and all(map(math.isfinite, means)) else None


def _point(at: Loss | Accuracy, value: float, begin_ns: int) -> Point:
    return Point(samples=at.samples, seconds=(at.at_ns - begin_ns) / _NS, value=value)


def thinned(losses: Sequence[Loss]) -> list[Loss]:
    """Some of many, at even distances, the first and the last among them."""
    if len(losses) <= _MOST_POINTS:
        return list(losses)
    stride = (len(losses) - 1) / (_MOST_POINTS - 1)
    return [losses[round(stride * i)] for i in range(_MOST_POINTS)]


def agreement(study: Study) -> tuple[Agreement, ...]:
    """Of cells in fp32 that take the same steps: each against DDP, or the first by name where DDP was not tried."""
    alike: dict[Situation, dict[str, CellTrials]] = defaultdict(dict)
    for cell in study.cells:
        if cell.situation.precision == "fp32" and _first(cell):
            same_work = replace(cell.situation, fabric_bytes_per_s=None, nodes=1, checkpointing=False)
            alike[same_work].setdefault(cell.name, cell)
    found = [row for cells in alike.values() for row in _against_one(cells)]
    return tuple(sorted(found, key=lambda row: -row.largest))


def _against_one(cells: Mapping[str, CellTrials]) -> list[Agreement]:
    against = cells["ddp"] if "ddp" in cells else next(iter(cells.values()))
    rows = [_agreement(cell, against) for cell in cells.values() if cell is not against]
    return [row for row in rows if row is not None]


def _agreement(cell: CellTrials, against: CellTrials) -> Agreement | None:
    """None where no step was at the same samples."""
    first, other = _first(cell), _first(against)
    assert first is not None
    assert other is not None
    at_samples = {
        loss.samples: loss.loss for loss in other.measurement.losses if loss.loss and math.isfinite(loss.loss)
    }
    off = [
        (abs(loss.loss / at_samples[loss.samples] - 1), loss.step)
        for loss in first.measurement.losses
        if loss.samples in at_samples and math.isfinite(loss.loss)
    ]
    if not off:
        return None
    largest, at_step = max(off[:AGREEING_STEPS])
    return Agreement(
        name=cell.name,
        against=against.name,
        situation=cell.situation,
        largest=largest,
        at_step=at_step,
        steps=len(off[:AGREEING_STEPS]),
        parts_at=next((step for difference, step in off if difference > AGREES), None),
        all_steps=len(off),
    )
