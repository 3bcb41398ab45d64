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
import math
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import torch

from shardprof.study import data, strategies
from shardprof.study.errors import WorkloadError
from shardprof.study.knobs import Knobs
from shardprof.study.loss_log import LossLog
from shardprof.study.model import build_model, parameter_counts
from shardprof.study.model_facts import facts as model_facts
from shardprof.study.shapes import MODELS, ViTConfig
from shardprof.study.strategies import STRATEGIES, Settings
from shardprof.study.training import Progress, count_correct, fit, make_loader
from shardprof.study.vision import COMPILED_OPERATORS
from shardprof.study.workload_facts import optimizer_facts, order_checksum, weights_checksum
from shardprof.study.world import World, connected, find_world


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
    run.add_argument("--clip-norm", type=float, help="gradients of a larger norm are scaled down to it")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--threads", type=_positive, help="CPU threads a rank")
    run.add_argument("--log-every", type=_positive, default=10, metavar="STEPS")
    run.add_argument("--losses", type=Path, metavar="FOLDER", help="write each step's loss and the accuracies there")
    run.add_argument("--evaluate-every", type=_positive, metavar="STEPS", help="and not only at the end")
    run.add_argument("--knobs", type=_knobs, default=Knobs(), metavar="JSON", help="see shardprof/study/knobs.py")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher passes it
    return parser


def _knobs(text: str) -> Knobs:
    try:
        return msgspec.json.decode(text, type=Knobs)
    except msgspec.MsgspecError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


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
    train = make_loader(train_split, world, settings, training=True, workers=args.workers, seed=args.seed)
    test = make_loader(test_split, world, settings, training=False, workers=args.workers, seed=args.seed)
    if not len(train):
        raise WorkloadError(f"{len(train_split)} images are too few for a step of every rank", "lower --batch-size")
    facts: dict[str, Any] = {}
    if world.rank == 0:
        _introduce(args, world, model)
        facts = _facts(args, world, model, config, train_split, test_split) if args.losses else {}
    with nullcontext() if args.strategy == "none" else connected(world):
        trainer = STRATEGIES[args.strategy](model, world, settings)
        steps = args.steps or max(1, args.epochs * len(train) // args.accumulation)
        log = LossLog(args.losses, world, settings)
        facts["started_ns"] = time.time_ns()
        log.tell(facts)
        every = args.evaluate_every or steps
        shown_every = math.gcd(args.log_every, every) if args.evaluate_every else args.log_every
        for progress in fit(trainer, train, world, settings, steps=steps, log_every=shown_every, log=log):
            if world.rank == 0:
                _show(progress)
            if progress.step % every == 0 or progress.step == steps:
                accuracy = count_correct(trainer, test, world).item() / len(test_split)
                log.evaluated(progress.step, accuracy)
        del trainer  # before its process group
    log.tell(facts | {"ended_ns": time.time_ns()})
    if world.rank == 0:
        print(f"accuracy {accuracy:.1%} on {len(test_split):,} test images", flush=True)


def _facts(
    args: argparse.Namespace, world: World, model: torch.nn.Module, config: ViTConfig, train: Any, test: Any
) -> dict[str, Any]:
    """See workload_facts.py."""
    sizes = model_facts(config, precision=args.precision, checkpointing=args.checkpointing)
    return {
        **dataclasses.asdict(sizes),
        **optimizer_facts(args.lr),
        "clip_norm": args.clip_norm,
        "train_images": len(train),
        "test_images": len(test),
        "initial_weights": weights_checksum(model),
        "data_order": order_checksum(train, world, args.seed),
    }


def _model_config(args: argparse.Namespace) -> ViTConfig:
    names = [field.name for field in dataclasses.fields(ViTConfig)]
    changed = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if "width" in changed:
        changed.setdefault("mlp", 4 * changed["width"])
    return dataclasses.replace(MODELS[args.model], **changed)


def _introduce(args: argparse.Namespace, world: World, model: torch.nn.Module) -> None:
    counts = parameter_counts(model)
    print(
        f"{args.model}, {args.strategy}, {args.precision}, {world.size} x {world.device.type}, "
        f"{counts.total:,} parameters ({counts.root:,} outside the blocks)",
        flush=True,
    )
    if not COMPILED_OPERATORS:
        print("torchvision's compiled operators do not load here; using its Python part", flush=True)


def _show(progress: Progress) -> None:
    print(
        f"step {progress.step:>5}/{progress.steps}  loss {progress.loss:.4f}  "
        f"{progress.seconds_per_step * 1e3:8.1f} ms/step  {progress.samples_per_second:8.1f} samples/s",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
