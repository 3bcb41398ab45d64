"""What a study measured, as it is stored and read: a Trial is one training of a cell. Holds no logic.

Times are nanoseconds since the Unix epoch where they are instants; figures carry their own units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shardprof.analysis.result import Result
from shardprof.study.bench.cells import Cell

FINISHED = "finished"
OUT_OF_MEMORY = "out of memory"
TIMED_OUT = "timed out"
FAILED = "failed"
STATUSES = (FINISHED, OUT_OF_MEMORY, TIMED_OUT, FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A value of a metric of docs/metrics.md, in its `unit`. `part` tells several values of one metric apart ("p50",
    "all_gather"; "" for the only or the whole one). `value` is None where it is `missing`, which says why."""

    name: str
    part: str = ""
    value: float | None
    unit: str
    missing: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """After a step of the whole job: the mean of its ranks' losses; `samples` are those seen so far. `grad_norm` is
    None where nothing computed it; the optimizer did nothing in a `skipped` step."""

    step: int
    samples: int
    at_ns: int
    loss: float
    grad_norm: float | None = None
    skipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The share of test images that were right after a step."""

    step: int
    samples: int
    at_ns: int
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """How long a step of the job took, in the median of its ranks, less what recording took. It `counts` where it is
    neither warm-up nor captured nor disturbed by capturing."""

    step: int
    wall_ns: int
    counts: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What came of a training that was recorded. `workload` is what the training told of itself: `parameters`,
    `flops_per_sample`, `initial_weights`, ..."""

    figures: tuple[Figure, ...] = ()
    steps: tuple[StepTime, ...] = ()
    losses: tuple[Loss, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    workload: Mapping[str, Any] = field(default_factory=dict)
    report: Result | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The `repeat`-th training of a cell, `position` in the order in which they ran, of `planned` ones that its study
    consists of (None: it is no longer one of them, or nobody told). `status` is one of STATUSES, `reason` says why it
    is not "finished". `knobs` are the values behind the cell's name for them; `fabric_bytes_per_s` is what the user
    told of the network between nodes, one way. `environment` has the facts of the machines by name. `length` is the
    `[study]` table of its file."""

    trial_id: str
    study: str
    cell_id: str
    cell: Cell
    knobs: Mapping[str, Any]
    length: Mapping[str, Any]
    repeat: int
    position: int
    status: str
    reason: str = ""
    started_ns: int
    seconds: float
    fabric_bytes_per_s: float | None = None
    environment: Mapping[str, str]
    measurement: Measurement = Measurement()
    planned: int | None = None

    def figure(self, name: str, part: str = "") -> float | None:
        """The value of a figure; None where it is missing."""
        found = (f.value for f in self.measurement.figures if f.name == name and f.part == part)
        return next(found, None)


Trials = Sequence[Trial]
