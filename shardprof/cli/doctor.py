"""Say what works on this machine and what does not, with the fix for each.

The exit code is 0 where runs can be recorded and read, else 1.

example:
  shardprof doctor
"""

from __future__ import annotations

import argparse
import os
import platform

from rich.console import Console
from rich.table import Table
from rich.text import Text

from shardprof import __version__
from shardprof.recording.doctor import Check, State, examine

_STYLES = {State.WORKS: "green", State.ABSENT: "dim", State.BROKEN: "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """There is nothing to choose."""


def run(args: argparse.Namespace) -> int:
    """Examine this machine and print a line a part; 1 where recording or reading cannot work at all."""
    console = Console(highlight=False, emoji=False, markup=False)
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    console.print(Text(f"shardprof {__version__}", style="bold"), Text(f"· {machine}"))
    console.print()
    checks = examine()
    console.print(_table(checks))
    console.print()
    impossible = sorted({check.needed_for for check in checks if check.needed_for and check.state is not State.WORKS})
    console.print(_verdict(impossible, fixes=sum(bool(check.fix) for check in checks)))
    return 1 if impossible else 0


def _table(checks: list[Check]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(min_width=6)
    table.add_column(min_width=9)
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(Text(check.state.value, _STYLES[check.state]), check.part, check.detail)
        if check.fix:
            table.add_row("", "", Text(f"fix: {check.fix}", "yellow" if check.state is State.BROKEN else "dim"))
    return table


def _verdict(impossible: list[str], *, fixes: int) -> Text:
    if impossible:
        return Text(f"{' and '.join(impossible).capitalize()} cannot work here before that is mended.", "bold red")
    more = f"; {fixes} optional fixes above" if fixes > 1 else "; one optional fix above" if fixes else ""
    return Text(f"Recording and reading work here{more}.", "bold")
