"""What the commands that make a timeline share: what it is to show, and making it where it is not there yet."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from shardprof.cli import _reading
from shardprof.cli._say import say
from shardprof.errors import ShardprofError
from shardprof.words import plural, size

if TYPE_CHECKING:
    from shardprof.trace.run import Run
    from shardprof.trace.timeline.choice import Choice

_STEPS = re.compile(r"(\d{1,18}):(\d{1,18})")
_RANKS = re.compile(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*")
_MOST_RANKS = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to read and what is shown."""
    _reading.add_arguments(parser)
    shown = parser.add_argument_group("what is shown (default: what a viewer can hold; the rest is named)")
    shown.add_argument("--ranks", type=_ranks, metavar="LIST", help="the events of these ranks, as in 0,4-7")
    shown.add_argument("--steps", type=_steps, metavar="A:B", help="the events of steps A to B-1")
    shown.add_argument("--slim", action="store_true", help="no operators and calls on the CPU")


def make(run: Run, out: Path, args: argparse.Namespace) -> None:
    """Make the timeline of `run` at `out` and say so, unless one that is still true is there. ShardprofError where that
    is what is read."""
    from shardprof.analysis.cache import report_of  # with NumPy, as the rest
    from shardprof.analysis.remarks import first_ranks, remarks
    from shardprof.trace.fingerprint import fingerprint
    from shardprof.trace.timeline import Asked, made_from, write_timeline

    if out.resolve() in {file.resolve() for file in run.inputs() if isinstance(file, Path)}:
        raise ShardprofError(f"{out} is what is read", "say where the timeline goes: --out FILE")
    choice = _choice(args)
    key = fingerprint(run, [repr(choice)]) or ""
    made = made_from(out)
    if key and made and made.fingerprint == key:
        _say_made(f"timeline: {out} (made earlier)", made.left_out)
        return
    report = report_of(run)
    asked = Asked(choice=choice, remarks=remarks(report), first_ranks=first_ranks(report), fingerprint=key)
    timeline = write_timeline(run, out, asked)
    what = f"{plural(len(timeline.ranks), 'rank')}, {timeline.events:,} events, {size(out.stat().st_size)}"
    _say_made(f"timeline: {out} ({what})", timeline.left_out)
    for doubt in timeline.quality:
        say(f"doubtful: {doubt.message}{f' ({doubt.count:,})' if doubt.count else ''}")


def _say_made(line: str, left_out: tuple[str, ...]) -> None:
    say(line)
    for words in left_out:
        say(f"left out: {words}")
    if left_out:
        say("to choose: --ranks, --steps, --slim")


def _choice(args: argparse.Namespace) -> Choice | None:
    from shardprof.trace.timeline.choice import Choice

    if not (args.ranks or args.steps or args.slim):
        return None
    return Choice(ranks=args.ranks, steps=args.steps, slim=args.slim)


def _ranks(text: str) -> frozenset[int]:
    ranges = [part.partition("-") for part in text.split(",")] if _RANKS.fullmatch(text) else []
    ranks = [range(int(first), int(last or first) + 1) for first, _, last in ranges]
    if not any(ranks) or sum(map(len, ranks)) > _MOST_RANKS:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of ranks; write it like 0,4-7")
    return frozenset(rank for part in ranks for rank in part)


def _steps(text: str) -> range:
    match = _STEPS.fullmatch(text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is no range of steps; 7:9 is the steps 7 and 8")
    return range(int(match[1]), int(match[2]))


def beside(run: Run) -> Path | None:
    """Where a run's timeline lies; None where nothing may be written there, or something else lies there."""
    from shardprof.trace.files import may_write
    from shardprof.trace.schema import TIMELINE_FILE
    from shardprof.trace.timeline import made_from

    path = run.paths[0]
    if not isinstance(path, Path):
        return None
    folder = path if path.is_dir() else path.parent
    file = folder / TIMELINE_FILE
    is_ours = not file.exists() or made_from(file) is not None
    return file if is_ours and may_write(folder) else None
