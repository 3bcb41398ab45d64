"""The documentation as a site: it builds, its links lead somewhere, its commands are real, and print what it says."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shardprof import cli
from shardprof.analysis.report import analyse
from shardprof.analysis.rules._case import Case
from shardprof.errors import UnreadableTraceError
from shardprof.trace.importers.kineto import read_kineto
from shardprof.trace.run import load

from .docs_blocks import Block, blocks, commands, refused

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
CONFIG = DOCS / "site" / "mkdocs.yml"
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*DOCS.rglob("*.md"), ROOT / "README.md"])
ADD_PAGES = [page for page in PAGES if page.startswith("docs/add/")]
COLUMNS = 100
LEFT_OUT = "..."
LARGEST_PICTURE_BYTES = 150_000


def of(page: str, *languages: str) -> list[Block]:
    return [block for block in blocks((ROOT / page).read_text()) if block.language in languages]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", CONFIG, "--site-dir", out]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stderr  # pages that no link and no navigation reaches fail it, too
    return out


def test_every_page_and_every_command_has_its_place(site: Path) -> None:
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    expected = {
        page.replace(".md", ".html") for page in pages | {f"commands/{name}.md" for name in cli.command_names()}
    }
    assert expected - {path.relative_to(site).as_posix() for path in site.rglob("*.html")} == set()


def test_a_page_of_a_command_says_what_its_help_says(site: Path) -> None:
    page = (site / "commands" / "check.html").read_text()
    for words in ("--max LIMIT", "what a figure may be at most", "--clock {collectives,traces}", "names:", "example:"):
        assert words in page


def test_the_site_asks_nobody_else(site: Path) -> None:
    loaded = [
        (path.name, url)
        for path in site.rglob("*.html")
        for url in re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?(https?:[^\"> ]+)", path.read_text())
    ]
    assert loaded == []


def test_what_is_not_for_readers_is_not_in_the_site(site: Path) -> None:
    assert [path for path in site.rglob("*") if path.suffix in (".py", ".yml", ".md")] == []


def test_the_site_is_searched_from_its_files_without_a_network(site: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    api = pytest.importorskip("playwright.sync_api")
    if chromium is None:
        pytest.skip("there is no Chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.goto((site / "how-to" / "slow-rank.html").as_uri())
        page.locator(".md-search__input").click(timeout=20_000)  # it is shown once the search is there
        page.keyboard.type("straggler")
        page.locator(".md-search-result__item a").first.wait_for(timeout=20_000)
        found = [link.get_attribute("href") or "" for link in page.locator(".md-search-result__item a").all()]
        browser.close()
    assert any("definitions.html" in link for link in found)
    assert [url for url in asked if not url.startswith(("file:", "data:", "about:", "blob:"))] == []
    assert said == []


def test_the_links_of_the_readme_lead_to_files() -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "README.md").read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_pictures_are_small_and_shown() -> None:
    pictures = list((DOCS / "pictures").glob("*.png"))
    shown = "".join((ROOT / page).read_text() for page in PAGES)
    assert [path.name for path in pictures if f"pictures/{path.name}" not in shown] == []
    assert [path.name for path in pictures if path.stat().st_size > LARGEST_PICTURE_BYTES] == []


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_are_real(page: str) -> None:
    lines = [block.text for block in of(page, "", "sh", "bash", "yaml")]
    lines += [block.text.splitlines()[0] for block in of(page, "console")]
    found = [command for text in lines for command in commands(text)]
    assert {" ".join(command): why for command in found if (why := refused(command))} == {}


@pytest.mark.parametrize("page", PAGES)
def test_the_options_that_prose_names_exist(page: str) -> None:
    named = re.findall(r"`shardprof ([a-z][a-z-]*)((?: [^`]*)?)`", (ROOT / page).read_text())
    assert [(name, option) for name, rest in named for option in _options(rest) - _known(name)] == []


def _options(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text.partition(" -- ")[0]))


def _known(name: str) -> set[str]:
    """A command's options, those of its verbs too; a name that is no command fails."""
    parser = cli.parser_of(name)
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    verbs = [verb for action in nested for verb in action.choices.values()]
    return {option for one in [parser, *verbs] for action in one._actions for option in action.option_strings}


