"""The HTML pages in a real browser: nothing complains, nothing is fetched, and what they show is what the JSON says."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shardprof.cli import main
from shardprof.render._html.page import plotly_file
from shardprof.trace.classes import CLASSES

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
CHECKOUT = Path(__file__).parents[2]
SHARED = CHECKOUT.parent / "shared" / "traces"
RECORDED = sorted(folder.parent for folder in (CHECKOUT / "traces").glob("*/run.json"))
OTHERS = [
    path
    for path in (
        SHARED / "dlrm-8rank-v100",
        SHARED / "mi300-ddp",
        SHARED / "ddp-nccl-metadata-a100",
        SHARED / "h100-single",
        SHARED / "dataloader-bound" / "workers0.json.gz",
    )
    if path.exists()
]
UNITS = {"ns": 1, "µs": 1e3, "ms": 1e6, "s": 1e9, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(CHROMIUM is None or plotly_file() is None, reason="needs Chromium and Plotly"),
]


@dataclass
class Shown:
    """A page that is open, and what the browser had to say of it."""

    page: Any
    complaints: list[str]
    requests: list[str]

    def tables(self) -> dict[str, tuple[list[str], list[list[str]]]]:
        """Columns and rows of the tables of the charts, by the charts' titles."""
        found: dict[str, tuple[list[str], list[list[str]]]] = self.page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll("figure")].map(figure => [
                figure.querySelector("figcaption").textContent, [
                [...figure.querySelectorAll("thead th")].map(cell => cell.textContent),
                [...figure.querySelectorAll("tbody tr")]
                    .map(row => [...row.children].map(cell => cell.textContent))]]))"""
        )
        return found

    def overflow(self) -> int:
        """How much wider than the window the page is."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return width


