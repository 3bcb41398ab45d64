"""Records two real trainings of a Vision Transformer, FSDP2 and DeepSpeed ZeRO-3, and reports on each.

The commands are printed as a user would type them. NCCL and all GPUs of this node where there are any, else two ranks
on the CPU with gloo.
"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys

import torch

from shardprof.study.data import cache_folder, make_digits

CPU_RANKS = 2
WORKLOAD = "shardprof.study.workloads.vit"


def main() -> int:
    """Run all of it; the exit code of the first command that fails, else 0."""
    _say("making the data: scikit-learn's digits in CIFAR-10's layout")
    make_digits(cache_folder())
    gpus = torch.cuda.device_count()
    ranks = gpus or CPU_RANKS
    cpu_cores = len(os.sched_getaffinity(0))
    environment = {**os.environ, "OMP_NUM_THREADS": str(max(1, cpu_cores // ranks))}
    for launcher, strategy in ((_torchrun(ranks), "fsdp2-full"), (_deepspeed(ranks), "zero3")):
        training = ["--data", "digits", "--strategy", strategy, "--steps", "16", *_sizes(gpus)]
        for command in (["shardprof", "record", "--", *launcher, WORKLOAD, *training], ["shardprof", "report"]):
            _say(f"$ {shlex.join(command)}")
            exit_code = subprocess.run(command, env=environment).returncode
            if exit_code:
                return exit_code
    return 0


def _torchrun(ranks: int) -> list[str]:
    return ["torchrun", "--standalone", "--nproc-per-node", str(ranks), "-m"]


def _deepspeed(ranks: int) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return ["deepspeed", "--quiet", "--num_gpus", str(ranks), "--master_port", str(port), "--module"]


def _sizes(gpus: int) -> list[str]:
    if gpus:
        return ["--model", "vit_b_16", "--precision", "bf16", "--batch-size", "64"]
    return ["--width", "256", "--batch-size", "16"]


def _say(text: str) -> None:
    sys.stdout.write(f"\n{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