@pytest.mark.parametrize("page", [page for page in PAGES if of(page, "console")])
def test_commands_print_what_a_page_says(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    monkeypatch.setenv("SHARDPROF_CACHE", "0")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    for block in of(page, "console"):
        ((command, said),) = re.findall(r"\A\$ (.*)\n((?:.*\n)*)\Z", block.text)
        (arguments,) = commands(f"$ {command}")
        printed = _printed(tuple(arguments))
        assert _matches(printed, said.splitlines()), f"{page}: {command} prints\n" + "\n".join(printed)


@functools.cache
def _printed(arguments: tuple[str, ...]) -> list[str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        cli.main(list(arguments))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def _matches(printed: list[str], said: list[str]) -> bool:
    """Are these the lines, but for those that LEFT_OUT stands for?"""
    pattern = "".join(r"(?:.*\n)*" if line == LEFT_OUT else re.escape(line) + r"\n" for line in said)
    return re.fullmatch(pattern, "\n".join([*printed, ""])) is not None


def test_what_a_page_leaves_out_is_marked() -> None:
    assert _matches(["a", "b", "c"], ["a", "...", "c"])
    assert _matches(["a", "b"], ["...", "b"])
    assert not _matches(["a", "b", "c"], ["a", "c"])
    assert not _matches(["a", "b"], ["a"])


@pytest.mark.parametrize("page", [page for page in PAGES if of(page, "python") and page not in ADD_PAGES])
def test_python_in_a_page_runs(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("polars")
    monkeypatch.chdir(ROOT)
    for block in of(page, "python"):
        code = compile(block.text, page, "exec")
        if "traces/" in block.text:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, {"__name__": "page"})


@pytest.mark.parametrize("page", ADD_PAGES)
def test_the_example_of_an_extension_imports_what_exists(page: str) -> None:
    examples = of(page, "python")
    if any("torch" in block.text for block in examples):
        pytest.importorskip("torch")
    names: dict[str, object] = {"__name__": "example"}
    for block in examples:
        exec(compile(block.text, page, "exec", dont_inherit=True), names)
    assert examples or page.endswith("index.md")


def _example(page: str) -> dict[str, Any]:
    """The names that the example of a page defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(of(f"docs/add/{page}.md", "python")[0].text, page, "exec", dont_inherit=True), names)
    return names


def test_the_example_of_a_counter_samples() -> None:
    source = _example("counter")["open_source"](None)
    assert list(source.sample().values["node"]) == ["load_runnable"]
    assert source.interval_ns > 0
    assert not source.devices
    source.close()


def test_the_examples_of_an_output_and_a_rule_take_a_real_result() -> None:
    result = analyse(load([ROOT / "traces" / "zero3-vit-2ranks"]))
    out = io.StringIO()
    _example("output")["render"](result, out)
    assert (
        out.getvalue()
        == "step 104 ms: 56 all-gathers a step of 59 kB each: their start takes the time, not their bytes\n"
    )
    assert result.summary is not None
    assert result.summary.steps is not None
    copies = replace(result.summary.steps, groups_ns={**result.summary.steps.groups_ns, "copies": 10**9})
    rule = _example("rule")
    assert [list(rule["find"](Case(result=result, steps=steps))) == [] for steps in (result.summary.steps, copies)] == [
        True,
        False,
    ]


def test_the_example_of_an_analysis_finds_the_longest_gap_of_a_real_step() -> None:
    activities = read_kineto(ROOT / "traces" / "fsdp2-vit-2ranks" / "ranks" / "00000" / "trace.json.gz").activities
    assert activities is not None
    busy = activities.busy()
    middle = (int(busy[0, 0]) + int(busy[-1, 1])) // 2
    inside = [(max(int(begin), middle), int(end)) for begin, end in busy if end > middle]
    gaps = [inside[i + 1][0] - inside[i][1] for i in range(len(inside) - 1)]
    window = np.array([[middle, busy[-1, 1]]], dtype=np.int64)
    longest_gap_ns = _example("analysis")["longest_gap_ns"]
    assert longest_gap_ns(activities, window) == max(gaps) > 0
    assert longest_gap_ns(activities, np.array([[0, 1]], dtype=np.int64)) is None


def test_the_example_of_a_command_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    names = _example("command")
    parser = argparse.ArgumentParser()
    names["add_arguments"](parser)
    assert names["run"](parser.parse_args([str(ROOT / "traces" / "fsdp2-vit-2ranks")])) == 0
    assert capsys.readouterr().out == "2 ranks\n"


def test_the_example_of_a_format_reads_lines_and_refuses_others(tmp_path: Path) -> None:
    rows = _example("trace-format")["rows"]
    (tmp_path / "good").write_text("5\t10\tkernel\tmatmul\tof two\n")
    assert list(rows(tmp_path / "good")) == [(5, 10, "kernel", "matmul\tof two")]
    (tmp_path / "bad").write_text("5\t10\tkernel\tmatmul\nfive\n")
    with pytest.raises(UnreadableTraceError, match="line 2"):
        list(rows(tmp_path / "bad"))


def test_data_in_pages_can_be_parsed() -> None:
    yaml = pytest.importorskip("yaml")
    toml = pytest.importorskip("tomllib" if sys.version_info >= (3, 11) else "tomli")
    parsers = {"yaml": yaml.safe_load, "toml": toml.loads, "json": json.loads}
    found = [block for page in PAGES for block in of(page, *parsers)]
    assert found
    for block in found:
        assert parsers[block.language](block.text)