@pytest.fixture(autouse=True)
def nothing_runs_on() -> None:
    """In place of the one that ends every process after a test: the browser serves them all."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Shown]]:
    opened = []

    def run(file: Path, width: int = 1440, scheme: str = "light") -> Shown:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown = Shown(page, [], [])
        opened.append(page)
        page.on("console", lambda said: shown.complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        page.on("request", lambda request: shown.requests.append(request.url))
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-drawn]")
        return shown

    yield run
    for page in opened:
        page.close()


def written(folder: Path, *arguments: object) -> Path:
    file = folder / "page.html"
    assert main([*map(str, arguments), "--html", str(file)]) == 0
    return file


def saved(folder: Path, *arguments: object) -> dict[str, Any]:
    file = folder / "saved.json"
    assert main([*map(str, arguments), "--format", "json", "--out", str(file)]) == 0
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@pytest.fixture(scope="module")
def fsdp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("fsdp"), "report", CHECKOUT / "traces" / "fsdp2-vit-2ranks")


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("compare"), "compare", *RECORDED[:2])


def is_told(cell: str, value: float, unit: str) -> bool:
    """Whether a cell of a table is this value, to its last digit."""
    if cell.startswith("<"):
        return 0 < value / UNITS[unit] < float(cell[1:])
    digits = len(cell.partition(".")[2])
    return math.isclose(float(cell.replace(",", "")), value / UNITS[unit], abs_tol=0.501 * 10**-digits)


def class_of(column: str) -> str:
    words = {"point-to-point": "p2p", "other communication": "other_comm", "memory copies": "memcpy"}
    name = column.partition(" (")[0]
    return words.get(name, "memset" if name == "memory sets" else name.replace("-", "_").replace(" ", "_"))


@pytest.mark.parametrize("run", [*RECORDED, *OTHERS], ids=lambda run: run.name)
def test_the_figures_are_those_of_the_json(run: Path, tmp_path: Path, show: Callable[..., Shown]) -> None:
    report = saved(tmp_path, "report", run)
    shown = show(written(tmp_path, "report", run))
    assert shown.complaints == []
    assert [url for url in shown.requests if not url.startswith(("file:", "data:"))] == []
    tables = shown.tables()
    of_rank = {
        rank["rank"]: [step["partition_ns"] for step in rank["steps"] if not step["empty"]] for rank in report["ranks"]
    }
    window = report["summary"]["window"]
    columns, rows = tables[f"Mean {window} of each rank"]
    assert [int(row[0].split()[0]) for row in rows] == [rank for rank, steps in of_rank.items() if steps]
    unit = columns[1].partition("(")[2].rstrip(")")
    for row in rows:
        steps = of_rank[int(row[0])]
        for name in CLASSES:
            mean = sum(step.get(name, 0) for step in steps) / len(steps)
            told = [cell for column, cell in zip(columns[1:], row[1:], strict=True) if class_of(column) == name]
            assert is_told(told[0], mean, unit) if told else not mean
    check_sizes(report, tables)
    check_volumes(report, tables)
    check_waits(report, shown)
    check_drawn(report, shown)
    zeros = shown.page.evaluate(
        """() => [...document.querySelectorAll(".chart")].flatMap(chart => chart.data)
            .filter(part => part.text).flatMap(part => part.text.filter((text, i) =>
                /^-?[0.]+$/.test(text) && (part.orientation === "h" ? part.x : part.y)[i]))"""
    )
    assert zeros == [], "what is not nothing is not written as such"


def check_sizes(report: dict[str, Any], tables: dict[str, tuple[list[str], list[list[str]]]]) -> None:
    sizes = [size for row in report["collectives"] for size in row["sizes"]]
    if not any(size["busbw_gbps"] for size in sizes):
        assert "Bus bandwidth by size of calls" not in tables
        return
    columns, rows = tables["Bus bandwidth by size of calls"]
    found = [(row[columns.index("bytes a call")], row[columns.index("calls")]) for row in rows]
    assert sorted(found) == sorted(
        ("unknown" if size["payload_bytes"] is None else f"{size['payload_bytes']:,}", f"{size['calls']:,}")
        for size in sizes
    )


def check_volumes(report: dict[str, Any], tables: dict[str, tuple[list[str], list[list[str]]]]) -> None:
    if not report["volumes"]:
        return
    _, rows = tables["Bytes that a rank sends in a step"]
    total = report["volumes"]["total"]
    for cell, name in zip(rows[-1][1:4], ("theory_bytes", "expected_bytes", "measured_bytes"), strict=True):
        assert not cell if total[name] is None else is_told(*cell.split()[:1], total[name], cell.split()[1])


def check_waits(report: dict[str, Any], shown: Shown) -> None:
    waits = {
        (rank["rank"], step["step"]): step["wait_ns"]
        for rank in report["ranks"]
        for step in rank["steps"]
        if not step["empty"] and step["wait_ns"] is not None
    }
    heat = shown.page.locator("table.heat").first
    if not any(waits.values()):
        assert heat.count() == 0
        return
    head, *steps = heat.locator("thead th").all_inner_texts()
    for row in heat.locator("tbody tr").all():
        rank = int(row.locator("th").inner_text().removeprefix("rank "))
        for step, cell in zip(steps, row.locator("td").all_inner_texts(), strict=True):
            assert is_told(cell, waits[rank, int(step)], head.split()[0])


def check_drawn(report: dict[str, Any], shown: Shown) -> None:
    """What Plotly was given of the slowest step and the median one."""
    slower = [value for value in report["summary"]["steps"]["slower_ns"].values() if value]
    figure = shown.page.locator("figure", has_text="The slowest step").first
    if report["summary"]["window"] != "step" or not slower:
        assert figure.count() == 0
        return
    unit = figure.locator(".xtitle").text_content()
    drawn = figure.locator(".chart").evaluate("chart => chart.data.flatMap(part => part.x).filter(Number.isFinite)")
    assert sorted(drawn) == pytest.approx(sorted(value / UNITS[unit] for value in slower))


@pytest.mark.parametrize("width", [375, 900, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_the_window_in_both_schemes(
    fsdp: Path, comparison: Path, show: Callable[..., Shown], width: int, scheme: str
) -> None:
    for file in (fsdp, comparison):
        shown = show(file, width, scheme)
        assert shown.complaints == []
        assert shown.overflow() <= 0
        ground = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
        text = shown.page.locator(".xtick text").first.evaluate("label => getComputedStyle(label).fill")
        assert (brightness(ground) > brightness(text)) == (scheme == "light")


def until(page: Any, condition: str, given: object = None) -> None:
    """Wait for something; Playwright's own way needs an eval in the page, which its policy forbids."""
    deadline = time.monotonic() + 20
    while not page.evaluate(condition, given):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)


