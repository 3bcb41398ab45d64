"""What the tests share: traces made by hand, and what the real command line says of a path."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from shardprof import cli

# The same examples on every run, however slow the machine.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("steady")

# A report that was kept would hide what the code under test makes of a trace.
os.environ["SHARDPROF_CACHE"] = "0"

BASE_NS = 1_790_857_026_000_000_000
MAIN, WORKER, COMM = 1, 2, 9
"""Threads of a hand-made trace: the one that trains, another, and the one that gloo transfers on."""


@dataclass
class Trace:
    """A Kineto trace, an event at a time. Times are nanoseconds since the trace's base, small enough for JSON."""

    header: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    def event(self, name: str, begin: int, end: int, *, cat: str = "cpu_op", tid: Any = MAIN, **args: Any) -> Trace:
        """Any event with a duration; an underscore in an argument's name stands for a space."""
        arguments = {key.replace("_", " "): value for key, value in args.items()}
        times = {"ts": begin / 1000, "dur": (end - begin) / 1000}
        self.events.append({"ph": "X", "cat": cat, "name": name, "pid": 1, "tid": tid, **times, "args": arguments})
        return self

    def step(self, number: int, begin: int, end: int) -> Trace:
        """A ProfilerStep range."""
        return self.event(f"ProfilerStep#{number}", begin, end, cat="user_annotation")

    def kernel(self, name: str, begin: int, end: int, *, stream: int = 7, cat: str = "kernel", **args: Any) -> Trace:
        """A device activity."""
        return self.event(name, begin, end, cat=cat, tid=stream, stream=stream, **args)

    def launch(self, correlation: int, begin: int) -> Trace:
        """The CPU call that launches the activity of that correlation."""
        return self.event("cudaLaunchKernel", begin, begin + 1, cat="cuda_runtime", correlation=correlation)

    def next_batch(self, begin: int, end: int, *, tid: int = MAIN) -> Trace:
        """The DataLoader's `__next__`."""
        name = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
        return self.event(name, begin, end, cat="user_annotation", tid=tid)

    def in_group(self, name: str, begin: int, end: int) -> Trace:
        """The range in which recording wraps a collective's call."""
        return self.event(f"shardprof::group {name}", begin, end, cat="user_annotation")

    def call(self, name: str, begin: int, *shapes: list[Any]) -> Trace:
        """A c10d call that launches a collective."""
        return self.event(f"c10d::{name}", begin, begin + 2, **({"Input_Dims": list(shapes)} if shapes else {}))

    def transfer(self, name: str, begin: int, end: int, elements: int = 0, *, tid: int = COMM) -> Trace:
        """A gloo transfer of floats."""
        shapes = {"Input_Dims": [[elements]], "Input_type": ["float"]} if elements else {}
        return self.event(f"gloo:{name}", begin, end, tid=tid, **shapes)

    def text(self) -> str:
        """The trace as Kineto would write it."""
        return json.dumps({"baseTimeNanoseconds": BASE_NS, **self.header, "traceEvents": self.events})

    def write(self, path: Path) -> Path:
        """The trace as a file, compressed where its name says so."""
        path.parent.mkdir(parents=True, exist_ok=True)
        data = self.text().encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
        return path


def distributed_info(rank: int, *group_ranks: list[int], world_size: int | None = None) -> dict[str, Any]:
    """A trace's header: the rank, and its process groups named "0", "1", ..."""
    groups = [
        {"pg_name": str(i), "pg_desc": "default_pg" if i == 0 else f"mesh_{i}", "pg_size": len(ranks), "ranks": ranks}
        for i, ranks in enumerate(group_ranks)
    ]
    info = {"backend": "gloo", "rank": rank, "world_size": world_size or len(group_ranks[0]), "pg_config": groups}
    return {"distributedInfo": info}


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[..., dict[str, Any]]:
    """Runs `shardprof report PATH... --format json` and returns what it wrote."""

    def run(*paths: Path) -> dict[str, Any]:
        code = cli.main(["report", *map(str, paths), "--format", "json"])
        captured = capsys.readouterr()
        assert code == 0, captured.err
        assert captured.err == ""
        result: dict[str, Any] = json.loads(captured.out)
        return result

    return run


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs `shardprof report PATH...` on what cannot be read and returns the one line that it says."""

    def run(*paths: Path) -> str:
        code = cli.main(["report", *map(str, paths)])
        captured = capsys.readouterr()
        assert (code, captured.out) == (2, "")
        (line,) = captured.err.splitlines()
        assert line.startswith("shardprof: ")
        return line

    return run


@pytest.fixture
def trace(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> Callable[[Trace], dict[str, Any]]:
    """Reports a hand-made trace of one rank; the result is that rank, with the whole report under "report"."""

    def run(made: Trace) -> dict[str, Any]:
        whole = report(made.write(tmp_path / "trace.json"))
        (rank,) = whole["ranks"]
        return {**rank, "report": whole}

    return run
