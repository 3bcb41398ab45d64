"""What every command that reads traces takes: the paths and how to read them."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

# Nothing here multiplies matrices, and the library for it would start a thread for every core on import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from shardprof.trace.reading import CLOCKS, Reading

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_MOST_BYTES = 2**63
_INTERRUPTED = 130  # what shells call a death by Ctrl-C


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to read, and how."""
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="a run folder, a folder of traces, a trace (.json, .gz, .zst), or a URL of one (s3://, gs://, https://)",
    )
    how = parser.add_argument_group("reading")
    how.add_argument("--jobs", type=_positive, metavar="N", help="traces read at once (default: one a processor)")
    how.add_argument(
        "--memory",
        type=_size_bytes,
        metavar="SIZE",
        help="memory that reading may take, like 8G; a trace that needs more is refused (default: half of the free)",
    )
    how.add_argument(
        "--max-size", type=_size_bytes, metavar="SIZE",
        help="refuse a trace whose text, inflated, is longer than this (default: 512M or, if more, 128 times the file)",
    )  # fmt: skip
    how.add_argument(
        "--rank-regex", type=_regex, metavar="REGEX",
        help=r"where a trace, its name and its folders do not tell its rank: the group of this expression, searched for"
        r" in the path, is the rank, as in 'gpu(\d+)'",
    )  # fmt: skip
    how.add_argument(
        "--clock", choices=CLOCKS, default=CLOCKS[0],
        help="what tells how ranks' clocks relate: the ends of the collectives that they share, or the traces' own"
        " times, where NTP or PTP keeps the nodes together (default: %(default)s)",
    )  # fmt: skip


def reading(args: argparse.Namespace) -> Reading:
    """How to read, of parsed arguments."""
    return Reading(
        jobs=args.jobs,
        memory_bytes=args.memory,
        max_text_bytes=args.max_size,
        rank_regex=args.rank_regex,
        clock=args.clock,
    )


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C ends the process at once and in silence: threads that read are not waited for."""
    try:
        yield
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of traces")
    return int(text)


def _size_bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    size = float(match[1]) * 1024.0 ** _POWER[match[2].lower()] if match else 0.0
    if not 1 <= size < _MOST_BYTES:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write it like 500M or 8G")
    return int(size)


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error
