"""What a training learns, written beside it without a wait or a collective of its own: a file a rank, joined later.

`loss.RANK.jsonl` has a line a step: `step`, `samples` of the whole job so far, `loss` (this rank's mean over its
micro-batches), `lr`, `grad_norm` and `skipped` of the update of the weights, and `at_ns` since the epoch.
`accuracy.jsonl`, of rank 0: `step`, `samples`, `accuracy`, and `at_ns`, the time when that was known.
`workload.json`, of rank 0: what is trained, by name (workload_facts.py).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shardprof.study.strategies import Settings, Update
from shardprof.study.world import World


class LossLog:
    """Of one rank; nothing is written where `folder` is None."""

    def __init__(self, folder: Path | None, world: World, settings: Settings) -> None:
        self._folder = folder
        self._rank = world.rank
        self._lr = settings.lr
        self._samples_a_step = settings.samples_a_step(world)
        self._pending: list[tuple[int, int, torch.Tensor, Update]] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def add(self, step: int, loss: torch.Tensor, update: Update) -> None:
        """The loss of a step, which stays on its device until it is written."""
        if self._folder is not None:
            self._pending.append((step, time.time_ns(), loss, update))

    def write(self) -> None:
        """Append the steps since the last time; waits for the device."""
        lines = [
            self._line(
                step, at_ns, loss=loss.item(), lr=self._lr, grad_norm=_number(update.grad_norm), skipped=update.skipped
            )
            for step, at_ns, loss, update in self._pending
        ]
        self._pending.clear()
        self._append(f"loss.{self._rank}.jsonl", lines)

    def evaluated(self, step: int, accuracy: float) -> None:
        """The share of test images that the job gets right after a step."""
        if self._rank == 0:
            self._append("accuracy.jsonl", [self._line(step, time.time_ns(), accuracy=accuracy)])

    def tell(self, facts: Mapping[str, Any]) -> None:
        """What is trained; the last telling holds."""
        if self._rank == 0 and self._folder is not None:
            partial = self._folder / ".workload.json"
            partial.write_text(json.dumps(facts) + "\n", encoding="utf-8")
            partial.replace(self._folder / "workload.json")

    def _line(self, step: int, at_ns: int, **figures: float | None) -> str:
        return json.dumps({"step": step, "samples": step * self._samples_a_step, **figures, "at_ns": at_ns})

    def _append(self, name: str, lines: list[str]) -> None:
        if self._folder is not None and lines:
            with (self._folder / name).open("a", encoding="utf-8") as file:
                file.writelines(f"{line}\n" for line in lines)


def _number(norm: torch.Tensor | float | None) -> float | None:
    """A norm as JSON can hold it: one that has overflown is none."""
    number = None if norm is None else float(norm)
    return number if number is not None and math.isfinite(number) else None
