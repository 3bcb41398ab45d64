"""A command's help as parts, from its docstring and its parser: what the man page and the site are written from."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from shardprof import cli
from shardprof.cli._help import blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Arguments that belong together, each as it is written and what it does."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manual:
    """All that `shardprof NAME --help` says, and the same of its verbs."""

    name: str
    summary: str
    usage: str
    text: tuple[str, ...]
    options: tuple[Options, ...]
    notes: tuple[str, ...]
    verbs: tuple[Manual, ...]


def manuals() -> Iterator[Manual]:
    """Of every command."""
    for name in cli.command_names():
        yield _manual(name, cli.parser_of(name))


def _manual(name: str, parser: argparse.ArgumentParser, summary: str = "") -> Manual:
    said = blocks(parser.description or "")
    usage = parser.format_usage().removeprefix("usage: ")
    return Manual(
        name=name,
        summary=" ".join(said[0].split()) if said else summary,
        usage=" ".join(usage.split()),
        text=tuple(said[1:]),
        options=tuple(_options(parser)),
        notes=tuple(blocks(parser.epilog or "")),
        verbs=tuple(_verbs(name, parser)),
    )


def _options(parser: argparse.ArgumentParser) -> Iterator[Options]:
    formatter = parser._get_formatter()
    for group in parser._action_groups:
        rows = tuple(
            (formatter._format_action_invocation(action), formatter._expand_help(action) if action.help else "")
            for action in group._group_actions
            if not isinstance(action, argparse._SubParsersAction | argparse._HelpAction)
        )
        if rows:
            yield Options(title=group.title or "", rows=rows)


def _verbs(name: str, parser: argparse.ArgumentParser) -> Iterator[Manual]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            summaries = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for verb, inner in action.choices.items():
                yield _manual(f"{name} {verb}", inner, summaries.get(verb, ""))
