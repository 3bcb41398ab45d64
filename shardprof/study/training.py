"""The training loop, the same for every strategy, and the test at its end."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, DistributedSampler

from shardprof.study.loss_log import LossLog
from shardprof.study.strategies import Settings, Trainer, Update
from shardprof.study.world import World

Batch = tuple[torch.Tensor, torch.Tensor]
_MOST_SECONDS_TO_LET_GO = 5.0
EVALUATION_BATCH_SIZE = 128  # a look at the test split costs few forward passes, each of which gathers the shards


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A step worth a line: this rank's loss in it, and the speed of the whole job since the line before."""

    step: int
    steps: int
    loss: float
    seconds_per_step: float
    samples_per_second: float


def make_loader(
    split: Any, world: World, settings: Settings, *, training: bool, workers: int, seed: int
) -> DataLoader[Batch]:
    """This rank's part of a split, in micro-batches: shuffled and whole ones only for training, else all of it."""
    return DataLoader(
        split,
        batch_size=settings.batch_size if training else max(settings.batch_size, EVALUATION_BATCH_SIZE),
        sampler=DistributedSampler(split, world.size, world.rank, shuffle=training, seed=seed, drop_last=training),
        num_workers=workers,
        pin_memory=world.device.type == "cuda",
        drop_last=training,
        persistent_workers=training and workers > 0,
    )


def fit(
    trainer: Trainer,
    loader: DataLoader[Batch],
    world: World,
    settings: Settings,
    *,
    steps: int,
    log_every: int,
    log: LossLog | None = None,
) -> Iterator[Progress]:
    """Train for `steps` optimizer steps; what comes out is the first, every `log_every`-th and the last of them. The
    losses of all go into the `log`."""
    samples_per_step = settings.samples_a_step(world)
    batches = _endless(loader)
    logged_step, logged_at = 0, time.perf_counter()
    for step in range(1, steps + 1):
        loss, update = _step(trainer, batches, world, settings)
        if log is not None and update is not None:
            log.add(step, loss, update)
        if step % log_every == 0 or step in (1, steps):
            loss_now = loss.item()  # waits for the device, so that the time is the work's
            if log is not None:
                log.write()
            seconds = (time.perf_counter() - logged_at) / (step - logged_step)
            yield Progress(
                step=step,
                steps=steps,
                loss=loss_now,
                seconds_per_step=seconds,
                samples_per_second=samples_per_step / seconds,
            )
            logged_step, logged_at = step, time.perf_counter()


@torch.no_grad()
def count_correct(trainer: Trainer, loader: DataLoader[Batch], world: World) -> torch.Tensor:
    """How many test images the whole job gets right.

    The sampler repeats some images so that all ranks have as many; the repeated ones do not count.
    """
    trainer.train(on=False)
    images_in_split = len(loader.dataset)  # type: ignore[arg-type]
    correct, seen = torch.zeros((), dtype=torch.int64, device=world.device), 0
    for images, labels in loader:
        position = world.rank + world.size * torch.arange(seen, seen + len(labels))
        hits = trainer.forward(images.to(world.device)).argmax(dim=1).cpu() == labels
        correct += (hits & (position < images_in_split)).sum().to(world.device)
        seen += len(labels)
    if dist.is_initialized():
        dist.all_reduce(correct)
        _wait_until_gloo_lets_go(correct)
    trainer.train(on=True)
    return correct


def _wait_until_gloo_lets_go(tensor: torch.Tensor) -> None:
    """Return when only Python holds the tensor of the collective that is just over.

    gloo's thread holds it a little longer. Where the thread is the last to let go it waits for Python, and if Python is
    just leaving then, the job deadlocks or aborts ("terminate called without an active exception").
    """
    deadline = time.monotonic() + _MOST_SECONDS_TO_LET_GO
    while tensor.device.type == "cpu" and tensor._use_count() > 1 and time.monotonic() < deadline:  # type: ignore[attr-defined]
        time.sleep(0.001)


def _step(
    trainer: Trainer, batches: Iterator[Batch], world: World, settings: Settings
) -> tuple[torch.Tensor, Update | None]:
    """The mean loss of the step's micro-batches, and what updating the weights did."""
    losses, update = [], None
    for micro_batch in range(1, settings.accumulation + 1):
        images, labels = (tensor.to(world.device, non_blocking=True) for tensor in next(batches))
        last = micro_batch == settings.accumulation
        with trainer.micro_batch(last=last):
            loss = cross_entropy(trainer.forward(images), labels)
            update = trainer.backward(loss, last=last)
        losses.append(loss.detach())
    return torch.stack(losses).mean() if len(losses) > 1 else losses[0], update


def _endless(loader: DataLoader[Batch]) -> Iterator[Batch]:
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader
