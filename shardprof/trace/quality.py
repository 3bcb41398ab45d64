"""What was lost or is doubtful: each report carries these lines, so that nobody trusts a figure too much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One doubt: a stable `code`, a sentence for people, and how often (None where it cannot be counted)."""

    code: str
    message: str
    count: int | None = None


def counted(doubts: Iterable[Quality]) -> list[Quality]:
    """The same doubt about several ranks is one line; counts add up."""
    merged: dict[tuple[str, str], Quality] = {}
    for doubt in doubts:
        key = (doubt.code, doubt.message)
        before = merged.get(key)
        if before is not None and before.count is not None and doubt.count is not None:
            doubt = replace(doubt, count=before.count + doubt.count)
        merged[key] = doubt
    return list(merged.values())
