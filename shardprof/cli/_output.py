"""Where a command writes what it has to say: to stdout or, with --out, into a file or a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from shardprof import render
from shardprof.cli._say import say
from shardprof.errors import ShardprofError
from shardprof.trace.whole import appearing
from shardprof.words import size

HTML, TERMINAL = "html", "terminal"


def add_arguments(parser: argparse.ArgumentParser, formats: Collection[str]) -> None:
    """Declare how to show something, and where."""
    parser.add_argument("--format", choices=sorted(formats), help=f"how to show it (default: {TERMINAL})")
    parser.add_argument(
        "--out", type=Path, metavar="PATH", help="write it into this file, or this folder where it is a file a table"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="the same as --format html --out FILE")


def chosen(args: argparse.Namespace, focus: str = "report") -> render.Output | render.FolderOutput:
    """What writes as was asked for; `args.format` and `args.out` then tell it whatever the options were.

    Raises ShardprofError, before anything takes time, where it cannot be written so.
    """
    if args.html is not None:
        if args.format is not None or args.out is not None:
            raise ShardprofError("--html has a format and a file of its own", "leave out --format and --out, or --html")
        args.format, args.out = HTML, args.html
    args.format = args.format or TERMINAL
    output = render.output(args.format)
    _check(args, output, focus)
    return output


def _check(
    args: argparse.Namespace, output: render.Output | render.FolderOutput | render.Demanding, focus: str
) -> None:
    is_folder = isinstance(output, render.FolderOutput)
    if isinstance(output, render.Demanding):
        output.check(focus)
    if is_folder and args.out is None:
        raise ShardprofError(f"{args.format} is a file a table", "name a folder for them: --out FOLDER")
    if not is_folder and args.out is not None and args.out.is_dir():
        raise ShardprofError(f"{args.out} is a folder", f"name a file for {args.format}: --out FILE")
    if args.out is not None and not args.out.absolute().parent.is_dir():
        raise ShardprofError(f"{args.out.parent} is no folder", "make it, or write somewhere else")


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Have an error of writing, which on a full disk names no file, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_folder(args: argparse.Namespace, write: Callable[[Path], None]) -> None:
    """Have `write` fill the folder that was asked for, and say so."""
    with _naming(args.out):
        write(args.out)
    say(f"wrote {args.out}")


def write_text(args: argparse.Namespace, write: Callable[[TextIO], None]) -> None:
    """Have `write` write to stdout, or into the file that was asked for, whole or not at all, and say so."""
    if args.out is None:
        write(sys.stdout)
        return
    if args.out.exists() and not args.out.is_file():  # a pipe or a device, of which nothing must take the place
        with _naming(args.out), args.out.open("w", encoding="utf-8") as text:
            write(text)
        return
    place = args.out.resolve()
    with _naming(args.out), appearing(place) as file, file.open("w", encoding="utf-8") as text:
        write(text)
    say(f"wrote {args.out} ({size(place.stat().st_size)})")
