"""A study while it runs: a bar with the time left on a terminal, a line a training elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from shardprof.study.bench.runner import seconds_left
from shardprof.study.bench.trial import Planned
from shardprof.study.render._plain import plain
from shardprof.study.results import FINISHED, Trial
from shardprof.words import plural


def follow(planned: Sequence[Planned], trials: Iterator[Trial], before: Sequence[Trial], out: TextIO) -> int:
    """Show the trainings as they end, and how long the rest takes; how many of the study did not finish. `before` are
    those of it that were there before."""
    console = Console(file=out)
    done = list(before)
    with _Bar(console, planned, len(before)) as bar:
        for number, trial in enumerate(trials, 1):
            done.append(trial)
            console.print(_line(trial), highlight=False, soft_wrap=True)
            bar.advance(planned[number:], done)
    failed = sum(trial.status != FINISHED for trial in done)
    for words in _summary(len(planned), len(done), failed):
        console.print(words, highlight=False, soft_wrap=True)
    return failed


def _summary(ran: int, there: int, failed: int) -> Iterator[str]:
    if not ran:
        yield f"nothing is left to run: all {plural(there, 'training')} are there"
    if failed:
        yield f"[red]{failed:,} of {plural(there, 'training')} did not finish[/]; --retry-failed runs them again"


class _Bar:
    """The bar below the lines; nothing where the output is no terminal."""

    def __init__(self, console: Console, planned: Sequence[Planned], known: int) -> None:
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=None), MofNCompleteColumn(), _Left(),
            console=console, disable=not (planned and console.is_terminal),
        )  # fmt: skip
        self._task = self._progress.add_task(_now(planned), total=known + len(planned), completed=known, left_s=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, planned: Sequence[Planned], done: Sequence[Trial]) -> None:
        """One more is done; these are left."""
        left_s = seconds_left(planned, done)
        until = None if left_s is None else time.monotonic() + left_s
        self._progress.update(self._task, advance=1, description=_now(planned), until=until)


class _Left(ProgressColumn):
    """The time left, which is known from what the trainings took so far."""

    def render(self, task: Task) -> Text:
        until = task.fields.get("until")
        if until is None or task.finished:
            return Text("" if task.finished else "time left: known after the first")
        return Text(f"{duration(max(0.0, until - time.monotonic()))} left")


def _now(planned: Sequence[Planned]) -> str:
    return plain(planned[0].cell.words) if planned else "done"


def _line(trial: Trial) -> str:
    place = f"{plain(trial.cell.words)}, repeat {trial.repeat + 1}"
    if trial.status != FINISHED:
        return f"[red]{trial.status}[/]  {place}: {plain(trial.reason)}"
    step_ms, accuracy = trial.figure("step_time", "p50"), trial.measurement.accuracies[-1:]
    told = [f"{step_ms:,.1f} ms a step"] if step_ms is not None else []
    told += [f"accuracy {accuracy[0].accuracy:.1%}"] if accuracy else []
    return f"[green]finished[/]  {place}: {', '.join([*told, f'{trial.seconds:,.0f} s'])}"


def duration(seconds: float) -> str:
    """About how long, for people: "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
