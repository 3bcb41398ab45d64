"""A study's report in the terminal, as Markdown and as an HTML page: whole, safe, readable at every width."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import TextIO
from xml.etree import ElementTree

import pytest
from rich.cells import cell_len

from shardprof.study.conclusions import conclude
from shardprof.study.conclusions.study_report import StudyReport
from shardprof.study.render import html, markdown, terminal
from shardprof.study.results import FAILED, Figure, Trial
from tests.unit.studies import accuracies, cell, figure, losses, repeated, report, trial

STRATEGIES = (
    "ddp", "fsdp1-full", "fsdp1-grad-op", "fsdp1-hybrid", "fsdp2-full", "fsdp2-grad-op", "fsdp2-hybrid", "zero0",
    "zero1", "zero2", "zero3",
)  # fmt: skip
P50 = (figure("step_time", 100, "ms", "p50"),)
VOID = {"meta", "rect", "path", "br"}
HOSTILE = "<script>alert(1)</script> [bold red]\x1b[31m \u202e | `x` [a](http://b) \n# heading &amp;"
RENDERED = {"terminal": terminal.render, "markdown": markdown.render, "html": html.render}


def took(step_ms: float, repeat: int) -> Figure:
    """The median step of a repeat: the machine was a little slower in each than in the one before."""
    return figure("step_time", step_ms * 1.01**repeat, "ms", "p50")


def study(fabrics: int = 3) -> list[Trial]:
    """Eleven strategies, two of them tuned, at several fabrics, three repeats each; one trial failed."""
    made = []
    for at in range(fabrics):
        for index, name in enumerate((*STRATEGIES, "fsdp2-full", "zero2")):
            knobs = "small buckets" if index >= len(STRATEGIES) else "as shipped"
            step_ms = (1000 + 70 * index) * (1 + 3 / 10**at)
            of = cell(name, nodes=2, ranks=4, knobs=knobs)
            figures = (
                figure("cpu_rss", 0.5 + index / 50, "GiB"),
                figure("wire_bytes", 5e6 + index, "bytes"), figure("volume_ratio", 1.0, "x", "per_theory"),
                figure("mfu", None, "%", missing="the peak of this processor is not known"),
            )  # fmt: skip
            told = {
                "losses": losses(*[2 / i for i in range(1, 30)]),
                "accuracies": accuracies(0.5, 0.91), "report": report(compute=80, all_gather=step_ms - 90, idle=10),
            }  # fmt: skip
            for repeat in range(3):
                all_told = told | {"figures": (took(step_ms, repeat), *figures)}
                at_bytes = 1e6 * 10**at
                made.append(trial(of, repeat=repeat, study="two nodes", measured=all_told, fabric_bytes_per_s=at_bytes))
    lost = trial(cell("zero3", nodes=2, ranks=4), repeat=5, status=FAILED, reason=HOSTILE, fabric_bytes_per_s=1e6)
    return [*made, lost]


@pytest.fixture(scope="module")
def whole() -> StudyReport:
    return conclude(study())


def written(render: Callable[[StudyReport, TextIO], None], made: StudyReport) -> str:
    out = io.StringIO()
    render(made, out)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_terminal_keeps_to_its_width(whole: StudyReport, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = written(terminal.render, whole).splitlines()
    assert max(map(cell_len, lines)) <= width


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_figure_is_cut_where_a_terminal_is_narrow(
    whole: StudyReport, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = written(terminal.render, whole)
    table = text[text.index("step (ms)\n") :].splitlines()[2:15]
    for line in table:
        name = re.split(r"\s{2,}|\s(?=\d)", line.strip())[0]
        steps = [one.step_ns for one in whole.cells if one.name == name]
        assert len(steps) == 3, line
        assert all(re.search(rf"(?<!\d){step.value / 1e6:,.0f}(?!\d)", line) for step in steps if step), line
        assert line.count("(") == line.count(")")


def test_bars_are_as_long_as_their_figures(whole: StudyReport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    text = written(terminal.render, whole)
    lengths = [line.count("█") for line in text[text.index("samples/s)") :].splitlines()[1:14]]
    speeds = [one.step_ns.value for one in whole.rankings[0].ranked]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] / lengths[0] == pytest.approx(speeds[0] / speeds[-1], abs=0.03)


@pytest.mark.parametrize("name", RENDERED)
def test_the_most_important_comes_first_and_all_parts_are_there(whole: StudyReport, name: str) -> None:
    text = re.sub(r"\\|<[^>]*>", "", written(RENDERED[name], whole))
    parts = [
        "ddp is fastest", "Which to take", "Throughput and step time", "By fabric", "Said of FSDP and DeepSpeed",
        "What a step goes to", "Memory and network", "Convergence", "Failures and errors", "Is it fair",
        "Why, 8 Mbit/s", "Measured on", "the peak of this processor is not known",
    ]  # fmt: skip
    places = [text.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("name", RENDERED)
def test_what_files_and_trainings_say_is_not_obeyed(
    whole: StudyReport, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the reason of a failure, and as a name in tables, charts and sentences."""
    monkeypatch.setenv("COLUMNS", "100")
    told = {"figures": P50, "losses": losses(2.0, 1.0), "report": report(compute=9, all_reduce=1)}
    named = [trial(cell(of, knobs=HOSTILE), measured=told, study=HOSTILE) for of in ("ddp", "zero1")]
    for made in (whole, conclude(named)):
        text = written(RENDERED[name], made)
        assert "alert(1)" in text.replace("\\", "").replace("\n", "")
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\n# heading" not in text
        if name != "terminal":
            assert not re.search(r"(?<!\\)<script", text)
        if name == "html":
            assert Page(text).open == []
        if name == "terminal":
            assert max(map(cell_len, text.splitlines())) <= 100


