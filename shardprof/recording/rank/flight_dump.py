"""Writes down what torch's flight recorder remembers of this rank's collectives; only the rank itself can ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from shardprof.trace.schema import FLIGHT_FILE

DUMPS = ("_dump_nccl_trace_json", "_dump_fr_trace_json")  # the first there is: NCCL's own, else that of any backend


def write_flight(folder: Path) -> None:
    """Put the dump into `folder`, whole. Raises whatever torch does; StopIteration where this one has no recorder."""
    c10d: Any = torch._C._distributed_c10d
    dump = next(function for name in DUMPS if (function := getattr(c10d, name, None)))
    partial = folder / f".{FLIGHT_FILE}"
    partial.write_bytes(dump())
    partial.replace(folder / FLIGHT_FILE)


def remove_flight(folder: Path) -> None:
    """The rank went on: what it was stuck in explains nothing any more."""
    (folder / FLIGHT_FILE).unlink(missing_ok=True)
