"""What a notebook and a shell show of runs and comparisons: the report's figures, and no markup of a trace's."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import shardprof
from shardprof import cli
from shardprof.errors import ShardprofError
from shardprof.render._notebook import breakdown_html, report_html

from .builders import rank, result, step

pl = pytest.importorskip("polars", reason="the extra 'frames' is not installed")

TRACES = Path(__file__).parents[2] / "traces"
FSDP2, ZERO3 = TRACES / "fsdp2-vit-2ranks", TRACES / "zero3-vit-2ranks"
HOSTILE = "<script>alert(1)</script>\"'&\x1b[31m"
ALLOWED = {
    "div", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "ol", "li", "code", "details", "summary"
}  # fmt: skip


class Checked(HTMLParser):
    """Reads HTML and fails where a tag is not closed, or could do more than show something."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.bars: list[list[float]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        assert {name for name, _ in attrs} <= {"style", "title", "role", "aria-label"}
        given = dict(attrs)
        assert "url(" not in str(given.get("style"))
        self.open.append(tag)
        if given.get("role") == "img":
            self.bars.append([])
        if width := re.match(r"width:([\d.]+)%", str(given.get("style"))):
            self.bars[-1].append(float(width[1]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_run_is_its_verdict_its_bars_and_what_to_change() -> None:
    run = shardprof.load(FSDP2)
    shown = Checked(run._repr_html_())
    for line in run.headline.splitlines()[:1]:
        assert line in shown.text
    assert "torch.optim.AdamW(model.parameters(), fused=True)" in shown.text
    summary = run.result.summary
    assert summary is not None
    shares = [[100 * of.share(group) for group in ("compute", "communication", "data_loading", "idle")]
              for of in summary.ranks]  # fmt: skip
    assert shown.bars == [pytest.approx(of_rank, abs=1e-3) for of_rank in shares]
    assert [sum(bar) for bar in shown.bars] == pytest.approx([100, 100], abs=0.01)


def test_the_bars_of_a_run_made_by_hand() -> None:
    shown = Checked(report_html(result(rank(0, step(7, compute=60, all_gather=25, broadcast=5, idle=10)))))
    assert shown.bars == [[60, 30, 10]]


def test_a_run_without_captured_steps_shows_words() -> None:
    shown = Checked(report_html(result(rank(0))))
    assert shown.bars == []
    assert "Nothing to explain" in shown.text


def test_what_a_trace_says_is_no_markup() -> None:
    ranks = [rank(i, step(7, compute=60, all_gather=40), host=f"{HOSTILE}{i}") for i in range(2)]
    html = report_html(result(*ranks, source={"paths": (HOSTILE,)}))
    shown = Checked(html)
    assert "<script>alert(1)</script>\"'&\\x1b[31m" in shown.text
    assert "\x1b" not in html


def test_many_ranks_are_cut_short() -> None:
    shown = Checked(report_html(result(*(rank(i, step(7, compute=60, idle=40)) for i in range(100)))))
    assert len(shown.bars) <= 64


def test_a_breakdown_is_a_frame_with_bars() -> None:
    run = shardprof.load(FSDP2)
    frame = run.breakdown()
    shown = frame._repr_html_()
    assert isinstance(frame, pl.DataFrame)
    assert pl.DataFrame(frame)._repr_html_() in shown
    told = Checked(shown[: shown.index(pl.DataFrame(frame)._repr_html_())])
    row = frame.row(0, named=True)
    copies_ns = row["busy_ns"] - row["compute_ns"] - row["exposed_comm_ns"]
    parts_ns = [row["compute_ns"], row["exposed_comm_ns"], copies_ns, row["idle_ns"]]
    assert sum(parts_ns) == row["span_ns"]
    assert told.bars[0] == pytest.approx([100 * part_ns / row["span_ns"] for part_ns in parts_ns if part_ns], abs=1e-3)
    chosen = frame.select("rank", "busy_pct")
    assert chosen._repr_html_() == pl.DataFrame(chosen)._repr_html_(), "without its columns it is a table"
    assert chosen.columns == ["rank", "busy_pct"]
    assert frame.filter(pl.col("rank") == 1).height == 1


def test_the_bars_of_a_breakdown_made_by_hand() -> None:
    busy = {"rank": 0, "span_ns": 200, "busy_ns": 160, "idle_ns": 40, "compute_ns": 100, "exposed_comm_ns": 40}
    empty = dict.fromkeys(busy) | {"rank": 1}
    shown = Checked(breakdown_html(HOSTILE, [busy, empty]))
    assert shown.bars == [[50, 20, 10, 20], []]
    assert "nothing ran" in shown.text


def test_a_comparison_is_what_the_command_says(capsys: pytest.CaptureFixture[str]) -> None:
    compared = shardprof.compare(FSDP2, ZERO3)
    assert cli.main(["compare", str(FSDP2), str(ZERO3), "--format", "json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert json.loads(json.dumps(dataclasses.asdict(compared))) == said
    title, verdict, *_ = repr(compared).splitlines()
    assert title == "fsdp2-vit-2ranks → zero3-vit-2ranks"
    shown = Checked(compared._repr_html_())
    assert verdict in shown.text
    assert len(shown.bars) >= 4


def test_runs_paths_and_groups_compare_alike() -> None:
    loaded = shardprof.load(FSDP2)
    expected = shardprof.compare(FSDP2, ZERO3)
    assert shardprof.compare(loaded, str(ZERO3)) == expected
    assert shardprof.compare([loaded], [ZERO3]) == expected
    assert len(shardprof.compare([loaded, FSDP2], ZERO3).a.paths) == 2


@pytest.mark.parametrize("sides", [([], FSDP2), (FSDP2, [])])
def test_a_side_without_a_run_is_refused(sides: tuple[object, object]) -> None:
    with pytest.raises(ShardprofError, match="two runs are compared"):
        shardprof.compare(*sides)  # type: ignore[arg-type]


def test_each_bar_of_a_waterfall_begins_where_the_one_before_ends() -> None:
    compared = shardprof.compare(FSDP2, ZERO3)
    first, *changes, last = Checked(compared._repr_html_()).bars
    at = first[1]
    for gap, width in changes:
        assert at == pytest.approx(gap, abs=0.01) or at == pytest.approx(gap + width, abs=0.01)
        at = gap + width if at == pytest.approx(gap, abs=0.01) else gap
    assert at == pytest.approx(last[1], abs=0.1)
