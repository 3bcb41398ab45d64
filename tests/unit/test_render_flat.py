"""CSV and Parquet say what the JSON says, all of it, and nothing that a spreadsheet runs."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from shardprof import cli
from shardprof.analysis.comparing.compare import compare
from shardprof.analysis.comparing.measured import measured
from shardprof.analysis.result import Result
from shardprof.render import _folder
from shardprof.render import csv as csv_output
from shardprof.render import parquet as parquet_output
from shardprof.render._flat import Table, comparison_tables, report_tables
from shardprof.trace.quality import Quality
from shardprof.trace.reading import USUAL_READING

from .real_reports import DLRM, FSDP2, SLOW_WORKER, ZERO3, result_of

PATHS = [FSDP2, ZERO3, DLRM, SLOW_WORKER]
COLUMNS_AROUND = {"ranks_steps": 2, "collectives_sizes": 3, "stragglers_evidence": 2, "findings_evidence": 2}
FACTS = ("settings", "versions", "environment")


@pytest.fixture(scope="module")
def fsdp2() -> Result:
    return result_of(FSDP2)


def rows_in(value: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of tables in JSON, each with its table's name."""
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from rows_in(inner, f"{path}{name}_")
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            for row in inner:
                yield f"{path}{name}", row
                yield from rows_in(row, f"{path}{name}_")


