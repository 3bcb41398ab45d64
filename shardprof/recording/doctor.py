"""What works on this machine and what does not, each with its fix. Measures nothing and changes nothing.

Whatever could crash or hang (torch, DeepSpeed, NVML, the native engine) is tried in a process of its own.
"""

from __future__ import annotations

import enum
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardprof.recording import nccl_request
from shardprof.recording.inject import nccl_plugin

PROBE_TIMEOUT_S = 120
LOW_DISK_BYTES = 2 * 2**30
RUNS_FOLDER = Path("shardprof-runs")


class State(enum.Enum):
    """How a part is; the value is the word for it."""

    WORKS = "works"
    ABSENT = "absent"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One part of the machine: how it is, what was seen, and what to do about it (empty: nothing).

    `needed_for` is "recording" or "reading" where that cannot work without it.
    """

    part: str
    state: State
    detail: str
    fix: str = ""
    needed_for: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """What a probing process found: `facts`, or else the one line that says why not."""

    facts: dict[str, Any] | None = None
    error: str = ""


def examine() -> list[Check]:
    """Everything that recording and reading may need, in the order in which to mend it."""
    with ThreadPoolExecutor() as pool:
        engine, torch, deepspeed, nvml, py_spy = pool.map(
            lambda check: check(), (_engine, _probe_torch, _deepspeed, _probe_nvml, _py_spy)
        )
    return [
        _python(),
        engine,
        _torch(torch),
        *([_gpus(torch.facts, nvml), *_nccl(torch.facts), _gloo(torch.facts)] if torch.facts else []),
        deepspeed,
        _nvml(nvml),
        py_spy,
        _compiler(),
        _disk(),
    ]


def _probe(code: str) -> _Probe:
    """Run `code` in a fresh Python; its last line of output is a JSON object of facts."""
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return _Probe(error=f"no answer within {PROBE_TIMEOUT_S} s")
    if done.returncode < 0:
        return _Probe(error=f"died of signal {-done.returncode}")
    if done.returncode > 0:
        return _Probe(error=(done.stderr.strip().splitlines() or ["failed without a word"])[-1])
    return _Probe(facts=json.loads(done.stdout.strip().splitlines()[-1]))


def _python() -> Check:
    return Check(part="python", state=State.WORKS, detail=f"{platform.python_version()}, {sys.executable}")


def _engine() -> Check:
    probe = _probe("import json, shardprof, shardprof.engine; print(json.dumps({'version': shardprof.__version__}))")
    if probe.facts:
        detail = f"native engine of shardprof {probe.facts['version']} loads"
        return Check(part="engine", state=State.WORKS, detail=detail, needed_for="reading")
    fix = "make build in a checkout, else pip install --force-reinstall --no-deps shardprof"
    return Check(part="engine", state=State.BROKEN, detail=probe.error, fix=fix, needed_for="reading")


_TORCH_FACTS = """
import json, torch
import torch.distributed as dist
cuda = torch.cuda.is_available()
facts = {
    "version": torch.__version__,
    "cuda_build": torch.version.cuda,
    "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else [],
    "nccl": ".".join(map(str, torch.cuda.nccl.version())) if dist.is_available() and dist.is_nccl_available() else None,
    "gloo": None,
}
try:
    dist.init_process_group("gloo", init_method="tcp://127.0.0.1:0", rank=0, world_size=1)
    dist.all_reduce(torch.ones(1))
    dist.destroy_process_group()
except Exception as error:
    facts["gloo"] = f"{type(error).__name__}: {error}".splitlines()[0]
