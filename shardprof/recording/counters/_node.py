"""What the kernel counts for the whole node: processors, memory, swap, what waits for them, its networks."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

import psutil

from shardprof.recording.counters import Values

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
INFINIBAND_WORD_BYTES = 4
INFINIBAND = {"tx_bytes": "port_xmit_data", "rx_bytes": "port_rcv_data"}

_PRESSURE = re.compile(r"^some .*total=(\d+)", re.MULTILINE)
_SWAPPED = re.compile(r"^pswp(in|out) (\d+)", re.MULTILINE)


class Cpu:
    """The node's processors. The first look is taken when it is made."""

    def __init__(self) -> None:
        self._total_s, self._idle_s, _ = _cpu_times()

    def values(self) -> dict[str, float]:
        """Seconds of all processors together, and the share that was busy since the last call."""
        total_s, idle_s, values = _cpu_times()
        passed_s, idled_s = total_s - self._total_s, idle_s - self._idle_s
        self._total_s, self._idle_s = total_s, idle_s
        if passed_s > 0:
            values["cpu_percent"] = round(100 * min(max(1 - idled_s / passed_s, 0), 1), 1)
        return values


def memory() -> dict[str, float]:
    """Memory and swap, as they are."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    sizes = {line[0]: int(line[1]) << 10 for line in lines}
    return {
        "memory_used_bytes": sizes["MemTotal:"] - sizes["MemAvailable:"],
        "memory_available_bytes": sizes["MemAvailable:"],
        "swap_used_bytes": sizes["SwapTotal:"] - sizes["SwapFree:"],
    }


def swapped() -> dict[str, float]:
    """Bytes that went to and came from swap."""
    pages = _SWAPPED.findall(Path("/proc/vmstat").read_text())
    return {f"swap_{way}_bytes": int(count) * PAGE_BYTES for way, count in pages}


def pressure() -> dict[str, float]:
    """Time in which something waited for processors, memory or I/O, where the kernel keeps it (PSI)."""
    values = {}
    for resource in ("cpu", "memory", "io"):
        with suppress(OSError):  # it may be there and be switched off
            if some := _PRESSURE.search(Path(f"/proc/pressure/{resource}").read_text()):
                values[f"{resource}_pressure_s"] = int(some[1]) / 1e6
    return values


def interfaces() -> Values:
    """What each network interface has carried and lost."""
    return {
        name: {
            "tx_bytes": counters.bytes_sent,
            "rx_bytes": counters.bytes_recv,
            "tx_errors": counters.errout,
            "rx_errors": counters.errin,
            "tx_drops": counters.dropout,
            "rx_drops": counters.dropin,
        }
        for name, counters in psutil.net_io_counters(pernic=True).items()
    }


class Infiniband:
    """The InfiniBand and RoCE ports below `root`, which are those that were there at first."""

    def __init__(self, root: Path) -> None:
        self._ports = sorted(root.glob("*/ports/*/counters"))

    def values(self) -> Values:
        """What each port ("mlx5_0/1") has carried."""
        values: Values = {}
        for counters in self._ports:
            port = f"{counters.parents[2].name}/{counters.parent.name}"
            for name, file in INFINIBAND.items():
                with suppress(OSError, ValueError):  # ports of virtual functions may not tell
                    words = int((counters / file).read_text())
                    values.setdefault(port, {})[name] = words * INFINIBAND_WORD_BYTES
        return values


def _cpu_times() -> tuple[float, float, dict[str, float]]:
    """All time, the idle part of it, and the parts that are worth telling."""
    times = psutil.cpu_times()
    user_s, system_s = times.user + times.nice, times.system + times.irq + times.softirq
    total_s = user_s + system_s + times.idle + times.iowait + times.steal
    parts = {"user": user_s, "system": system_s, "iowait": times.iowait, "idle": times.idle}
    return total_s, times.idle + times.iowait, {f"cpu_{name}_s": round(part, 2) for name, part in parts.items()}