def leaves(value: Any) -> Iterator[Any]:
    """The figures of a row in JSON, without those of rows inside it."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        if value and not isinstance(value[0], dict):  # an empty one may be rows
            yield json.dumps(value)
    elif value is not None:
        yield value


def values(row: Any, leave_out: int = 0) -> Counter[Any]:
    """The figures of a row of a table, less those of the first columns."""
    known = [json.dumps(v) if isinstance(v, list) else v for v in list(row.values())[leave_out:]]
    return Counter(value for value in known if value not in (None, "[]"))


def check(told: dict[str, Any], tables: list[Table], root: str) -> None:
    """Every figure of the JSON is in a table, and nothing else."""
    expected: dict[str, list[dict[str, Any]]] = {root: [told]}
    for name, row in rows_in(told):
        expected.setdefault(name, []).append(row)
    assert expected.keys() <= {table.name for table in tables}
    for table in tables:
        rows = expected.get(table.name, [])
        assert len(table.rows) == len(rows), table.name
        for row, figures in zip(table.rows, rows, strict=True):
            assert values(row, COLUMNS_AROUND.get(table.name, 0)) == Counter(leaves(figures)), table.name


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_tables_hold_what_a_report_says(path: Path) -> None:
    result = result_of(path)
    tables = {table.name: table for table in report_tables(result)}
    told = json.loads(json.dumps(dataclasses.asdict(result)))
    for fact in FACTS:
        known = {row["name"]: row["value"] for row in tables.pop(f"source_{fact}").rows}
        expected = told["source"].pop(fact)
        assert known == {name: v if isinstance(v, str) else json.dumps(v) for name, v in expected.items()}
    points = [tuple(row.values()) for row in tables.pop("series").rows]
    assert points == [
        (one["host"], one["subject"], one["rank"], one["name"], time_ns, value)
        for one in told.pop("series")
        for time_ns, value in zip(one["times_ns"], one["values"], strict=True)
    ]
    check(told, list(tables.values()), "report")


def test_tables_hold_what_a_comparison_says() -> None:
    a, b = ([measured([path], USUAL_READING, with_work=True)] for path in (FSDP2, ZERO3))
    comparison = compare(a, b)
    check(json.loads(json.dumps(dataclasses.asdict(comparison))), comparison_tables(comparison), "comparison")


def test_columns_are_named_by_their_place_in_the_json(fsdp2: Result) -> None:
    tables = {table.name: table for table in report_tables(fsdp2)}
    step = tables["ranks_steps"].rows[0]
    json_step = fsdp2.ranks[0].steps[0]
    assert (step["rank"], step["host"], step["wall_ns"]) == (0, "node-a", json_step.wall_ns)
    assert step["partition_all_gather_ns"] == json_step.partition_ns["all_gather"]
    assert step["comm_all_gather_bytes"] == json_step.comm_bytes["all_gather"]
    assert step["counter_rss_bytes"] == json_step.counters["rss_bytes"]
    assert fsdp2.summary is not None
    assert tables["report"].rows[0]["summary_phase_data"] == fsdp2.summary.phases["data"]
    assert list(tables["stragglers_evidence"].columns)[:4] == ["of_rank", "cause", "message", "rank"]


def test_what_was_not_found_is_a_table_without_rows(fsdp2: Result, tmp_path: Path) -> None:
    csv_output.render_folder(dataclasses.replace(fsdp2, summary=None, stragglers=None, nccl=None), tmp_path)
    assert (tmp_path / "stragglers.csv").read_text() == "rank,cause,cost_ns_per_step,steps,of_steps\n"
    assert (tmp_path / "nccl_calls.csv").read_text().count("\n") == 1
    (row,) = read_csv(tmp_path / "report.csv")
    assert row["summary_bound_by"] == ""


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_both_files_hold_the_tables(path: Path, tmp_path: Path) -> None:
    result = result_of(path)
    csv_output.render_folder(result, tmp_path)
    parquet_output.render_folder(result, tmp_path)
    for table in report_tables(result):
        rows = [{column: row.get(column) for column in table.columns} for row in table.rows]
        frame = pl.read_parquet(tmp_path / f"{table.name}.parquet")
        assert frame.to_dicts() == rows, table.name
        for column, of_type in table.columns.items():
            assert frame.schema[column] == pl.DataFrame(schema={column: of_type}).schema[column]
        assert read_csv(tmp_path / f"{table.name}.csv") == [
            {column: written(value) for column, value in row.items()} for row in rows
        ]


def written(value: Any) -> str:
    """A value as CSV has it."""
    if isinstance(value, (bool, list)):
        return json.dumps(value)
    return "" if value is None else str(value)


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_a_spreadsheet_runs_nothing(fsdp2: Result, tmp_path: Path, begin: str) -> None:
    hostile = f'{begin}cmd|" /c calc"!A1\n,\r\x1b[31m\udc80'
    doubt = Quality(code="planted", message=hostile, count=-3)
    rank = dataclasses.replace(fsdp2.ranks[0], host=hostile)
    csv_output.render_folder(dataclasses.replace(fsdp2, quality=(doubt,), ranks=(rank,)), tmp_path)
    shown = f'\'{begin}cmd|" /c calc"!A1\\n,\\r\\x1b[31m\\udc80'
    assert read_csv(tmp_path / "quality.csv") == [{"code": "planted", "message": shown, "count": "-3"}]
    assert {row["host"] for row in read_csv(tmp_path / "ranks_steps.csv")} == {shown}
    assert not any(chr(c) in path.read_text() for path in tmp_path.iterdir() for c in (0, 13, 27))


def test_parquet_takes_whatever_names_and_numbers_hold(fsdp2: Result, tmp_path: Path) -> None:
    doubts = [Quality(code="planted", message=text, count=n) for text, n in (("\udc80\0", 2**80), ("", 2**62))]
    parquet_output.render_folder(dataclasses.replace(fsdp2, quality=tuple(doubts)), tmp_path)
    frame = pl.read_parquet(tmp_path / "quality.parquet")
    assert frame["count"].to_list() == [None, 2**62]
    assert frame["message"].to_list() == ["\\udc80\\x00", ""]


def test_files_are_written_all_or_none(tmp_path: Path) -> None:
    def write(table: Table, path: Path) -> None:
        path.write_text(table.name)
        if table.name == "b":
            raise OSError("the disk is full")

    (tmp_path / "a.txt").write_text("of before")
    tables = [Table(name=name, columns={}, rows=()) for name in "ab"]
    with pytest.raises(OSError, match="full"):
        _folder.write_tables(tables, tmp_path, ".txt", write)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "of before"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_the_command_line_writes_a_folder(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, comparison = tmp_path / "report", tmp_path / "comparison"
    assert cli.main(["report", str(FSDP2), "--format", form, "--out", str(report)]) == 0
    assert cli.main(["compare", str(FSDP2), str(ZERO3), "--format", form, "--out", str(comparison)]) == 0
    assert capsys.readouterr().out == f"wrote {report}\nwrote {comparison}\n"
    assert (report / f"ranks_steps.{form}").exists()
    assert (comparison / f"waterfall.{form}").exists()
    assert cli.main(["report", str(FSDP2), "--format", form]) == 2
    assert "--out FOLDER" in capsys.readouterr().err
