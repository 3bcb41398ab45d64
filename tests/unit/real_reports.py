"""Reports of real runs and traces: those of this repository, and public ones where they are there."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from shardprof.analysis.cache import report_of
from shardprof.analysis.result import Result
from shardprof.trace.run import load

CHECKOUT = Path(__file__).parents[2]
PUBLIC = Path(os.environ.get("SHARDPROF_TRACES") or CHECKOUT.parent / "shared" / "traces")
FSDP2, ZERO3 = (CHECKOUT / "traces" / name for name in ("fsdp2-vit-2ranks", "zero3-vit-2ranks"))
DLRM, SLOW_WORKER = PUBLIC / "dlrm-8rank-v100", PUBLIC / "stragglers" / "slow-worker.json.gz"


@functools.cache
def result_of(path: Path) -> Result:
    """The report, made once; the test is skipped where there is no such path."""
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return report_of(load([path]))
