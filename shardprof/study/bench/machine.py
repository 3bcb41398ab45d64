"""What a training runs on and with: versions, hardware, topology, commit. Kept with each result."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

import psutil
import pynvml

from shardprof.study.bench.installation import commit, printed, processor, version
from shardprof.study.bench.trial import TrialFolder
from shardprof.trace.schema import HOST_FILE, HostRecord, RunFolder, RunRecord, read_whole

_PACKAGES = ("shardprof", "torch", "torchvision", "deepspeed", "numpy", "nvidia-nccl-cu12", "nvidia-nccl-cu13")


def gpu_count() -> int:
    """The GPUs of this machine that a job may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


def memory_a_rank(device: str, ranks_a_node: int) -> int | None:
    """Bytes that a rank may take: its GPU's, or its share of what this machine has free; None where it has no GPU."""
    if device == "cpu":
        return int(psutil.virtual_memory().available) // ranks_a_node
    if not gpu_count():
        return None
    pynvml.nvmlInit()
    return int(pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0)).total)


def facts_of_machine() -> dict[str, str]:
    """Of this machine and what is installed on it, by name."""
    facts = {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpu": processor(),
        "cpu cores": str(len(os.sched_getaffinity(0))),
        "memory GiB": f"{psutil.virtual_memory().total / 2**30:.1f}",
        "commit": commit(),
        "topology": printed("nvidia-smi", "topo", "-m"),
        **{name: version(name) for name in _PACKAGES},
    }
    return {name: value for name, value in facts.items() if value}


def facts_of_run(folder: TrialFolder) -> dict[str, str]:
    """What the recording of a training knows of its ranks' machines, by name; empty where there is none."""
    run = RunFolder(folder.run)
    try:
        record = read_whole(RunRecord, run.run_file)
    except (OSError, ValueError, TypeError):
        return {}
    facts = {name: str(version) for name, version in record.versions.items()}
    facts |= {f"variable {name}": value for name, value in record.environment.items()}
    return facts | dict(_of_hosts(run))


def _of_hosts(run: RunFolder) -> Iterator[tuple[str, str]]:
    for folder in run.host_folders():
        try:
            host = read_whole(HostRecord, folder / HOST_FILE)
        except (OSError, ValueError, TypeError):
            continue
        gpus = [device.name for device in host.devices]
        shown = f", {len(gpus)} x {gpus[0]}" if gpus else ""
        yield f"host {host.name}", f"{host.cpu_count} cores, {host.memory_bytes / 2**30:.1f} GiB{shown}"
