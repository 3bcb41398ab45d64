"""Which machine and which process is this? Names that hold where hostnames and pids are used again.

Also asked inside a rank, whose interpreter need not have the recorder's dependencies.
"""

from __future__ import annotations

import platform
from pathlib import Path


def hostname() -> str:
    """What this machine is called in a run, where nobody else is called so."""
    return platform.node().split(".")[0] or "localhost"


def of_node() -> str:
    """The same for two processes exactly if they share name, kernel and network: containers of one machine differ."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    network = Path("/proc/self/ns/net").stat().st_ino
    return f"{platform.node()}/{boot}/{network}"


def of_process(pid: int) -> str:
    """A process of this node, by its pid and when it began. OSError where there is none."""
    _, began = _state(pid)
    return f"{of_node()}/{pid}/{began}"


def is_alive(process: str) -> bool:
    """Does a process that `of_process` named still run, on this node? A zombie does not."""
    node, pid, began = process.rsplit("/", 2)
    try:
        return node == of_node() and _state(int(pid))[1] == began and _state(int(pid))[0] not in "ZX"
    except OSError:
        return False


def _state(pid: int) -> tuple[str, str]:
    """Its state, and when it began in clock ticks since the boot."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], fields[19]
