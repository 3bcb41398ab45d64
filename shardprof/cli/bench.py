"""Compare strategies by training with each: FSDP, DDP and DeepSpeed ZeRO, measured alike and explained.

A study file names the cells (strategy, knobs, precision, checkpointing, batch, model, ranks, nodes); each is trained
under `shardprof record` in processes of its own, in a random order, several times. What was interrupted goes on where
it stopped when the same command is given again. docs/bench.md has the study file's keys, docs/metrics.md the figures.

example:
  shardprof bench run benchmarks/studies/smoke.toml --dry-run
  shardprof bench run benchmarks/studies/single-node.toml
  shardprof bench run benchmarks/studies/poster.toml --hosts node-a,node-b --fabric 25GB/s
  shardprof bench report
  shardprof bench report shardprof-studies/smoke --format html > smoke.html
  shardprof bench export shardprof-studies/smoke --format parquet --out smoke-results
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shardprof.cli._say import say
from shardprof.errors import ShardprofError

if TYPE_CHECKING:
    from shardprof.study.bench.hosts import Hosts
    from shardprof.study.bench.located import StudyError
    from shardprof.study.bench.plan import Plan
    from shardprof.study.bench.runner import StudyFolder
    from shardprof.study.bench.trial import Planned
    from shardprof.study.store import Store

DEFAULT_FOLDER = Path("shardprof-studies")
FORMATS = ("terminal", "markdown", "html", "json")
_RUN_EXAMPLE = "example:\n  shardprof bench run benchmarks/studies/smoke.toml --dry-run --memory 40GiB"
_REFUSED = 2  # what a real run would end with
_INTERRUPTED = 130  # what shells call a death by Ctrl-C


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what can be done with a study."""
    verbs = parser.add_subparsers(metavar="run|report|export", required=True)
    run = verbs.add_parser(
        "run",
        help="run the trainings of a study file that have not been run yet",
        epilog=_RUN_EXAMPLE,
        formatter_class=parser.formatter_class,
    )
    run.add_argument("study", type=Path, metavar="STUDY.toml")
    run.add_argument("--dry-run", action="store_true", help="only say what would be run, what fits, what is in the way")
    run.add_argument("--memory", metavar="SIZE", help="with --dry-run: of a GPU, as in 40GiB (default: this machine's)")
    run.add_argument(
        "--out", type=Path, metavar="DIR", help=f"where results go (default: {DEFAULT_FOLDER}/<the study's name>)"
    )
    run.add_argument(
        "--hosts", metavar="A,B,...", help="the nodes, which see the same folders; ranks meet on the first"
    )
    run.add_argument(
        "--shell", metavar="COMMAND", help="what starts a command on {host}, the {index}-th (default: ssh)"
    )
    run.add_argument("--fabric", metavar="RATE", help="what the network between nodes carries one way, as in 25GB/s")
    run.add_argument("--retry-failed", action="store_true", help="run those again that failed or ran out of memory")
    run.set_defaults(verb=_run)
    report = verbs.add_parser("report", help="say what the results of a study are")
    report.add_argument("results", nargs="?", type=Path, metavar="PATH", help="a study's folder, file or export")
    report.add_argument("--format", choices=FORMATS, default="terminal")
    report.set_defaults(verb=_report)
    export = verbs.add_parser("export", help="write the tables of a study as Parquet or CSV")
    export.add_argument("results", nargs="?", type=Path, metavar="PATH")
    export.add_argument("--format", choices=("parquet", "csv"), default="parquet")
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.set_defaults(verb=_export)


def run(args: argparse.Namespace) -> int:
    """Do it; what cannot be done raises ShardprofError."""
    try:
        return int(args.verb(args))
    except ModuleNotFoundError as error:
        raise ShardprofError(f"a study needs {error.name}", "pip install 'shardprof[study]'") from error


def _run(args: argparse.Namespace) -> int:
    from shardprof.study.bench.hosts import hosts_of
    from shardprof.study.bench.plan import plan
    from shardprof.study.bench.runner import StudyFolder, obstacles, pending
    from shardprof.study.quantities import bandwidth_bytes_per_s, size_bytes

    hosts = hosts_of(args.hosts, args.shell)
    planned = plan(args.study, hosts, bandwidth_bytes_per_s(args.fabric) if args.fabric else None)
    folder = StudyFolder(root=(args.out or DEFAULT_FOLDER / planned.located.file.study.name).absolute())
    left = pending(planned, folder, again=args.retry_failed)
    in_the_way = obstacles(planned, left, folder)
    if args.dry_run:
        _show(planned, left, in_the_way, size_bytes(args.memory) if args.memory else None)
        return _REFUSED if in_the_way else 0
    if in_the_way:
        raise in_the_way[0]
    hosts.check(max((one.cell.nodes for one in left), default=0))
    with folder.held():
        try:
            failed = _train(planned, folder, hosts, again=args.retry_failed)
        except KeyboardInterrupt:
            sys.stderr.write("\nshardprof: interrupted; the same command goes on with what is left\n")
            return _INTERRUPTED
    say(f"results: {folder.root}; next: shardprof bench report {folder.root}")
    return 1 if failed else 0


def _show(planned: Plan, left: Sequence[Planned], in_the_way: Sequence[StudyError], memory_bytes: int | None) -> None:
    from shardprof.study.bench.fits import fits
    from shardprof.study.render import plan as rendering

    rendering.render(planned, left, fits(planned, memory_bytes), in_the_way, sys.stdout)


def _train(planned: Plan, folder: StudyFolder, hosts: Hosts, *, again: bool) -> int:
    from shardprof.study.bench.runner import pending, run
    from shardprof.study.render.progress import follow

    left = pending(planned, folder, again=again)
    there = {one.trial_id for one in planned.order} - {one.trial_id for one in left}
    trials = run(planned, left, folder, hosts)
    before = [trial for trial in folder.store.trials() if trial.trial_id in there]
    return follow(left, trials, before, sys.stdout)


def _report(args: argparse.Namespace) -> int:
    from shardprof.study.conclusions import conclude
    from shardprof.study.render import html, json, markdown, terminal

    outputs = {"terminal": terminal, "markdown": markdown, "html": html, "json": json}
    outputs[args.format].render(conclude(_store(args.results).trials()), sys.stdout)
    return 0


def _export(args: argparse.Namespace) -> int:
    for file in _store(args.results).export(args.out, args.format):
        say(str(file))
    return 0


def _store(path: Path | None) -> Store:
    """The results in a path; without one those of the newest study."""
    from shardprof.study.store import RESULTS_FILE, store_in

    if path is None:
        found = sorted(DEFAULT_FOLDER.glob(f"*/{RESULTS_FILE}"), key=lambda file: file.stat().st_mtime)
        if not found:
            raise ShardprofError(
                f"no study in {DEFAULT_FOLDER}", "name one, or run one: shardprof bench run STUDY.toml"
            )
        path = found[-1]
    return store_in(path)
