"""The traces that reading is measured on: a real one as it is and many times as long, and jobs of many ranks.

They are made in build/bench/inputs, once: whatever has its final name there is whole.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

from measuring import ROOT

SHARED = ROOT.parent / "shared"
TRACES = Path(os.environ.get("SHARDPROF_TRACES", SHARED / "traces"))
LARGE = TRACES / "ddp-2020-allreduces-v100" / "rank1.json.gz"
SMALL = TRACES / "ddp-nccl-metadata-a100" / "rank0.json.gz"
INPUTS = ROOT / "build" / "bench" / "inputs"

_RANKS_SHOWN = 30  # Kineto cuts a list of ranks inside an event behind them


def inflated(copies: int) -> Path:
    """The large trace, `copies` times one after the other."""
    if copies == 1:
        return LARGE
    path = INPUTS / f"x{copies}.json.gz"
    if not path.exists():
        INPUTS.mkdir(parents=True, exist_ok=True)
        print(f"making {path.relative_to(ROOT)} (minutes)", file=sys.stderr)
        partial = path.with_name(f"partial-{path.name}")
        tool = SHARED / "tools" / "inflate_trace.py"
        subprocess.run([sys.executable, tool, LARGE, partial, "--copies", str(copies)], check=True)
        partial.rename(path)
    return path


def job(ranks: int) -> Path:
    """A folder with the small trace as that of each rank of a job."""
    folder = INPUTS / f"{ranks}-ranks"
    if not folder.exists():
        print(f"making {folder.relative_to(ROOT)}", file=sys.stderr)
        partial = folder.with_name(f"partial-{folder.name}")
        partial.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor() as pool:  # whose memory is not this process's, see Sample
            list(pool.map(_write_rank, repeat(partial), range(ranks), repeat(ranks)))
        partial.rename(folder)
    return folder


def _write_rank(folder: Path, rank: int, ranks: int) -> None:
    text = gzip.decompress(SMALL.read_bytes())
    (folder / f"rank{rank}.json.gz").write_bytes(gzip.compress(as_rank(text, rank, ranks), compresslevel=6))


def as_rank(text: bytes, rank: int, ranks: int) -> bytes:
    """The trace of rank 0 of 2 as that of a rank of a larger job with one process group, in its header and events."""
    header, key, events = text.partition(b'"traceEvents"')
    before, label, after = header.decode().partition('"distributedInfo": ')
    info, end = json.JSONDecoder().raw_decode(after)
    (group,) = info["pg_config"]
    info |= {"rank": rank, "world_size": ranks, "pg_config": [group | {"pg_size": ranks, "ranks": [*range(ranks)]}]}
    shown = ", ".join(map(str, range(min(ranks, _RANKS_SHOWN)))) + (", ..." if ranks > _RANKS_SHOWN else "")
    events = events.replace(b'"Process Group Ranks": "[0, 1]"', f'"Process Group Ranks": "[{shown}]"'.encode())
    events = events.replace(b'"Group size": 2', f'"Group size": {ranks}'.encode())
    return (before + label + json.dumps(info) + after[end:]).encode() + key + events
