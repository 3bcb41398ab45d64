"""What a training wrote of itself: losses, accuracies, facts. What is torn, or of another type, is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from shardprof.study.results import Accuracy, Loss
from shardprof.trace.journal import read_text_lines


class _Line(msgspec.Struct, kw_only=True):
    """Of loss.RANK.jsonl; see shardprof/study/loss_log.py."""

    step: int
    samples: int
    at_ns: int
    loss: float
    lr: float | None = None
    grad_norm: float | None = None
    skipped: bool | None = None


class _Tested(msgspec.Struct, kw_only=True):
    """Of accuracy.jsonl."""

    step: int
    samples: int
    at_ns: int
    accuracy: float


T = TypeVar("T", _Line, _Tested)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """What a training learned. `lr` is of the last step, `skipped` counts steps; None where they are not told."""

    losses: tuple[Loss, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    lr: float | None = None
    skipped: int | None = None
    workload: Mapping[str, Any] = field(default_factory=dict)


def read_learning(folder: Path, ranks: int) -> Learning:
    """Of a training of so many ranks. Steps count that all of them told."""
    by_rank = [_by_step(_Line, folder / f"loss.{rank}.jsonl") for rank in range(ranks)]
    steps = sorted(set.intersection(*(set(lines) for lines in by_rank)))
    first = [by_rank[0][step] for step in steps]
    told = [line.skipped for line in first if line.skipped is not None]
    return Learning(
        losses=tuple(_loss([lines[step] for lines in by_rank]) for step in steps),
        accuracies=tuple(
            Accuracy(step=line.step, samples=line.samples, at_ns=line.at_ns, accuracy=line.accuracy)
            for line in _by_step(_Tested, folder / "accuracy.jsonl").values()
        ),
        lr=next((line.lr for line in reversed(first) if line.lr is not None), None),
        skipped=sum(told) if told else None,
        workload=_workload(folder / "workload.json"),
    )


def _loss(lines: Sequence[_Line]) -> Loss:
    """The step of all ranks, whose norm of gradients and time are those of the first one."""
    return Loss(
        step=lines[0].step,
        samples=lines[0].samples,
        at_ns=lines[0].at_ns,
        loss=sum(line.loss for line in lines) / len(lines),
        grad_norm=lines[0].grad_norm,
        skipped=bool(lines[0].skipped),
    )


def _by_step(kind: type[T], path: Path) -> dict[int, T]:
    """The lines of a file; of a training that was started again, the last line of a step."""
    lines: dict[int, T] = {}
    with suppress(OSError):
        for text in read_text_lines(path):
            with suppress(ValueError, OverflowError, RecursionError):
                line = msgspec.convert(json.loads(text), kind)  # json reads NaN, the loss of what diverged
                lines[line.step] = line
    return dict(sorted(lines.items()))


def _workload(path: Path) -> Mapping[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        told = json.loads(path.read_text(encoding="utf-8"))
        return told if isinstance(told, dict) else {}
    return {}
