"""What trainings leave on disk, by estimate, and whether that has room."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from shardprof.study.bench.located import Located, StudyError
from shardprof.study.bench.trial import Planned
from shardprof.study.shapes import MODELS
from shardprof.words import gibibytes

_BLOCK_BYTES = 2**17
"""The trace of a block of the model in a micro-batch: 50 kB were measured on CPUs, up to 150 kB on GPUs."""
_SAMPLE_BYTES = 2**11
"""The trace of reading a sample: 1.6 kB were measured."""
_RANK_BYTES = 2**19
"""What a rank leaves beside its captured steps."""


def left_bytes(trainings: Iterable[Planned]) -> int:
    """About what they leave."""
    return sum(map(_left_bytes, trainings))


def shortage(located: Located, folder: Path, need_bytes: int) -> StudyError | None:
    """That the disk of `folder`, which need not be there yet, has less room than that."""
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free >= need_bytes:
        return None
    message = f"the trainings leave about {gibibytes(need_bytes)} in {folder}, and its disk has {gibibytes(free)} free"
    return located.mistake(".study.repeats", message, "choose another place with --out, or lower repeats or captured")


def _left_bytes(planned: Planned) -> int:
    cell = planned.cell
    samples = 0 if planned.length.workers else cell.batch_size  # of workers nothing is captured
    micro_batch = MODELS[cell.model].layers * _BLOCK_BYTES + samples * _SAMPLE_BYTES
    return cell.ranks * (planned.length.captured * cell.accumulation * micro_batch + _RANK_BYTES)