print(json.dumps(facts))
"""


def _probe_torch() -> _Probe:
    return _probe(_TORCH_FACTS)


def _torch(probe: _Probe) -> Check:
    if probe.facts:
        build = f"built for CUDA {probe.facts['cuda_build']}" if probe.facts["cuda_build"] else "built for CPU"
        detail = f"{probe.facts['version']}, {build}"
        return Check(part="torch", state=State.WORKS, detail=detail, needed_for="recording")
    if probe.error == "ModuleNotFoundError: No module named 'torch'":
        detail, fix = "not installed; traces can be read without it", "pip install 'shardprof[torch]'"
        return Check(part="torch", state=State.ABSENT, detail=detail, fix=fix, needed_for="recording")
    fix = "install it anew: pip install --force-reinstall torch"
    return Check(part="torch", state=State.BROKEN, detail=probe.error, fix=fix, needed_for="recording")


def _gpus(torch: dict[str, Any], nvml: _Probe) -> Check:
    if torch["gpus"]:
        return Check(part="GPUs", state=State.WORKS, detail=", ".join(torch["gpus"]))
    if not nvml.facts or not nvml.facts["gpus"]:
        return Check(part="GPUs", state=State.ABSENT, detail="none: jobs here train on the CPU")
    fix = "install a driver for it, or a torch for this driver"
    if not torch["cuda_build"]:
        fix = "install a torch that is built for CUDA"
    detail = f"{nvml.facts['gpus']} there, but torch cannot use them"
    return Check(part="GPUs", state=State.BROKEN, detail=detail, fix=fix)


def _nccl(torch: dict[str, Any]) -> Iterator[Check]:
    if torch["nccl"]:
        yield Check(part="NCCL", state=State.WORKS, detail=f"{torch['nccl']}, in torch")
    else:
        yield Check(part="NCCL", state=State.ABSENT, detail="not in this torch")
    version = tuple(int(part) for part in torch["nccl"].split(".")) if torch["nccl"] else nccl_request.SINCE
    yield _nccl_plugin(version, _probe(_PLUGIN_FACTS.format(plugin=str(nccl_plugin()))))


_PLUGIN_FACTS = """
import ctypes, json
plugin = ctypes.CDLL({plugin!r})
found = [version for version in (3, 4, 5, 6) if hasattr(plugin, f"ncclProfiler_v{{version}}")]
print(json.dumps({{"interfaces": found}}))
"""


def _nccl_plugin(version: tuple[int, ...], probe: _Probe) -> Check:
    """Whether an NCCL of this version would tell our plugin of its collectives, here and now."""
    if probe.facts is None:
        fix = "make build in a checkout, else pip install --force-reinstall --no-deps shardprof"
        return Check(part="NCCL plugin", state=State.BROKEN, detail=probe.error, fix=fix)
    with tempfile.TemporaryDirectory() as folder:
        setup = nccl_request.ask(nccl_request.DEFAULT, str(nccl_plugin()), Path(folder), dict(os.environ), version)
    if not setup.why:
        detail = f"loads, speaks interfaces v{probe.facts['interfaces'][0]} to v{probe.facts['interfaces'][-1]}"
        return Check(part="NCCL plugin", state=State.WORKS, detail=detail)
    fix = f"unset {nccl_request.PLUGIN}" if setup.plugin else "a newer torch brings a newer NCCL"
    detail = f"not used: {setup.why}; NCCL's log is read instead"
    return Check(part="NCCL plugin", state=State.ABSENT, detail=detail, fix=fix)


def _gloo(torch: dict[str, Any]) -> Check:
    if torch["gloo"] is None:
        return Check(part="gloo", state=State.WORKS, detail="connects and reduces")
    fix = "set GLOO_SOCKET_IFNAME to an interface that is up, or make the host's name resolve"
    return Check(part="gloo", state=State.BROKEN, detail=torch["gloo"], fix=fix)


def _deepspeed() -> Check:
    probe = _probe(
        "import json, deepspeed; from deepspeed.accelerator import get_accelerator as get; "
        "print(json.dumps({'version': deepspeed.__version__, 'accelerator': get().device_name()}))"
    )
    if probe.facts:
        detail = f"{probe.facts['version']}, accelerator {probe.facts['accelerator']}"
        return Check(part="DeepSpeed", state=State.WORKS, detail=detail)
    if probe.error == "ModuleNotFoundError: No module named 'deepspeed'":
        fix = "for DeepSpeed jobs: pip install 'shardprof[deepspeed]'"
        return Check(part="DeepSpeed", state=State.ABSENT, detail="not installed", fix=fix)
    return Check(part="DeepSpeed", state=State.BROKEN, detail=probe.error, fix="reinstall it after torch works")


def _probe_nvml() -> _Probe:
    return _probe(
        "import json, pynvml; pynvml.nvmlInit(); "
        "print(json.dumps({'driver': pynvml.nvmlSystemGetDriverVersion(), 'gpus': pynvml.nvmlDeviceGetCount()}))"
    )


def _nvml(probe: _Probe) -> Check:
    if probe.facts:
        detail = f"driver {probe.facts['driver']}, {probe.facts['gpus']} GPUs"
        return Check(part="NVML", state=State.WORKS, detail=detail)
    if "No module named" in probe.error:
        fix = "for clocks, power and throttling of GPUs: pip install nvidia-ml-py"
        return Check(part="NVML", state=State.ABSENT, detail="its Python binding is not installed", fix=fix)
    if "LibraryNotFound" in probe.error:
        return Check(part="NVML", state=State.ABSENT, detail="no NVIDIA driver on this machine")
    return Check(part="NVML", state=State.BROKEN, detail=probe.error, fix="reload or update the NVIDIA driver")


def _py_spy() -> Check:
    """Whether a process may look into another one of the same user: tried on one that is made for it."""
    program = shutil.which("py-spy") or shutil.which("py-spy", path=Path(sys.executable).parent)
    if program is None:
        fix = "for stacks of running ranks: pip install py-spy"
        return Check(part="py-spy", state=State.ABSENT, detail="not installed", fix=fix)
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as target:
        os.read(target.stdout.fileno(), 1)  # type: ignore[union-attr]  # until it runs Python
        dump = subprocess.run([program, "dump", "--pid", str(target.pid)], capture_output=True)
        target.kill()
    if dump.returncode == 0:
        return Check(part="py-spy", state=State.WORKS, detail="may look into other processes")
    fix = "run as root, or sysctl kernel.yama.ptrace_scope=0, or give the container SYS_PTRACE"
    return Check(part="py-spy", state=State.BROKEN, detail="may not look into other processes", fix=fix)


def _compiler() -> Check:
    purposes = {"g++": "DeepSpeed's operators", "ninja": "DeepSpeed's operators", "cmake": "building shardprof"}
    folders = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    missing = [name for name in purposes if shutil.which(name, path=folders) is None]
    if not missing:
        return Check(part="compiler", state=State.WORKS, detail=", ".join(purposes))
    detail = "; ".join(f"no {name}, needed for {purposes[name]}" for name in missing)
    packages = " ".join("ninja-build" if name == "ninja" else name for name in missing)
    return Check(part="compiler", state=State.ABSENT, detail=detail, fix=f"Debian, Ubuntu: apt-get install {packages}")


def _disk() -> Check:
    folder = RUNS_FOLDER if RUNS_FOLDER.exists() else RUNS_FOLDER.parent
    place = folder.resolve()
    if not os.access(folder, os.W_OK):
        fix = "start recording elsewhere, or use shardprof record --out DIR"
        return Check(part="disk", state=State.BROKEN, detail=f"{place} cannot be written", fix=fix)
    free_bytes = shutil.disk_usage(folder).free
    detail = f"{free_bytes / 2**30:,.0f} GiB free in {place}"
    if free_bytes >= LOW_DISK_BYTES:
        return Check(part="disk", state=State.WORKS, detail=detail)
    return Check(part="disk", state=State.BROKEN, detail=detail, fix="make room, or use shardprof record --out DIR")