def test_terminals_take_no_markup_from_data(whole: StudyReport) -> None:
    assert "[bold red]" in written(terminal.render, whole)


def test_markdown_tables_have_as_many_cells_in_every_row(whole: StudyReport) -> None:
    tables = re.split(r"\n\n+", written(markdown.render, whole))
    cells = [
        [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        for table in tables
        if table.startswith("|")
    ]
    assert len(cells) > 10
    assert all(len(set(table)) == 1 for table in cells)


class Page(HTMLParser):
    """The tags of a page, which have to be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(whole: StudyReport) -> None:
    text = written(html.render, whole)
    page = Page(text)
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object"}
    assert not any(name in attributes for _, attributes in page.tags for name in ("src", "href", "onload", "onclick"))
    assert "url(" not in text
    assert "@import" not in text


def test_every_chart_has_a_title_of_its_own(whole: StudyReport) -> None:
    page = Page(written(html.render, whole))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    named = [attributes["aria-labelledby"] for tag, attributes in page.tags if tag == "svg" and "role" in attributes]
    assert len(ids) == len(set(ids))
    assert named == ids
    assert len(named) >= 3 + 3 + 1 + 4  # throughput, composition, bandwidth, learning


def test_charts_show_the_figures(whole: StudyReport) -> None:
    """The bars of the first chart are as wide as throughputs are."""
    text = written(html.render, whole)
    drawing = ElementTree.fromstring(text[text.index("<svg") : text.index("</svg>") + len("</svg>")])
    widths = [float(bar.attrib["width"]) for bar in drawing.iter("rect")]
    speeds = [1 / one.step_ns.value for one in whole.rankings[0].ranked]
    assert [width / widths[0] for width in widths] == pytest.approx([speed / speeds[0] for speed in speeds], abs=1e-3)


def test_axes_have_round_values_inside_what_they_show(whole: StudyReport) -> None:
    """Steps against bandwidth take 1,000 to 8,000 ms."""
    text = written(html.render, whole)
    chart = text[text.index("Step time against bandwidth") :]
    drawing = ElementTree.fromstring(chart[chart.index("<svg") : chart.index("</svg>") + len("</svg>")])
    words = [label.text for label in drawing.iter("text")]
    assert [word for word in words if word and word.replace(",", "").isdigit()] == ["2,000", "5,000"]
    assert [word for word in words if word and word.endswith("bit/s")] == ["8 Mbit/s", "80 Mbit/s", "800 Mbit/s"]


@pytest.mark.parametrize("name", RENDERED)
def test_what_lost_efficiency_goes_to_is_told(name: str) -> None:
    """60 of 160 ms are lost: 40 to communication, 10 to idleness, 10 to compute."""
    trials = [
        trial(cell("ddp", ranks=ranks), measured={"report": made, "figures": P50})
        for ranks, made in ((2, report(compute=80, all_reduce=20)), (4, report(compute=90, all_reduce=60, idle=10)))
    ]
    text = re.sub(r"\s+", " ", written(RENDERED[name], conclude(trials)))
    assert (
        "in the median of 1 cell, go 67 % to exposed communication, 17 % to slower compute and 17 % to idleness."
        in text
    )


def terminal_at(width: int, trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> str:
    """The report in a terminal, its lines drawn together."""
    monkeypatch.setenv("COLUMNS", str(width))
    return re.sub(r"\s+", " ", written(terminal.render, conclude(trials)))


def test_what_is_won_is_no_part_of_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 of 100 ms are lost: 30 to communication, while compute wins 10."""
    trials = [
        trial(cell("ddp", ranks=ranks), measured={"report": made, "figures": P50})
        for ranks, made in ((2, report(compute=60, all_reduce=20)), (4, report(compute=50, all_reduce=50)))
    ]
    assert "in the median of 1 cell, go 100 % to exposed communication." in terminal_at(100, trials, monkeypatch)


def test_columns_that_a_narrow_terminal_drops_are_not_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    told = (figure("cpu_rss", 1, "GiB"), figure("wire_bytes", 1e6, "bytes"), figure("data_wait", 1, "ms"))
    trials = [
        one
        for name in ("fsdp2-grad-op-of-a-long-name", "ddp")
        for one in repeated(cell(name), [100, 103, 107], *told, measured={"figures": P50 + told})
    ]
    narrow, wide = (terminal_at(width, trials, monkeypatch) for width in (60, 160))
    ranking = slice(narrow.index("Throughput and step"), narrow.index("Said of FSDP"))
    assert "network: what a node sends to others" in wide
    assert "network: what a node sends to others" not in narrow[ranking]
    assert "to best: step time" in narrow[ranking]


@pytest.mark.parametrize("name", RENDERED)
def test_columns_of_which_nothing_is_known_are_not_explained(name: str) -> None:
    text = written(RENDERED[name], conclude(repeated(cell(), [100, 101, 102])))
    for said in ("/theory", "what a node sends", "under compute", "model states are"):
        assert said not in text[text.index("Throughput and step time") : text.index("Said of")]
    assert "to best" in text


@pytest.mark.parametrize("name", RENDERED)
def test_where_a_configuration_is_best_is_told_without_more(name: str) -> None:
    trials = [
        one
        for batch in (8, 16)
        for ranks in (1, 2)
        for strategy, step_ms in (("ddp", 100 + 10 * batch * ranks), ("zero1", 900))
        if (strategy, batch, ranks) != ("ddp", 16, 2)
        for one in repeated(cell(strategy, batch_size=batch, ranks=ranks), [step_ms] * 3)
    ]
    text = re.sub(r"\s+", " ", re.sub(r"\\|<[^>]*>", " ", written(RENDERED[name], conclude(trials))))
    decided = text[text.index("Which to take") : text.index("derived")]
    assert "batch 8, 1 rank or 2 ranks; batch 16, 1 rank" in decided
    assert "more" not in decided


def test_the_figures_of_many_situations_are_told_from_the_least_to_the_most(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [
        one
        for batch in (8, 16, 32, 64)
        for strategy, step_ms in (("ddp", 100), ("zero1", 200))
        for one in repeated(cell(strategy, batch_size=batch), [step_ms] * 3)
    ]
    assert "ddp throughput always 160 to 1,280 samples/s" in terminal_at(120, trials, monkeypatch)


@pytest.mark.parametrize("name", RENDERED)
def test_what_has_not_run_yet_is_counted(name: str) -> None:
    text = written(RENDERED[name], conclude(repeated(cell(), [100] * 2, planned=3)))
    assert "2 of 3 trials finished" in text
    assert "1 not run yet" in text


def test_only_a_study_has_a_scaling_efficiency(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = figure("scaling_efficiency", None, "%", missing="of several trainings: see bench report")
    alone = [trial(cell("ddp", ranks=2), 100, missing)]
    several = [*alone, trial(cell("ddp", ranks=4), 125, missing)]
    assert "no cells differ in their ranks only" in terminal_at(100, alone, monkeypatch)
    assert "scaling_efficiency" not in terminal_at(100, several, monkeypatch)


def agreeing(later: float) -> list[Trial]:
    """Losses that are the same for 50 steps and, after them, apart by so much."""
    ours, theirs = [1.0] * 60, [1.0] * 54 + [1.0 + later] * 6
    return [trial(cell(n), 100, measured={"losses": losses(*v)}) for n, v in (("ddp", ours), ("zero1", theirs))]


def test_losses_that_part_when_they_are_small_are_told_by_when(monkeypatch: pytest.MonkeyPatch) -> None:
    text = terminal_at(100, agreeing(0.5), monkeypatch)
    assert "over the first 50 steps they differ by 0 at most" in text
    assert "from step 55 of 60 on losses are further apart than that, first those of zero1 and ddp; what was" in text
    assert "They do over all 60 steps." in terminal_at(100, agreeing(1e-5), monkeypatch)


def test_one_step_is_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = [trial(cell(name), 100, measured={"losses": losses(1.0)}) for name in ("ddp", "zero1")]
    assert "in the first step they differ by" in terminal_at(100, trials, monkeypatch)


@pytest.mark.parametrize("name", RENDERED)
def test_a_study_of_nothing_says_so(name: str) -> None:
    text = written(RENDERED[name], conclude([]))
    assert "No training has ended yet, so there is nothing to compare." in text
    assert "Every trial finished" not in text
    failed = written(RENDERED[name], conclude([trial(cell(), status=FAILED, reason="no disk")]))
    assert "No training finished, so there is nothing to compare." in failed
    assert "no disk" in failed
    for said in ("Said of FSDP and DeepSpeed", "devices not told", "How sure"):
        assert said not in text + failed


@pytest.mark.parametrize("name", RENDERED)
def test_one_cell_alone_can_be_shown(name: str) -> None:
    text = written(RENDERED[name], conclude([trial(cell(), 100, measured={"figures": P50, "losses": losses(1.0)})]))
    assert "ddp is fastest" in text
    assert "160" in text  # samples a second


@pytest.mark.parametrize("name", RENDERED)
def test_batch_and_ranks_stand_against_throughput_where_they_vary(name: str) -> None:
    trials = [
        one
        for batch, ranks, step_ms in ((8, 2, 100), (16, 2, 150), (8, 4, 125))
        for one in repeated(cell("ddp", batch_size=batch, ranks=ranks), [step_ms] * 3)
    ]
    text = written(RENDERED[name], conclude(trials))
    assert "samples/s against batch, 2 ranks" in text
    assert "samples/s against ranks, batch 8" in text
    assert "weak scaling" in text
    assert "80 %" in text
    assert "By fabric" not in text
