"""Outputs that always hold everything do not pretend to hold a part."""

from __future__ import annotations

from shardprof.errors import ShardprofError


def require_whole(focus: str) -> None:
    """Raises ShardprofError where only a part of the report, such as its stragglers, is asked for."""
    if focus != "report":
        raise ShardprofError(
            f"--{focus} shows a part of the report, and this format always has all of it",
            f"leave --{focus} out, or take --format terminal or markdown",
        )
