"""What was lost or is doubtful: each report carries these lines, so that nobody trusts a figure too much."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One doubt: a stable `code`, a sentence for people, and how often (None where it cannot be counted)."""

    code: str
    message: str
    count: int | None = None
