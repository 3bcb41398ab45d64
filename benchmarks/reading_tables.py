"""The cost of reading, in the terminal: every figure is a median, with the smallest and the largest of the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from measuring import Sample, number, spread
from reading_results import MB, FileCost, ReadingCost, Target
from rich.console import Console
from rich.table import Table

COSTS = ("CPU s", "wall s", "RSS MB")
FIELDS = ("cpu_s", "wall_s", "peak_rss_bytes")
UNITS = (1, 1, MB)
WIDTH = 110  # what the widest table takes


def show(cost: ReadingCost) -> None:
    """Prints costs, ratios, jobs and targets."""
    console = Console()
    console = Console(width=max(console.width, WIDTH))
    targets = cost.targets()
    for table in (files_table(cost.files), ratios_table(cost.files), ranks_table(cost), targets_table(targets)):
        console.print()
        console.print(table)
    console.print(f"\n{sum(target.met for target in targets)} of {len(targets)} targets met")
    if "HTA" not in cost.files[0].samples:
        console.print("HTA was not measured: the extra 'hta' is not installed")


def files_table(files: Sequence[FileCost]) -> Table:
    table = _table("Reading one trace", "file", "events", "text MB", "", *COSTS)
    for file in files:
        about = [file.name, f"{file.floor['events']:,}", number(file.floor["text_bytes"] / MB)]
        for name, samples in file.samples.items():
            table.add_row(*about, name, *_costs(samples))
            about = ["", "", ""]
    return table


def ratios_table(files: Sequence[FileCost]) -> Table:
    table = _table("How many times as much", "file", "", "CPU", "wall", "RSS")
    for file in files:
        pairs = [("shardprof", "floor")] + [("HTA", other) for other in ("floor", "shardprof") if "HTA" in file.samples]
        for name, other in pairs:
            times = [spread(file.ratios(field, name, other)) for field in FIELDS]
            table.add_row(file.name if (name, other) == pairs[0] else "", f"{name} / {other}", *times)
    return table


def ranks_table(cost: ReadingCost) -> Table:
    table = _table("Reading one job", "ranks", *COSTS, *(f"{name} a rank" for name in COSTS))
    for ranks, samples in cost.ranks.items():
        each = [_median(samples, field) / unit / ranks for field, unit in zip(FIELDS, UNITS, strict=True)]
        table.add_row(str(ranks), *_costs(samples), *map(number, each))
    growth = [f"x {number(median(cost.growth_a_rank(field)))}" for field in FIELDS]
    table.add_row(f"{max(cost.ranks)} over {min(cost.ranks)}", "", "", "", *growth)
    return table


def targets_table(targets: Sequence[Target]) -> Table:
    table = _table("Targets", "", "measured", "target", "")
    for target in targets:
        bound = f"{'at least' if target.at_least else 'at most'} {target.limit:.3g} {target.unit}"
        verdict = "[green]met[/]" if target.met else "[red]missed[/]"
        table.add_row(target.what, f"{spread(target.values)} {target.unit}", bound, verdict)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column not in ("", "file") else "left", no_wrap=True)
    return table


def _costs(samples: Sequence[Sample]) -> list[str]:
    cpu, wall = (spread([getattr(sample, field) for sample in samples]) for field in FIELDS[:2])
    return [cpu, wall, number(_median(samples, "peak_rss_bytes") / MB)]


def _median(samples: Sequence[Sample], field: str) -> float:
    return float(median(getattr(sample, field) for sample in samples))
