"""What a command says on stdout besides what was asked for: names in it may be a stranger's."""

from __future__ import annotations

import sys

from shardprof.render._text import printable


def say(line: str) -> None:
    """One line, in which nothing steers the terminal."""
    sys.stdout.write(printable(line) + "\n")
