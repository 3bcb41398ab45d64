"""Untrusted words for rich: neither its markup nor a terminal's own."""

from __future__ import annotations

from rich.markup import escape

from shardprof.words import printable


def plain(text: str) -> str:
    """The text as it reads, with what a terminal would obey written as an escape."""
    return escape(printable(text))
