"""Trains a Vision Transformer on 32x32 images with the strategy of your choice.

  torchrun --nproc-per-node 2 -m shardprof.study.workloads.vit --data digits --strategy fsdp2-full --steps 20
  deepspeed --num_gpus 2 --module shardprof.study.workloads.vit --data digits --strategy zero3 --steps 20
  python -m shardprof.study.workloads.vit --data digits --epochs 3

CUDA and NCCL where there are GPUs, else the CPU and gloo. Rank 0 prints the loss, the time of a step and the samples
a second of the whole job, at the end the accuracy on the test split. The same seed gives the same initial weights
and the same order of the images whatever the strategy.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, DistributedSampler

from shardprof.study import data, strategies
from shardprof.study.errors import WorkloadError
from shardprof.study.model import MODELS, ViTConfig, build_model, parameter_counts
from shardprof.study.strategies import STRATEGIES, Settings, Trainer
from shardprof.study.vision import COMPILED_OPERATORS
from shardprof.study.world import World, connect, find_world

Batch = tuple[torch.Tensor, torch.Tensor]


def main() -> int:
    """Train as the command line says; 2 where that cannot be done, with one line from one rank a node."""
    args = _arguments().parse_args()
    try:
        _run(args, find_world())
    except WorkloadError as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":
            sys.stderr.write(f"vit: {error}\n")
        return 2
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    model = parser.add_argument_group("model", "a known one, with any of its sizes changed")
    model.add_argument("--model", choices=MODELS, default="vit_small")
    for field in dataclasses.fields(ViTConfig):
        model.add_argument(f"--{field.name.replace('_', '-')}", type=_positive)
    model.add_argument("--checkpointing", action="store_true", help="recompute each block's activations in backward")
    images = parser.add_argument_group("data")
    images.add_argument("--data", default=data.DIGITS, help="'digits', or a folder that holds CIFAR-10")
    images.add_argument("--download", action="store_true", help="fetch CIFAR-10 into that folder first")
    images.add_argument("--workers", type=_natural, default=0, help="data loading processes a rank")
    run = parser.add_argument_group("training")
    run.add_argument("--strategy", choices=STRATEGIES, default="none")
    run.add_argument("--shard-size", type=_positive, default=2, help="ranks a shard group, for the hybrid strategies")
    run.add_argument("--precision", choices=strategies.PRECISIONS, default="fp32")
    run.add_argument("--batch-size", type=_positive, default=32, help="samples a rank and micro-batch")
    run.add_argument("--accumulation", type=_positive, default=1, help="micro-batches a step")
    length = run.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=_positive, default=1)
    length.add_argument("--steps", type=_positive)
    run.add_argument("--lr", type=float, default=1e-3)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--threads", type=_positive, help="CPU threads a rank")
    run.add_argument("--log-every", type=_positive, default=10, metavar="STEPS")
    parser.add_argument(
        "--local_rank", help=argparse.SUPPRESS
    )  # the deepspeed launcher adds it; LOCAL_RANK says it too
    return parser


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is negative")
    return number


def _positive(text: str) -> int:
    number = _natural(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _run(args: argparse.Namespace, world: World) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    settings = Settings(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Settings)})
    strategies.check(args.strategy, world, settings)
    config = _model_config(args)
    model = build_model(config, seed=args.seed, checkpointing=args.checkpointing)
    train_split, test_split = data.load(args.data, image_size=config.image_size, download=args.download)
    loader = _loader(train_split, world, args, train=True)
    if not len(loader):
        raise WorkloadError(f"{len(train_split)} images are too few for a step of every rank", "lower --batch-size")
    if args.strategy != "none":
        connect(world)
    if world.rank == 0:
        _introduce(args, world, model)
    trainer = STRATEGIES[args.strategy](model, world, settings)
    _fit(trainer, loader, args, world)
    correct = _correct(trainer, _loader(test_split, world, args, train=False), len(test_split), world)
    if world.rank == 0:
        print(f"accuracy {correct / len(test_split):.1%} on {len(test_split):,} test images", flush=True)
    if dist.is_initialized():
        dist.destroy_process_group()


def _model_config(args: argparse.Namespace) -> ViTConfig:
    names = [field.name for field in dataclasses.fields(ViTConfig)]
    changed = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "width" in changed:
        changed.setdefault("mlp", 4 * changed["width"])
    return dataclasses.replace(MODELS[args.model], **changed)


def _loader(split: Any, world: World, args: argparse.Namespace, *, train: bool) -> DataLoader[Batch]:
    return DataLoader(
        split,
        batch_size=args.batch_size,
        sampler=DistributedSampler(split, world.size, world.rank, shuffle=train, seed=args.seed, drop_last=train),
        num_workers=args.workers,
        pin_memory=world.device.type == "cuda",
        drop_last=train,
        persistent_workers=train and args.workers > 0,
    )


def _introduce(args: argparse.Namespace, world: World, model: torch.nn.Module) -> None:
    counts = parameter_counts(model)
    print(
        f"vit: {args.strategy}, {args.precision}, {world.size} x {world.device.type}, {counts.total:,} parameters "
        f"({counts.root:,} outside the blocks)",
        flush=True,
    )
    if not COMPILED_OPERATORS:
        print("vit: torchvision's compiled operators do not load here; using its Python part", flush=True)


def _fit(trainer: Trainer, loader: DataLoader[Batch], args: argparse.Namespace, world: World) -> None:
    steps = args.steps or max(1, args.epochs * len(loader) // args.accumulation)
    samples_per_step = world.size * args.batch_size * args.accumulation
    batches = _endless(loader)
    logged_step, logged_at = 0, time.perf_counter()
    for step in range(1, steps + 1):
        for micro_batch in range(1, args.accumulation + 1):
            images, labels = (tensor.to(world.device, non_blocking=True) for tensor in next(batches))
            loss = cross_entropy(trainer.forward(images), labels)
            trainer.backward(loss, last=micro_batch == args.accumulation)
        if world.rank == 0 and (step % args.log_every == 0 or step in (1, steps)):
            loss_now = loss.item()  # waits for the device, so that the time is the step's
            seconds = (time.perf_counter() - logged_at) / (step - logged_step)
            logged_step, logged_at = step, time.perf_counter()
            print(
                f"step {step:>5}/{steps}  loss {loss_now:.4f}  {seconds * 1e3:8.1f} ms/step  "
                f"{samples_per_step / seconds:8.1f} samples/s",
                flush=True,
            )


def _endless(loader: DataLoader[Batch]) -> Iterator[Batch]:
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        yield from loader


@torch.no_grad()
def _correct(trainer: Trainer, loader: DataLoader[Batch], images_in_split: int, world: World) -> int:
    """How many test images the whole job gets right; those that the sampler repeats to fill up ranks count once."""
    trainer.eval()
    correct, seen = torch.zeros((), dtype=torch.int64, device=world.device), 0
    for images, labels in loader:
        position = world.rank + world.size * torch.arange(seen, seen + len(labels))
        hits = trainer.forward(images.to(world.device)).argmax(dim=1).cpu() == labels
        correct += (hits & (position < images_in_split)).sum().to(world.device)
        seen += len(labels)
    if dist.is_initialized():
        dist.all_reduce(correct)
    return int(correct)


if __name__ == "__main__":
    sys.exit(main())