def brightness(colour: str) -> int:
    """Of "rgb(1, 2, 3)"."""
    return sum(map(int, colour.partition("(")[2].rstrip(")").split(",")))


def test_the_charts_follow_the_scheme_and_the_paper(fsdp: Path, show: Callable[..., Shown]) -> None:
    page = show(fsdp, 1440, "light").page
    label = page.locator(".xtick text").first
    light = label.evaluate("label => getComputedStyle(label).fill")
    page.emulate_media(color_scheme="dark")
    until(page, "light => getComputedStyle(document.querySelector('.xtick text')).fill !== light", light)
    page.emulate_media(media="print")
    until(page, "document.querySelector('.main-svg').getAttribute('width') === '680'")
    assert brightness(page.evaluate("getComputedStyle(document.body).backgroundColor")) == 3 * 255
    assert page.locator("details:not([open])").count() == 0, "every table is on paper"
    page.emulate_media(media="screen")
    until(page, "document.querySelector('.main-svg').getAttribute('width') !== '680'")
    assert page.locator("details[open]").count() == 0
    page.set_viewport_size({"width": 375, "height": 800})
    until(page, "Number(document.querySelector('.main-svg').getAttribute('width')) < 375")


def test_the_keyboard_gets_everywhere(fsdp: Path, show: Callable[..., Shown]) -> None:
    page = show(fsdp).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    summary = page.locator("figure summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("figure details").first.get_attribute("open") is not None
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "scroll", "what scrolls can be scrolled"
    chosen = page.locator("select").first
    before = page.evaluate("document.querySelectorAll('.chart')[1].data[0].y.join()")
    chosen.focus()
    page.keyboard.press("ArrowDown")
    until(page, "before => document.querySelectorAll('.chart')[1].data[0].y.join() !== before", before)


def test_hostile_names_stay_text(tmp_path: Path, show: Callable[..., Shown]) -> None:
    run = tmp_path / "run"
    shutil.copytree(CHECKOUT / "traces" / "fsdp2-vit-2ranks", run)
    hostile = "<a href='javascript:alert(1)'>x</a><img src=x onerror=alert(2)></script>"
    for file in run.glob("hosts/*/counters.jsonl"):
        file.write_text(file.read_text().replace('"lo"', json.dumps(hostile)))
    shown = show(written(tmp_path, "report", run))
    assert shown.complaints == []
    assert shown.page.locator("a:not([href^='#']), img, svg a").count() == 0
    assert hostile in shown.page.locator(".legendtext").all_text_contents()


def test_a_comparison_shows_both_sides(comparison: Path, tmp_path: Path, show: Callable[..., Shown]) -> None:
    compared = saved(tmp_path, "compare", *RECORDED[:2])
    shown = show(comparison)
    assert shown.complaints == []
    columns, rows = shown.tables()["The mean step of both"]
    unit = columns[1].partition("(")[2].rstrip(")")
    parts = {part["name"]: part for part in compared["waterfall"] if part["a_ns"] or part["b_ns"]}
    assert {class_of(row[0]) for row in rows} == set(parts)
    for name, *cells in rows:
        part = parts[class_of(name)]
        for cell, value in zip(cells, (part["a_ns"], part["b_ns"], part["change_ns"]), strict=True):
            assert is_told(cell, abs(value) if cell.startswith("<") else value, unit)
    drawn = shown.page.evaluate("document.querySelector('.chart').data.flatMap(part => part.x).filter(Number.isFinite)")
    a_ns, b_ns = compared["a"]["mean_ns"], compared["b"]["mean_ns"]
    assert drawn[:2] == pytest.approx([a_ns / UNITS[unit], b_ns / UNITS[unit]])
