"""The command line: one module a subcommand, found by discovery; a module's docstring is its `--help`."""

from __future__ import annotations

import argparse
import ast
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

from shardprof import __version__
from shardprof.cli import _help
from shardprof.errors import ShardprofError
from shardprof.words import printable

USAGE_ERROR = 2


class Command(Protocol):
    """What a module in this folder provides."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the result is the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; bad input is one line on stderr and exit code 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except ShardprofError as error:
        return _refused(str(error))
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away (`shardprof report | head`): nothing to complain about
        return 0
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        return _refused(f"{what}; look at the file, its permissions and the space on its disk")


def _refused(why: str) -> int:
    lines = map(printable, why.splitlines())  # names in it may be a stranger's
    sys.stderr.write("shardprof: {}\n".format("\n".join(lines)))
    return USAGE_ERROR


def command_names() -> list[str]:
    """Every command, by its name on the command line."""
    modules = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return sorted(name.replace("_", "-") for name in modules)


def parser_of(name: str) -> argparse.ArgumentParser:
    """What a command takes."""
    return _load(name)[1]


def overview() -> argparse.ArgumentParser:
    """What `shardprof` alone takes: the commands by purpose."""
    names = command_names()
    summaries = {name: _summary(name) for name in names}
    parser = argparse.ArgumentParser(
        prog="shardprof",
        usage="shardprof COMMAND ...",
        description="Where the time of a distributed training went, step by step and rank by rank.\n\n"
        + _help.by_purpose(summaries),
        formatter_class=_help.HelpFormatter,
        epilog="example:\n  shardprof record -- torchrun --nproc-per-node 8 train.py\n  shardprof report\n\n"
        "`shardprof COMMAND --help` explains a command, `shardprof man | man -l -` all of them.",
    )
    parser.add_argument("--version", action="version", version=f"shardprof {__version__}", help="print the version")
    parser.add_argument("command", choices=names, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser


def _dispatch(arguments: list[str]) -> int:
    if arguments and arguments[0] in command_names():
        command, parser = _load(arguments[0])
        return command.run(parser.parse_args(arguments[1:]))
    overview().parse_args(arguments or ["--help"])
    return USAGE_ERROR


def _summary(name: str) -> str:
    """The first line of a command's docstring, whose module need not be imported for it."""
    source = Path(__file__).with_name(f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def _load(name: str) -> tuple[Command, argparse.ArgumentParser]:
    module = _module(name)
    parser = argparse.ArgumentParser(prog=f"shardprof {name}", formatter_class=_help.HelpFormatter)
    command = cast(Command, module)
    command.add_arguments(parser)
    _help.described(parser, module.__doc__ or "")
    return command, parser
