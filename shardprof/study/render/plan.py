"""What a study would run, and what of it fits: `shardprof bench run --dry-run`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shardprof.study.bench.cells import Cell
from shardprof.study.bench.fit import Fit
from shardprof.study.bench.plan import Plan
from shardprof.study.bench.trial import Planned
from shardprof.words import plural

_COLOURS = {"fits": "green", "tight": "yellow", "does not fit": "red", "unknown": "dim"}


def render(plan: Plan, left: Sequence[Planned], fits: Mapping[Cell, Fit], out: TextIO) -> None:
    """The cells in the order of the file, each with the memory that a rank needs."""
    console = Console(file=out)
    length = plan.located.file.study
    console.print(f"[bold]{escape(length.name)}[/]  {escape(length.about)}".rstrip(), highlight=False)
    console.print(_cells(plan, fits))
    lasts = f"{length.steps} steps" if length.steps else plural(length.epochs or 0, "epoch")
    console.print(
        f"{plural(len(plan.cells), 'cell')} x {plural(length.repeats, 'repeat')} of {lasts} on the "
        f"{'CPU' if plan.device == 'cpu' else 'GPUs'}; {plural(len(left), 'training')} left to run, "
        f"about {plan.disk_bytes / 2**20:,.0f} MiB on disk in all",
        highlight=False,
    )
    console.print(
        "[dim]memory: what a rank needs at most, by the formulas of docs/advise.md, without what its allocator keeps "
        "beyond that[/]",
        highlight=False,
    )


def _cells(plan: Plan, fits: Mapping[Cell, Fit]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("strategy", "knobs", "precision", "model", "batch", "ranks"):
        table.add_column(heading, overflow="fold")
    for heading in ("states", "rest", "memory a rank"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for cell in plan.cells:
        fit = fits[cell]
        states = sum(fit.parts[part] or 0 for part in ("parameters", "gradients", "optimizer"))
        peak = fit.peak_bytes
        table.add_row(
            cell.strategy,
            escape(cell.knobs),
            cell.precision + (" checkpointed" if cell.checkpointing else ""),
            cell.model,
            f"{cell.batch_size} x {cell.accumulation}" if cell.accumulation > 1 else str(cell.batch_size),
            f"{cell.ranks} on {cell.nodes}" if cell.nodes > 1 else str(cell.ranks),
            _size(states),
            _size(None if peak is None else peak - states),
            _size(peak),
            f"[{_COLOURS[fit.verdict]}]{fit.verdict}[/]",
        )
    return table


def _size(size: int | None) -> str:
    if size is None:
        return "?"
    return f"{size / 2**30:,.2f} GiB" if size >= 2**30 else f"{size / 2**20:,.1f} MiB"
