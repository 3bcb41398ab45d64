"""What came of a training: how well it learned, and what went wrong on the way."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import median

from shardprof.study.metrics import sampled
from shardprof.study.metrics.evidence import Evidence, MissingError
from shardprof.study.metrics.values import Measure, Values
from shardprof.study.results import Accuracy
from shardprof.trace.schema import RunFolder

_LAST_LOSSES = 10
_ATTEMPT = re.compile(r"attempt-\d+")


def _loss(evidence: Evidence) -> Values:
    losses = evidence.learning.losses[-_LAST_LOSSES:]
    if not losses:
        raise MissingError("no step's loss was told by all ranks")
    return {"": sum(loss.loss for loss in losses) / len(losses)}


def _grad_norm(evidence: Evidence) -> Values:
    norms = [loss.grad_norm for loss in evidence.learning.losses if loss.grad_norm is not None]
    if not norms:
        raise MissingError("nothing computed the norm of the gradients")
    return {"": median(norms)}


def _lr(evidence: Evidence) -> Values:
    if evidence.learning.lr is None:
        raise MissingError("the learning rate is not told")
    return {"": evidence.learning.lr}


def _skipped_steps(evidence: Evidence) -> Values:
    if evidence.learning.skipped is None:
        raise MissingError("it is not told which steps were skipped")
    return {"": evidence.learning.skipped}


def _accuracy(evidence: Evidence) -> Values:
    return {"": _evaluations(evidence)[-1].accuracy}


def _validation_error(evidence: Evidence) -> Values:
    return {"": 1 - _evaluations(evidence)[-1].accuracy}


def _evaluations(evidence: Evidence) -> tuple[Accuracy, ...]:
    if not evidence.learning.accuracies:
        raise MissingError("nothing was evaluated")
    return evidence.learning.accuracies


def _reached(evidence: Evidence) -> Accuracy:
    target = evidence.length.target_accuracy
    reached = (accuracy for accuracy in _evaluations(evidence) if accuracy.accuracy >= target)
    if (first := next(reached, None)) is None:
        raise MissingError(f"never reached {target:g}")
    return first


def _time_to_target(evidence: Evidence) -> Values:
    return {"": (_reached(evidence).at_ns - evidence.fact("started_ns")) / 1e9}


def _samples_to_target(evidence: Evidence) -> Values:
    return {"": _reached(evidence).samples}


def _error_rate(evidence: Evidence) -> Values:
    run = evidence.run.record if evidence.run else None
    if run is None or run.outcome is None:
        raise MissingError(evidence.unread or "the recording did not come to its end")
    hours = (run.outcome.ended_ns - run.started_ns) / 3.6e12
    if hours <= 0:
        raise MissingError("the recording took no time")
    return {"": (int(run.outcome.exit_code != 0) + _restarts(evidence) + _gpu_errors(evidence)) / hours}


def _restarts(evidence: Evidence) -> int:
    """Attempts of ranks that torchrun has started again since."""
    folders = [RunFolder(path) for path in evidence.run.paths if isinstance(path, Path)] if evidence.run else []
    ranks = [rank for folder in folders for rank in folder.rank_folders()]
    return sum(1 for rank in ranks for attempt in rank.iterdir() if _ATTEMPT.fullmatch(attempt.name))


def _gpu_errors(evidence: Evidence) -> float:
    """Xids, lost GPUs and uncorrected memory errors. Raises MissingError where nothing looked at the job's GPUs."""
    if not evidence.on_gpu:
        return 0
    errors = 0.0
    sampled.of_gpus(evidence, "memory_used_bytes")
    for counters in evidence.counters.values():
        errors += sum(event.text.startswith(("xid", "gpu lost")) for event in counters.events)
        for series in counters.series.values():
            if ecc := series.get("ecc_uncorrected_errors"):
                errors += float(ecc.values[-1] - ecc.values[0])
    return errors


def _scaling_efficiency(_evidence: Evidence) -> Values:
    raise MissingError("of several trainings: see bench report")


def _pinned(_evidence: Evidence) -> Values:
    raise MissingError("torch's host allocator is not recorded")


MEASURES: dict[str, Measure] = {
    "loss": _loss,
    "grad_norm": _grad_norm,
    "lr": _lr,
    "skipped_steps": _skipped_steps,
    "accuracy": _accuracy,
    "time_to_target": _time_to_target,
    "samples_to_target": _samples_to_target,
    "error_rate": _error_rate,
    "validation_error": _validation_error,
    "scaling_efficiency": _scaling_efficiency,
    "pinned": _pinned,
}
