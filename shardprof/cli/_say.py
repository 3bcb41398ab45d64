"""What a command says on stdout besides what was asked for: names in it may be a stranger's."""

from __future__ import annotations

import sys

from shardprof.words import printable


def say(line: str) -> None:
    """One line, at once, in which nothing steers the terminal."""
    sys.stdout.write(f"{printable(line)}\n")
    sys.stdout.flush()  # a job may be followed for days
