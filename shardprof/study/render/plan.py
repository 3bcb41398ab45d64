"""What a study would run, and what of it fits: `shardprof bench run --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.table import Table

from shardprof.study.bench.cells import AS_SHIPPED, Cell
from shardprof.study.bench.disk import left_bytes
from shardprof.study.bench.fit import Fit
from shardprof.study.bench.located import StudyError
from shardprof.study.bench.plan import Plan
from shardprof.study.bench.trial import Planned
from shardprof.study.render._plain import plain
from shardprof.words import plural

_COLOURS = {"fits": "green", "tight": "yellow", "does not fit": "red", "unknown": "dim"}
_STATES = ("parameters", "gradients", "optimizer")
_MEMORY = (
    "memory: MiB of a rank at most, by the formulas of docs/advise.md, without what its allocator keeps beyond that; "
    "on a CPU with what a process takes anyway; states: parameters, gradients and optimizer of it"
)
_ONE_REPLICA = "{strategy} on 2 ranks of one node keeps one replica: what is measured there is full sharding"


def render(
    plan: Plan, left: Sequence[Planned], fits: Mapping[Cell, Fit], obstacles: Sequence[StudyError], out: TextIO
) -> None:
    """The cells by what is trained, each with the memory that a rank needs; then what keeps them from being run."""
    console = Console(file=out, highlight=False)
    length = plan.located.file.study
    console.print(f"[bold]{plain(length.name)}[/]  {plain(length.about)}".rstrip())
    for trained in dict.fromkeys(map(_trained, plan.cells)):
        console.print(f"\n{plain(trained)}")
        console.print(_table([cell for cell in plan.cells if _trained(cell) == trained], fits))
    console.print("\n" + _MEMORY, style="dim")
    for strategy in sorted({cell.strategy for cell in plan.cells if cell.has_one_replica}):
        console.print(_ONE_REPLICA.format(strategy=strategy), style="yellow")
    lasts = f"{length.steps} steps" if length.steps else plural(length.epochs or 0, "epoch")
    console.print(
        f"{plural(len(plan.cells), 'cell')} x {plural(length.repeats, 'repeat')} of {lasts} on the "
        f"{'CPU' if plan.device == 'cpu' else 'GPUs'}; {plural(len(left), 'training')} left to run; "
        f"about {left_bytes(plan.order) / 2**20:,.0f} MiB on disk in all"
    )
    for obstacle in obstacles:
        console.print(f"[red]cannot be run here[/]  {plain(str(obstacle))}")


def _trained(cell: Cell) -> str:
    return f"{cell.model}, {cell.precision}" + (", with activation checkpointing" if cell.checkpointing else "")


def _table(cells: Sequence[Cell], fits: Mapping[Cell, Fit]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("  strategy", overflow="fold")
    for heading in ("batch", "ranks"):
        table.add_column(heading, no_wrap=True)
    for heading in ("states", "memory"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for cell in cells:
        fit = fits[cell]
        sizes = (sum(fit.parts[part] for part in _STATES), fit.peak_bytes)
        table.add_row(
            f"  {cell.strategy}" + ("" if cell.knobs == AS_SHIPPED else f" [cyan]{plain(cell.knobs)}[/]"),
            f"{cell.batch_size} x {cell.accumulation}" if cell.accumulation > 1 else str(cell.batch_size),
            f"{cell.ranks} on {cell.nodes}" if cell.nodes > 1 else str(cell.ranks),
            *(f"{size / 2**20:,.0f}" for size in sizes),
            f"[{_COLOURS[fit.verdict]}]{fit.verdict}[/]",
        )
    return table
