"""Print the man page: what every command's --help says, as roff.

example:
  shardprof man | man -l -
  shardprof man > /usr/local/share/man/man1/shardprof.1
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator

from shardprof import __version__
from shardprof.cli import overview
from shardprof.cli._help import blocks, is_table
from shardprof.cli._manual import Manual, manuals

_ESCAPES = {"\\": "\\e", "-": "\\-", "`": "", "~": "\\(ti", "^": "\\(ha", "'": "\\(aq", '"': "\\(dq"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


def run(args: argparse.Namespace) -> int:
    """Print it."""
    sys.stdout.write("\n".join(_page()) + "\n")
    return 0


def _page() -> Iterator[str]:
    whole = overview()
    summary, *_ = blocks(whole.description or "")
    yield f'.TH SHARDPROF 1 "" "shardprof {__version__}" "User Commands"'
    yield from [".nh", ".ad l"]  # an option that is broken at a hyphen, or stretched, cannot be copied
    yield from [".SH NAME", f"shardprof \\- {_escaped(summary).rstrip('.')}"]
    yield from [".SH SYNOPSIS", ".B shardprof", ".I command", "\\&..."]
    yield from [".SH DESCRIPTION", "What each command is for follows. Their options are listed below each."]
    yield from _blocks(blocks(whole.epilog or ""))
    yield ".SH COMMANDS"
    for manual in manuals():
        yield from _command(manual)


def _command(manual: Manual) -> Iterator[str]:
    yield f".SS {_escaped(f'shardprof {manual.name}')}"
    yield from [_sentence(manual.summary), ".PP", f"\\fB{_escaped(manual.usage)}\\fR"]
    yield from _blocks(manual.text)
    for options in manual.options:
        yield from [".PP", f"\\fI{_escaped(options.title)}\\fR"]
        for written, does in options.rows:
            yield from [".TP", f"\\fB{_escaped(written)}\\fR", _sentence(does) if does else "\\&"]
    yield from _blocks(manual.notes)
    for verb in manual.verbs:
        yield from _command(verb)


def _blocks(texts: tuple[str, ...] | list[str]) -> Iterator[str]:
    for text in texts:
        yield ".PP"
        if is_table(text):
            yield from [".nf", *map(_sentence, text.splitlines()), ".fi"]
        else:
            yield _sentence(" ".join(text.split()))


def _sentence(text: str) -> str:
    """A line of text; one that begins like a request of roff's does not become one."""
    escaped = _escaped(text)
    return f"\\&{escaped}" if escaped.startswith(".") else escaped


def _escaped(text: str) -> str:
    return re.sub(r"[\\`~^'\"-]", lambda match: _ESCAPES[match[0]], text)
