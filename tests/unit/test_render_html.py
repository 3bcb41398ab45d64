"""The HTML page: self-contained, small, and nothing from a trace that becomes markup or leaves its place."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from shardprof import extras
from shardprof.analysis.comparing.compare import compare
from shardprof.analysis.comparing.measured import measured
from shardprof.analysis.result import CallSize, Nccl, NcclCalls, Notice, Result, Series, Step
from shardprof.analysis.summary import summarize
from shardprof.cli import main
from shardprof.errors import ShardprofError
from shardprof.render import html
from shardprof.render._compare import FORMATS
from shardprof.render._html import page as pages
from shardprof.render._html.waits import why_none
from shardprof.trace.quality import Quality

from .builders import always_on, collective, rank, result, step

TRACES = Path(__file__).parents[2] / "traces"
HOSTILE = "</script></style><img src=x onerror=alert(1)><a href='javascript:alert(2)'>{{ 7 * 7 }}&lt;\x1b[31m\u202e"
MB = 1_000_000

pytestmark = pytest.mark.skipif(pages.plotly_file() is None, reason="built without Plotly")


class Elements(HTMLParser):
    """The elements of a page with their attributes, and the texts of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.code: dict[str, list[str]] = {"script": [], "style": []}
        self.data = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = "data" if dict(attrs).get("type") == "application/json" else tag
        if self._inside in self.code:
            self.code[self._inside].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data += data
        elif self._inside in self.code:
            self.code[self._inside][-1] += data


def _page(of: Result) -> str:
    out = io.StringIO()
    html.render(of, out)
    return out.getvalue()


def _report(words: str = "shard", ranks: int = 2, steps: int = 3, **fields: Any) -> Result:
    """A report that has something for every section, and says `words` wherever a trace has a word."""
    sizes = (CallSize(payload_bytes=MB, calls=3, median_ns=900, transfer_ns=500, wait_ns=400, busbw_gbps=2.0),)
    waits = {"wait_ns": 4_000_000, "late_ns": 1_000_000}
    made = [
        dataclasses.replace(step(number, compute=60 + number, all_gather=40, idle=number % 3), **waits)
        for number in range(steps)
    ]
    series = Series(
        host=words, subject=words, rank=None, name="tx_bytes_per_s", times_ns=(10**18, 2 * 10**18), values=(1.0, 2.0)
    )
    notice = Notice(code=words, message=words, host=words, ranks=(0,), begin_ns=0, end_ns=1, steps=None)
    nccl = Nccl(source=words, calls=tuple(_nccl_calls(words)), unfinished=(), lost={}, timer_residual_ns=None)
    content: dict[str, Any] = {
        "nccl": nccl,
        "source": {"kind": "run", "command": words, "framework": words, "device_name": words, "paths": (words,),
                   "settings": {words: words, "strategy": words}, "versions": {words: words}, "exit_code": 3},
        "collectives": (collective("all_gather", words, [0, 1], sizes=sizes, calls=3, payload_bytes=3 * MB),),
        "series": (series,),
        "notices": (notice,),
        "quality": (Quality(code="recording_note", message=words),),
        "findings": (),
        "stragglers": (),
    }  # fmt: skip
    all_ranks = [rank(i, *made, host=f"{words}{i}", always_on=always_on(99, forward=3)) for i in range(ranks)]
    return result(*all_ranks, **(content | fields))


