"""The recorded runs in traces/: each reports what stands in its expected.json, and other tools can open it.

An expected.json is `shardprof report traces/<run> --format json`, run in the checkout; that is also how it is renewed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from shardprof.cli import main

CHECKOUT = Path(__file__).parents[2]
RUNS = sorted(folder.parent for folder in (CHECKOUT / "traces").glob("*/run.json"))


def test_there_are_runs_to_check() -> None:
    assert {run.name for run in RUNS} >= {"fsdp2-vit-2ranks", "zero3-vit-2ranks"}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_the_report_is_the_expected_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CHECKOUT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(["report", str(run.relative_to(CHECKOUT)), "--format", "json"]) == 0
    assert json.loads(printed.getvalue()) == json.loads((run / "expected.json").read_text())


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_slices_nest_on_every_thread(run: Path) -> None:
    # Perfetto's importer drops a slice that begins inside another one and ends outside it.
    for file in run.glob("ranks/*/trace.json.gz"):
        with gzip.open(file, "rt") as text:
            events = json.load(text)["traceEvents"]
        threads = defaultdict(list)
        for event in events:
            if event["ph"] == "X":
                threads[event["pid"], event["tid"]].append(event)
        for slices in threads.values():
            assert_nested(slices)


def assert_nested(slices: Iterable[dict[str, Any]]) -> None:
    open_until: list[float] = []
    for event in sorted(slices, key=lambda event: (event["ts"], -event["dur"])):
        end = event["ts"] + event["dur"]
        while open_until and open_until[-1] <= event["ts"]:
            open_until.pop()
        assert not open_until or end <= open_until[-1] + 0.001, event["name"]
        open_until.append(end)


@pytest.mark.filterwarnings("ignore")  # HTA's own
@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.name)
def test_hta_finds_the_ranks_and_the_steps(run: Path, tmp_path: Path) -> None:
    hta = pytest.importorskip("hta.trace_analysis", reason="the extra 'hta' is not installed")
    for file in run.glob("ranks/*/trace.json.gz"):
        (tmp_path / f"{file.parent.name}.json.gz").symlink_to(file)
    analysis = hta.TraceAnalysis(trace_dir=str(tmp_path))
    expected = json.loads((run / "expected.json").read_text())["ranks"]
    assert sorted(analysis.t.get_all_traces()) == [rank["rank"] for rank in expected]
    # HTA leaves the last step out.
    assert analysis.get_profiler_steps() == [step["step"] for step in expected[0]["steps"]][:-1]
