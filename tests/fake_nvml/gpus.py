"""GPUs that are not there, for pynvml in a process of its own: `nvml.c` compiled, and the state it answers from."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

ALL_LINKS = 4294967295

NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
LIBRARY_NOT_FOUND = 12
FUNCTION_NOT_FOUND = 13
GPU_IS_LOST = 15
VERSION_MISMATCH = 18
UNKNOWN = 999

HOPPER: dict[str, float] = {
    "utilization": 91,
    "memory_utilization": 40,
    "memory_total": 85_899_345_920,
    "memory_used": 1 << 30,
    "memory_reserved": 1 << 20,
    "temperature": 61,
    "sm_clock": 1410,
    "max_sm_clock": 1980,
    "memory_clock": 2619,
    "power": 200_000,
    "power_limit": 700_000,
    "throttle": 1,
    "mig": 0,
    "nvlinks": 18,
    "field.3@0": 2,
    "field.4@0": 1,
    "field.82@0": 70,
    "field.83@0": 123_456_789,
    "field.186@0": 250_500,
    "field.197@0": 5_000_000_000,
    "field.198@0": 6_000_000_000,
    f"field.138@{ALL_LINKS}": 1000,
    f"field.139@{ALL_LINKS}": 2000,
    "gpm": 1,
    **{f"gpm.{metric}": metric for metric in (1, 2, 3, 5, 7, 10, 11, 12, 13, 20, 21, 60, 61)},
}
"""What a GPU that supports everything answers."""

BARE: dict[str, float] = {"memory_total": 1 << 30, "memory_used": 1 << 20}
"""What one that supports hardly anything answers."""


def compile_library(folder: Path) -> Path:
    """The folder that LD_LIBRARY_PATH has to name."""
    source = Path(__file__).with_name("nvml.c")
    command = ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]
    subprocess.run([*command, str(folder / "libnvidia-ml.so.1"), str(source)], check=True, timeout=60)
    return folder


class FakeGpus:
    """The GPUs of one fake machine. What it answers can be changed while a process asks."""

    def __init__(self, library: Path, folder: Path, *gpus: Mapping[str, float]) -> None:
        self._state_file = folder / "state"
        self._log = folder / "calls"
        self.environment = {
            "LD_LIBRARY_PATH": str(library),
            "FAKE_NVML_STATE": str(self._state_file),
            "FAKE_NVML_LOG": str(self._log),
        }
        self._state: dict[str, float] = {"devices": len(gpus)}
        for index, gpu in enumerate(gpus):
            self._state |= {f"gpu{index}.{name}": value for name, value in gpu.items()}
        self._write()

    def change(self, state: Mapping[str, float]) -> None:
        """Answer otherwise from the next call on, by the names that `nvml.c` explains."""
        self._state |= state
        self._write()

    def forget(self, *names: str) -> None:
        """No longer support what goes by these names."""
        self._state = {name: value for name, value in self._state.items() if name not in names}
        self._write()

    def take_calls(self) -> list[str]:
        """The functions that have been called since the last time."""
        calls = self._log.read_text().split() if self._log.exists() else []
        self._log.unlink(missing_ok=True)
        return calls

    def _write(self) -> None:
        partial = self._state_file.with_suffix(".partial")
        partial.write_text("".join(f"{name} {value}\n" for name, value in self._state.items()))
        partial.replace(self._state_file)
