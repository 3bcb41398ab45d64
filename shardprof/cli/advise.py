"""FSDP or DeepSpeed for a model and machines: what fits, what it sends, how long steps may take, and how sure that is.

--fabric is what a node can send to other nodes, one way, all its network cards together: 25GB/s, or 200Gbit/s in bits.
With a GPU (--gpu or --peak) and the tokens of a rank and step the answer tells step times, else from how much compute a
step on the network hardly matters. Nothing is run; --results takes a study of `shardprof bench` to lean on.
docs/advise.md says what each figure rests on.

example:
  shardprof advise --params 1.3e9 --nodes 2 --gpus-per-node 4 --memory 40GiB --fabric 25GB/s
  shardprof advise --params 7B --nodes 4 --gpus-per-node 8 --memory 80GB --fabric 50GB/s --gpu a100 --tokens 8192
  shardprof advise --params 86M --gpus-per-node 4 --memory 40GiB --gpu-link 300GB/s --format json
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from shardprof.errors import ShardprofError
from shardprof.study.advice.answer import advise
from shardprof.study.advice.calibration import calibrated_by
from shardprof.study.advice.question import Calibration, Question
from shardprof.study.advice.render import FORMATS
from shardprof.study.gpus import EXAMPLES, peaks_flops_per_s
from shardprof.study.model_sizes import ELEMENT_BYTES
from shardprof.study.quantities import bandwidth_bytes_per_s, count, flops_per_s, size_bytes

Number = TypeVar("Number", int, float)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the model and the machines."""
    model = parser.add_argument_group("model")
    model.add_argument("--params", required=True, metavar="N", help="its parameters, as in 1.3e9, 1.3B or 350M")
    model.add_argument("--precision", choices=ELEMENT_BYTES, default="bf16", help="(default: %(default)s)")
    model.add_argument("--tokens", metavar="N", help="tokens (or patches) of a rank and step")
    machines = parser.add_argument_group("machines")
    machines.add_argument("--nodes", default="1", metavar="N", help="(default: %(default)s)")
    machines.add_argument("--gpus-per-node", required=True, metavar="N")
    machines.add_argument("--memory", required=True, metavar="SIZE", help="of a GPU, as in 40GiB")
    machines.add_argument("--fabric", metavar="RATE", help="what a node can send to others, one way, as in 25GB/s")
    machines.add_argument("--gpu-link", metavar="RATE", help="what a GPU can send to another one of its node, one way")
    peak = machines.add_mutually_exclusive_group()
    peak.add_argument("--gpu", metavar="NAME", help="its name, as in a100, for its peak")
    peak.add_argument("--peak", metavar="FLOPS", help="its dense peak in that precision, as in 312TFLOPS")
    parser.add_argument("--results", type=Path, metavar="PATH", help="a study of shardprof bench to lean on")
    parser.add_argument(
        "--format", choices=sorted(FORMATS), default="terminal", help="how to show it (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Answer; ShardprofError for what is no model or no machines."""
    FORMATS[args.format](advise(_question(args)), sys.stdout)
    return 0


def _question(args: argparse.Namespace) -> Question:
    peak = _told("--peak", flops_per_s, args.peak) or (_peak(args.gpu, args.precision) if args.gpu else None)
    if (peak is None) != (args.tokens is None):
        missing = "--tokens" if args.tokens is None else "--gpu or --peak"
        raise ShardprofError(
            f"without {missing} nobody knows how long a step computes", f"add {missing}, or leave out both"
        )
    return Question(
        parameters=_read("--params", count, args.params),
        nodes=_read("--nodes", _machines, args.nodes),
        gpus_per_node=_read("--gpus-per-node", _machines, args.gpus_per_node),
        memory_bytes=_read("--memory", size_bytes, args.memory),
        fabric_bytes_per_s=_told("--fabric", bandwidth_bytes_per_s, args.fabric),
        link_bytes_per_s=_told("--gpu-link", bandwidth_bytes_per_s, args.gpu_link),
        precision=args.precision,
        peak_flops_per_s=peak,
        tokens=_told("--tokens", count, args.tokens),
        calibration=_calibration(args.results) if args.results else Calibration(),
    )


def _told(option: str, parse: Callable[[str], Number], text: str | None) -> Number | None:
    """The value of an option, None where it was not given."""
    return None if text is None else _read(option, parse, text)


def _read(option: str, parse: Callable[[str], Number], text: str) -> Number:
    """The value of an option; what is wrong with it is told by its name."""
    try:
        return parse(text)
    except ShardprofError as error:
        raise ShardprofError(f"{option}: {error.message}", error.hint) from error


def _machines(text: str) -> int:
    """A number of nodes or GPUs, which is a small one."""
    try:
        return count(text)
    except ShardprofError as error:
        raise ShardprofError(error.message, "write it like 4") from error


def _peak(gpu: str, precision: str) -> float:
    peaks = peaks_flops_per_s(gpu)
    if not peaks:
        message, remedy = f"the peak of {gpu!r} is not known", f"use one of {', '.join(EXAMPLES)}, or --peak 312TFLOPS"
        raise ShardprofError(message, remedy)
    if precision not in peaks:
        raise ShardprofError(f"{gpu} has no {precision}", f"use --precision {' or '.join(sorted(peaks))}")
    return peaks[precision]


def _calibration(path: Path) -> Calibration:
    from shardprof.study.store import store_in  # needs a database, which an answer without results does not

    return calibrated_by(store_in(path).trials())
