"""The documentation names files that exist, and every field, class and doubt that a report can hold."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from shardprof.analysis import result
from shardprof.study.bench.study_file import Length, Matrix
from shardprof.study.knobs import KNOBS_OF, Knobs
from shardprof.trace.classes import CLASSES

ROOT = Path(__file__).parents[2]
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
DEFINITIONS = (ROOT / "docs" / "definitions.md").read_text()
FOLDERS = ("shardprof", "native", "tests", "docs", "benchmarks", "traces")


@pytest.mark.parametrize("page", sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")))
def test_the_files_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    named = re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w/.-]*)`", text)
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_file_map_has_every_folder_with_sources() -> None:
    sources = [path for folder in ("shardprof", "native") for path in (ROOT / folder).rglob("*.[pch]*")]
    folders = {path.parent.relative_to(ROOT) for path in sources if path.suffix in (".py", ".cpp", ".h")}
    inner = {Path("shardprof"), Path("shardprof/study/workloads")}
    assert [folder for folder in sorted(folders - inner) if f"`{folder}/`" not in ARCHITECTURE] == []


def test_files_named_without_their_folder_exist() -> None:
    names = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")} | {"pyproject.toml"}
    bare = re.findall(r"`(\w+\.(?:py|cpp|h|toml))`", ARCHITECTURE)
    assert bare
    assert set(bare) - names == set()


def test_every_field_of_a_report_is_defined() -> None:
    parts = [part for part in vars(result).values() if dataclasses.is_dataclass(part)]
    fields = {field.name for part in parts for field in dataclasses.fields(part)} - {"schema", "rank", "host", "device"}
    assert [name for name in sorted(fields) if not re.search(rf"`[a-z.\[\]]*\b{name}(\[\])?`", DEFINITIONS)] == []


def test_every_rule_is_in_the_docs() -> None:
    files = (ROOT / "shardprof" / "analysis" / "rules").glob("[a-z]*.py")
    rules = {rule for path in files for rule in re.findall(r'"(R\d\d)"', path.read_text())}
    told = re.findall(r"^\| (R.*?) \|", (ROOT / "docs" / "findings.md").read_text(), re.MULTILINE)
    assert rules == {rule for row in told for rule in row.split(", ")}


def test_every_key_of_a_study_file_and_every_knob_is_defined() -> None:
    page = (ROOT / "docs" / "bench.md").read_text()
    keys = {name for table in (Length, Matrix, Knobs) for name in table.__struct_fields__}
    assert [name for name in sorted(keys) if f"`{name}`" not in page] == []
    assert [strategy for strategy in KNOBS_OF if f"`{strategy}`" not in page] == []


def test_every_class_is_defined() -> None:
    assert [name for name in CLASSES if f"| `{name}` |" not in DEFINITIONS] == []


def test_every_doubt_is_defined() -> None:
    sources = [path for folder in ("trace", "analysis") for path in (ROOT / "shardprof" / folder).rglob("*.py")]
    codes = {code for path in sources for code in re.findall(r'code="(\w+)"', path.read_text())}
    assert codes == set(re.findall(r"^\| `(\w+)` \|", DEFINITIONS.partition("## `quality[]`")[2], re.MULTILINE))
