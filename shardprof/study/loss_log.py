"""What a training learns, written beside it without a wait or a collective of its own: a file a rank, joined later.

`loss.RANK.jsonl` has a line a step: `step`, `samples` of the whole job so far, `loss` (this rank's mean over its
micro-batches) and `at_ns` since the epoch. `accuracy.jsonl`, of rank 0: `step`, `samples`, `accuracy` and `at_ns`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from shardprof.study.world import World


class LossLog:
    """Of one rank; nothing is written where `folder` is None."""

    def __init__(self, folder: Path | None, world: World, samples_a_step: int) -> None:
        self._folder = folder
        self._rank = world.rank
        self._samples_a_step = samples_a_step
        self._pending: list[tuple[int, int, torch.Tensor]] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def add(self, step: int, loss: torch.Tensor) -> None:
        """The loss of a step, which stays on its device until it is written."""
        if self._folder is not None:
            self._pending.append((step, time.time_ns(), loss))

    def write(self) -> None:
        """Append the steps since the last time; waits for the device."""
        lines = [self._line(step, at_ns, loss=loss.item()) for step, at_ns, loss in self._pending]
        self._pending.clear()
        self._append(f"loss.{self._rank}.jsonl", lines)

    def evaluated(self, step: int, accuracy: float) -> None:
        """The share of test images that the job gets right after a step."""
        if self._rank == 0:
            self._append("accuracy.jsonl", [self._line(step, time.time_ns(), accuracy=accuracy)])

    def _line(self, step: int, at_ns: int, **figures: float) -> str:
        return json.dumps({"step": step, "samples": step * self._samples_a_step, **figures, "at_ns": at_ns})

    def _append(self, name: str, lines: list[str]) -> None:
        if self._folder is not None and lines:
            with (self._folder / name).open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)
