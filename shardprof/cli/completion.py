"""Print what makes a shell complete commands, options, their choices and files.

  bash   eval "$(shardprof completion bash)" in ~/.bashrc
  zsh    shardprof completion zsh > a folder of $fpath/_shardprof
  fish   shardprof completion fish > ~/.config/fish/completions/shardprof.fish
  tcsh   shardprof completion tcsh > ~/.shardprof.tcsh, and source that in ~/.tcshrc

example:
  eval "$(shardprof completion bash)"
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import shtab

from shardprof import __version__, cli, sinks

SHELLS = ("bash", "fish", "tcsh", "zsh")
_FOLDERS = {"DIR"}
_FILES = {"FILE", "PATH", "RUN", "STUDY.toml", "-- COMMAND"}
_SINKS = "NAME[=TARGET]"
_NOTHING_MORE, _FILES_MORE = "'p/*/()/'", "'p/*/f/'"
"""Of tcsh, which knows only the word right after a command: what it offers for all words further on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the shell."""
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    script = shtab.complete(_whole(), args.shell)
    if args.shell == "tcsh":
        script = script.replace(_NOTHING_MORE, _FILES_MORE)
    sys.stdout.write(script + "\n")
    return 0


def _whole() -> argparse.ArgumentParser:
    """One parser of all commands; names tell what completes as a file, a folder or a sink."""
    whole = argparse.ArgumentParser(prog="shardprof", description="explain distributed training")
    whole.add_argument("--version", action="version", version=__version__, help="print the version")
    commands = whole.add_subparsers()
    for name in cli.command_names():
        parser = cli.parser_of(name)
        summary = (parser.description or "").splitlines()[0]
        commands.add_parser(name, help=summary, parents=[parser], add_help=False)
    for action in _actions(whole):
        where: Any = action  # shtab looks for an attribute that argparse does not have
        if action.metavar in _FILES:
            where.complete = shtab.FILE
        elif action.metavar in _FOLDERS:
            where.complete = shtab.DIRECTORY
        elif action.metavar == _SINKS:
            where.choices = sinks.names()  # of which argparse would refuse one with a target
    return whole


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
