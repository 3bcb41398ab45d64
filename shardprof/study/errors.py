"""What a workload refuses to start with: one line, exit code 2."""

from __future__ import annotations

from shardprof.errors import ShardprofError


class WorkloadError(ShardprofError):
    """A combination of options, data and machine that cannot be trained."""
