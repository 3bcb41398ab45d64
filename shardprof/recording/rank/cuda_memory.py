"""What torch's caching allocator holds on the GPU at the end of a step.

Peaks are those since the process began, or since the script reset them: shardprof never resets them, since the script
may print them itself.
"""

from __future__ import annotations

from typing import Any

import torch

from shardprof.recording.rank import groups

_SIZES = ("allocated_bytes", "active_bytes", "reserved_bytes")


def allocator_state() -> dict[str, int]:
    """Bytes allocated, active and reserved, their peaks, and how often memory ran short; empty without a GPU."""
    if not groups.uses_cuda():
        return {}
    stats: Any = torch.cuda.memory.memory_stats_as_nested_dict()  # a tenth of what the flat memory_stats() costs
    state = {"alloc_retries": int(stats["num_alloc_retries"]), "ooms": int(stats["num_ooms"])}
    for size in _SIZES:
        state[size] = int(stats[size]["all"]["current"])
        state[f"peak_{size}"] = int(stats[size]["all"]["peak"])
    return state