def _nccl_calls(words: str) -> Iterator[NcclCalls]:
    for power in range(10, 30, 2):
        yield NcclCalls(
            kind="all_gather", function=words, group=words, group_size=8, payload_bytes=2**power, algorithm=words,
            protocol=words, channels=4, transport=words, calls=100, median_ns=30_000, p99_ns=60_000,
            transfer_ns=20_000 + 2**power // 100, algbw_gbps=2**power / (20_000 + 2**power // 100),
            busbw_gbps=7 / 8 * 2**power / (20_000 + 2**power // 100),
        )  # fmt: skip


def _real(name: str) -> Result:
    return measured([TRACES / name]).result


def _hostile(value: Any) -> Any:
    """The same with every sentence, that is every text with a blank in it, hostile; names that code looks up stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {f.name: _hostile(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **changes)
    if isinstance(value, tuple):
        return tuple(map(_hostile, value))
    return HOSTILE if isinstance(value, str) and " " in value else value


@pytest.mark.parametrize("words", [HOSTILE, "plain"])
def test_what_a_trace_says_is_no_markup(words: str) -> None:
    tags = {tag for tag, _ in Elements(_page(_report())).found}
    page = Elements(_page(_report(words)))
    assert {tag for tag, _ in page.found} == tags
    assert not [name for _, attributes in page.found for name in attributes if name.startswith("on")]
    assert "<img" not in "".join(page.code["style"])
    assert "7 * 7" not in "".join(page.code["script"])
    assert not {"\x1b", "\u202e"} & set(_page(_report(words)))


def test_nor_are_findings_and_comparisons() -> None:
    tags = {tag for tag, _ in Elements(_page(_real("zero3-vit-2ranks"))).found}
    assert {tag for tag, _ in Elements(_page(_hostile(_real("zero3-vit-2ranks")))).found} <= tags
    a, b = ([measured([TRACES / name], with_work=True)] for name in ("fsdp2-vit-2ranks", "zero3-vit-2ranks"))
    found = []
    for comparison in (compare(a, b), _hostile(compare(a, b))):
        out = io.StringIO()
        FORMATS["html"](comparison, out)
        found.append({tag for tag, _ in Elements(out.getvalue()).found})
    assert found[0] == found[1]


def test_nothing_is_loaded_from_anywhere() -> None:
    page = Elements(_page(_real("fsdp2-vit-2ranks")))
    linked = [value for _, attributes in page.found for name, value in attributes.items() if name in ("src", "href")]
    assert [link for link in linked if not (link or "").startswith(("#", "data:"))] == []
    assert not re.search(r"@import|url\(", "".join(page.code["style"]))


def test_the_policy_names_what_runs_and_nothing_else() -> None:
    page = Elements(_page(_report(HOSTILE)))
    (policy,) = [a["content"] or "" for _, a in page.found if a.get("http-equiv") == "Content-Security-Policy"]
    allowed = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    assert allowed["default-src"] == ["'none'"]
    for kind in ("script", "style"):
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in page.code[kind]]
        assert sorted(allowed[f"{kind}-src"]) == sorted(f"'sha256-{digest}'" for digest in digests)
    assert not [name for _, attributes in page.found for name in attributes if name == "style"]


def test_charts_are_data_inside_their_element() -> None:
    page = Elements(_page(_report(HOSTILE)))
    charts = json.loads(page.data)
    assert len(charts) == sum("data-chart" in attributes for _, attributes in page.found)
    assert "<" not in page.data


def test_every_chart_has_its_table() -> None:
    text = _page(_real("zero3-vit-2ranks"))
    figures = re.findall(r"<figure>.*?</figure>", text, re.DOTALL)
    assert len(figures) > 10
    assert all(len(re.findall("<table>", figure)) == 1 for figure in figures)


def test_what_is_missing_is_said() -> None:
    alone = _report(series=(), nccl=None, collectives=())
    alone = dataclasses.replace(alone, ranks=alone.ranks[:1], stragglers=None, clock=None)
    bare = dataclasses.replace(alone.ranks[0], steps=(step(1, compute=5),))
    text = _page(
        dataclasses.replace(alone, ranks=(bare,), summary=summarize(dataclasses.replace(alone, ranks=(bare,))))
    )
    missing = text.partition("Not on this page")[2]
    for what in ("Communication", "Waits between ranks", "Memory and counters", "Volumes", "NCCL&#39;s own account"):
        assert what in missing


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([step(1, compute=5, all_reduce=2)] * 1, "they take captured steps of several ranks"),
        ([step(1, compute=5)] * 2, "no captured step holds communication"),
        ([step(1, compute=5, all_reduce=2)] * 2, "of no collective was more than one rank seen"),
        ([dataclasses.replace(step(1, compute=5, all_reduce=2), wait_ns=0)] * 2, "no rank waited for another"),
    ],
)
def test_why_there_are_no_waits(steps: list[Step], why: str) -> None:
    assert why in why_none(result(*(rank(i, one) for i, one in enumerate(steps))))


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("slowest step: 3", "Slowest step: 3."),
        ("all-gather +1 ms.", "All-gather +1 ms."),
        ("rank0.json.gz holds events", "rank0.json.gz holds events."),
        ("fp16 skips", "fp16 skips."),
    ],
)
def test_a_sentence_begins_large_unless_with_a_name(words: str, line: str) -> None:
    assert pages.sentence(words) == line


def test_the_page_does_not_send_to_itself() -> None:
    _, _, following = _page(_real("fsdp2-vit-2ranks")).rpartition("<h2>Next</h2>")
    assert "shardprof open" in following
    assert "--html" not in following


@pytest.mark.parametrize("options", [["--format", "json"], ["--out", "y.html"], ["--format", "terminal"]])
def test_html_takes_no_other_format_or_file(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ([*options, "--html", "x.html"], ["--html", "x.html", *options]):
        assert main(["report", str(TRACES / "fsdp2-vit-2ranks"), *command]) == 2
    assert "leave out --format and --out" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(TRACES / "fsdp2-vit-2ranks"), "--html", "/dev/full"]) == 2
    assert "/dev/full: No space left on device" in capsys.readouterr().err


def test_nothing_captured_is_a_page_too() -> None:
    text = _page(result(rank(0, always_on=always_on(99, forward=3)), source={"kind": "run"}))
    assert "No step was captured" in text
    assert "<script>" in text, "with its own script"


@pytest.mark.parametrize(("ranks", "steps"), [(1024, 10), (64, 300)])
def test_many_ranks_and_steps_stay_small(ranks: int, steps: int) -> None:
    names = (
        "memory_used_bytes", "power_w", "sm_clock_mhz", "temperature_c", "utilization_percent", "sm_active_percent",
        "tensor_active_percent", "dram_bandwidth_percent", "nvlink_tx_bytes_per_s", "nvlink_rx_bytes_per_s",
    )  # fmt: skip
    times = tuple(1_790_000_000_000_000_000 + i * 987_654_321 for i in range(300))
    values = tuple(123_456_789.0 * (1 + i % 7) for i in range(300))
    series = [
        Series(host=f"node-{i}", subject=f"gpu {i}", rank=i, name=name, times_ns=times, values=values)
        for name in (*names, "step_ns", "rss_bytes", "allocated_bytes", "reserved_bytes", "peak_allocated_bytes")
        for i in range(16)
    ]
    sizes = tuple(CallSize(payload_bytes=4096 * i, calls=3, median_ns=900, transfer_ns=i, wait_ns=4, busbw_gbps=2.0 * i)
                  for i in range(1, 40))  # fmt: skip
    groups = tuple(collective("all_gather", f"mesh_{i}", range(8), sizes=sizes, payload_bytes=1) for i in range(128))
    text = _page(_report(ranks=ranks, steps=steps, series=tuple(series), collectives=groups))
    assert len(text.encode()) < 3 * MB
    assert f"{ranks - 3:,} more ranks are not shown" in text


def test_it_is_written_whole_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "out.html"
    assert main(["report", str(TRACES / "fsdp2-vit-2ranks"), "--html", str(page)]) == 0
    assert re.fullmatch(rf"wrote {page} \(1\.\d\d MB\)\n", capsys.readouterr().out)
    assert [file.name for file in tmp_path.iterdir()] == ["out.html"]
    assert page.read_text().startswith("<!DOCTYPE html>")


def test_a_format_of_several_files_needs_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(TRACES / "fsdp2-vit-2ranks")
    assert main(["report", run, "--format", "csv"]) == 2
    assert "--out FOLDER" in capsys.readouterr().err
    assert main(["report", run, "--html", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert main(["report", str(TRACES / "fsdp2-vit-2ranks"), "--format", "markdown", "--out", str(pipe)]) == 0
    assert os.read(reader, 100).startswith(b"### shardprof")
    os.close(reader)
    assert pipe.is_fifo()
    assert main(["report", str(TRACES / "fsdp2-vit-2ranks"), "--html", str(tmp_path / "no" / "out.html")]) == 2
    assert "is no folder" in capfd.readouterr().err


def test_without_plotly_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "plotly_file", lambda: None)
    with pytest.raises(ShardprofError, match="npm"):
        _page(_report())


@pytest.mark.parametrize("command", [["report", "nothing"], ["compare", "nothing", "nothing"]])
def test_what_is_not_installed_is_told_before_anything_is_read(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pages, "plotly_file", lambda: None)
    assert main([*command, "--html", "out.html"]) == 2
    assert "npm" in capsys.readouterr().err
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    assert main([*command, "--format", "parquet", "--out", "out"]) == 2
    assert "shardprof[frames]" in capsys.readouterr().err


@pytest.mark.parametrize("focus", ["stragglers", "findings"])
@pytest.mark.parametrize("written", [["html"], ["csv", "--out", "out"], ["parquet", "--out", "out"], ["openmetrics"]])
def test_what_always_has_everything_shows_no_part(
    focus: str, written: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(TRACES / "fsdp2-vit-2ranks"), f"--{focus}", "--format", *written]) == 2
    told = capsys.readouterr()
    assert (told.out, f"leave --{focus} out" in told.err) == ("", True)


def test_counters_that_are_no_numbers_leave_the_charts_whole(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(TRACES / "fsdp2-vit-2ranks", run)
    (journal,) = run.glob("hosts/*/counters.jsonl")
    samples = [json.loads(line) for line in journal.read_text().splitlines()]
    nodes = [sample["values"]["node"] for sample in samples if "node" in sample.get("values", {})]
    for node, value in zip(nodes, (float("nan"), float("-inf"), 10**400), strict=False):
        node["memory_used_bytes"] = value
    journal.write_text("".join(f"{json.dumps(sample)}\n" for sample in samples))
    for name in ("html", "json"):
        assert main(["report", str(run), "--format", name, "--out", str(tmp_path / name)]) == 0
    told = json.loads((tmp_path / "json").read_text(), parse_constant=pytest.fail)
    assert json.loads(Elements((tmp_path / "html").read_text()).data, parse_constant=pytest.fail)
    (memory,) = [one for one in told["series"] if (one["subject"], one["name"]) == ("node", "memory_used_bytes")]
    assert memory["values"] == [node["memory_used_bytes"] for node in nodes[3:]]


def test_it_is_utf_8_wherever_it_goes() -> None:
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "shardprof", "report", str(TRACES / "fsdp2-vit-2ranks"), "--format", "html"]
    done = subprocess.run(command, env={**os.environ, **ascii_only}, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    page = Elements(done.stdout.decode("utf-8"))
    (policy,) = [a["content"] or "" for _, a in page.found if a.get("http-equiv") == "Content-Security-Policy"]
    for text in page.code["script"]:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_the_mean_is_of_ranks_that_have_steps() -> None:
    known = [rank(i, step(1, compute=5 + i), step(2, compute=9)) for i in range(2)]
    text = _page(result(*known, rank(2, always_on=always_on(99, forward=3)), source={"kind": "run"}))
    assert "<option>mean of 2 ranks</option>" in text


def test_names_of_any_length_stay_small() -> None:
    long = "very_long_name" * 10_000
    text = _page(_report(long, ranks=16))
    assert len(text.encode()) < 3 * MB
    assert f"{long[:300]}" in text
    assert f"{long[:1000]}" not in text
    settings = {f"setting {i}": i for i in range(100)}
    assert "36 rows more in --format json" in _page(_report(source={"kind": "run", "settings": settings}))
