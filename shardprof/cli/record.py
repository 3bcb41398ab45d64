"""Run a training and record it: every step of every rank, and some steps in full detail.

The command runs unchanged: same output, same signals, same exit code. By default 5 steps pass, 2 warm up and steps
7 to 11 are captured with torch.profiler; begin, end and phases are recorded for every step. `--mode light` captures
none, for trainings of days, until `shardprof trigger` asks for some.

examples:
  shardprof record -- torchrun --nproc-per-node 8 train.py
  shardprof record --steps 100:103 --stack -- deepspeed train.py --deepspeed_config zero3.json
  shardprof record --out /shared/run1 -- torchrun --nnodes 2 ... train.py      the same on every node
  shardprof record --mode light --watchdog 300 -- torchrun --nproc-per-node 8 train.py
  shardprof record --sink tensorboard --sink wandb=my-project -- torchrun --nproc-per-node 8 train.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from shardprof import sinks
from shardprof.cli import _live
from shardprof.errors import ShardprofError
from shardprof.recording.launch import record
from shardprof.recording.nccl_request import DEFAULT, MODES
from shardprof.recording.rank.schedule import WARMUP_STEPS
from shardprof.trace.schema import CapturePlan

DEFAULT_STEPS = "7:12"
_EXAMPLES = {"--repeat": 2, "--watchdog": 120}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="the run folder (default: shardprof-runs/<time>-<script>)"
    )
    parser.add_argument(
        "--mode", choices=("full", "light"), default="full", help="light: capture no steps unless asked for (see above)"
    )
    parser.add_argument("--steps", metavar="A:B", help=f"capture steps A to B-1 (default: {DEFAULT_STEPS})")
    parser.add_argument("--repeat", metavar="N", help="capture N such windows, equally apart (default: 1)")
    parser.add_argument(
        "--shapes",
        action=argparse.BooleanOptionalAction,
        help="record the shapes of operators' inputs (default: where sizes of collectives need them, without NCCL)",
    )
    parser.add_argument("--stack", action="store_true", help="record Python's call stacks in captured steps")
    parser.add_argument(
        "--memory", action="store_true", help="record allocations in captured steps, on GPUs with a snapshot of them"
    )
    parser.add_argument("--stacks", action="store_true", help="sample every rank's Python stacks from outside (py-spy)")
    parser.add_argument(
        "--watchdog", metavar="SECONDS", help="tell of ranks without progress for so long, with their stacks"
    )
    parser.add_argument(
        "--nccl",
        choices=MODES,
        default=DEFAULT,
        help="what tells of each of NCCL's collectives: its profiler plugin (the default), the same with what its "
        "proxy threads do, its debug log, or nothing",
    )
    _live.add_sinks(parser)
    parser.add_argument("command", metavar="-- COMMAND", nargs=argparse.REMAINDER, help="what to run")


def run(args: argparse.Namespace) -> int:
    """Record the command; the exit code is the command's own."""
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise ShardprofError("there is no command to record", "try `shardprof record -- torchrun train.py`")
    return record(tuple(command), args.out, _plan(args), sinks.requested(args.sink))


def _plan(args: argparse.Namespace) -> CapturePlan:
    if args.mode == "light" and (args.steps or args.repeat):
        raise ShardprofError("--mode light captures no steps by itself", "leave out --steps and --repeat, or --mode")
    first_step, end_step = _range(args.steps or DEFAULT_STEPS)
    return CapturePlan(
        first_step=first_step,
        steps=end_step - first_step,
        warmup_steps=min(WARMUP_STEPS, first_step),
        repeat=0 if args.mode == "light" else _count("--repeat", args.repeat or "1"),
        shapes=args.shapes,
        stack=args.stack,
        memory=args.memory,
        watchdog_s=_count("--watchdog", args.watchdog) if args.watchdog else None,
        stacks=args.stacks,
        nccl=args.nccl,
    )


def _range(text: str) -> tuple[int, int]:
    first, _, end = text.partition(":")
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ShardprofError(f"--steps {text} is no range of steps", "try `--steps 10:15` for steps 10 to 14")
    return int(first), int(end)


def _count(option: str, text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise ShardprofError(f"{option} {text} is no whole number above 0", f"try `{option} {_EXAMPLES[option]}`")
    return int(text)
