"""How help looks: a docstring and its options at the width of the terminal, and all commands by purpose.

A docstring is paragraphs, which are filled, and blocks with indented lines, which keep their lines: "example:" and
tables whose second column stands two blanks or more behind the first.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping

PURPOSES = {
    "record a training": ("record", "top", "trigger"),
    "read what was recorded": ("report", "open", "compare", "check", "export", "timeline", "nccl-log"),
    "choose a strategy": ("advise", "bench"),
}
OTHER = "other"
EXAMPLE = re.compile(r"^examples?:$", re.MULTILINE)
_COLUMNS = re.compile(r"(?P<head>\s+\S.*?)(?P<gap>\s{2,})(?P<text>\S.*)")
_OPTION = re.compile(r"(?<= )(-[\w-]*) (?=[^-])")  # with the blank before its value, where no line should break
_MORE = "      "
_MOST_CHOICES = 32  # characters


class HelpFormatter(argparse.HelpFormatter):
    """Argparse's own, but that the blocks of a docstring stay blocks."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(indent + _block(block, width - len(indent)) for block in blocks(text))

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Callable[[int], tuple[str, ...]]:
        shown = action.dest.upper() if _has_many_choices(action) else None
        return (lambda size: (shown,) * size) if shown else super()._metavar_formatter(action, default_metavar)

    def _expand_help(self, action: argparse.Action) -> str:
        text = super()._expand_help(action)
        return f"{text}; {', '.join(map(str, action.choices or ()))}" if _has_many_choices(action) else text

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def blocks(text: str) -> list[str]:
    """What is between empty lines."""
    return [block for block in re.split(r"\n\s*\n", text.strip("\n")) if block.strip()]


def is_table(block: str) -> bool:
    """Its lines are to be kept: some are indented."""
    return re.search(r"^ ", block, re.MULTILINE) is not None


def described(parser: argparse.ArgumentParser, doc: str) -> None:
    """Give a parser, whose arguments are declared, its docstring: what is to know above the options, examples below."""
    example = EXAMPLE.search(doc)
    end = example.start() if example else len(doc)
    parser.description = doc[:end].strip()
    parser.epilog = "\n\n".join(filter(None, [parser.epilog, doc[end:].strip()])) or None


def by_purpose(summaries: Mapping[str, str]) -> str:
    """Every command with its summary, under what it is for; what no purpose names comes last."""
    named = {name for names in PURPOSES.values() for name in names}
    purposes = {**PURPOSES, OTHER: [name for name in summaries if name not in named]}
    width = max(map(len, summaries)) + 2
    return "\n\n".join(
        f"{purpose}:\n" + "\n".join(f"  {name:<{width}}{summaries[name]}" for name in names if name in summaries)
        for purpose, names in purposes.items()
    )


def _has_many_choices(action: argparse.Action) -> bool:
    """Too many for a usage line: they stand in the help instead."""
    return action.metavar is None and len(",".join(map(str, action.choices or ()))) > _MOST_CHOICES


def _block(block: str, width: int) -> str:
    if not is_table(block):
        return textwrap.fill(" ".join(block.split()), width, break_on_hyphens=False)
    return "\n".join(part for line in block.splitlines() for part in _line(line.rstrip(), width))


def _line(line: str, width: int) -> Iterable[str]:
    """A line of a table. What is too long goes on below: text under its column, a command behind a backslash."""
    if len(line) <= width:
        return [line]
    columns = _COLUMNS.fullmatch(line)
    if columns is None:
        return _command(line, width)
    if columns.end("gap") > width // 2:
        return [*_command(columns["head"], width), *textwrap.wrap(columns["text"], width, initial_indent=_MORE)]
    hanging = " " * columns.end("gap")
    head = columns["head"] + columns["gap"]
    return textwrap.wrap(columns["text"], width, initial_indent=head, subsequent_indent=hanging)


def _command(line: str, width: int) -> list[str]:
    indent = line[: len(line) - len(line.lstrip())]
    held = _OPTION.sub(r"\1\0", line.strip())
    lines = textwrap.wrap(
        held, width - 2, initial_indent=indent, subsequent_indent=_MORE, break_long_words=False, break_on_hyphens=False
    )
    lines = [part.replace("\0", " ") for part in lines]
    return [f"{part} \\" for part in lines[:-1]] + lines[-1:]
