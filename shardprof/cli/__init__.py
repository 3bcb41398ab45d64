"""The command line: one module a subcommand, found by discovery; a module's docstring is its `--help`."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Protocol, cast

from shardprof import __version__
from shardprof.errors import ShardprofError

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
        from shardprof.render._text import printable  # names in it may be a stranger's

        lines = map(printable, str(error).splitlines())
        sys.stderr.write("shardprof: {}\n".format("\n".join(lines)))
        return USAGE_ERROR
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away (`shardprof report | head`): nothing to complain about
        return 0
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
        sys.stderr.write(f"shardprof: {what}; look at the file, its permissions and the space on its disk\n")
        return USAGE_ERROR


def _dispatch(arguments: list[str]) -> int:
    names = _command_names()
    if arguments and arguments[0] in names:
        command, parser = _load(arguments[0])
        return command.run(parser.parse_args(arguments[1:]))
    _overview(names).parse_args(arguments or ["--help"])
    return USAGE_ERROR


def _command_names() -> list[str]:
    modules = [module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")]
    return sorted(name.replace("_", "-") for name in modules)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def _load(name: str) -> tuple[Command, argparse.ArgumentParser]:
    module = _module(name)
    parser = argparse.ArgumentParser(
        prog=f"shardprof {name}", description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command = cast(Command, module)
    command.add_arguments(parser)
    return command, parser


def _overview(names: list[str]) -> argparse.ArgumentParser:
    summaries = []
    for name in names:
        doc = _module(name).__doc__ or ""
        summaries.append(f"  {name:<12} {doc.splitlines()[0]}")
    parser = argparse.ArgumentParser(
        prog="shardprof",
        description="Where the time of a distributed training went, step by step and rank by rank.\n\n"
        "commands:\n" + "\n".join(summaries) + "\n\nexample:\n"
        "  shardprof record -- torchrun --nproc-per-node 8 train.py\n  shardprof report",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="`shardprof COMMAND --help` explains a command.",
    )
    parser.add_argument("--version", action="version", version=f"shardprof {__version__}")
    parser.add_argument("command", choices=names, metavar="COMMAND", help="one of the commands above")
    return parser
