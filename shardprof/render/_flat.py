"""A report or a comparison as flat tables, for what reads rows and columns: which there are, and what stands in each.

Everything is named by its path in the JSON, joined by "_": `ranks[].steps[]` are the rows of the table "ranks_steps",
`total.span_ns` of a rank is its column "total_span_ns". Rows inside rows begin with what names the row around them.
Figures that the JSON keeps by name are a column a name, before the unit: of `partition_ns` "partition_all_gather_ns".
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from shardprof.analysis import result as parts
from shardprof.analysis.comparing.comparison import Comparison
from shardprof.analysis.result import Result
from shardprof.words import printable

_NAMED_BY: Mapping[type[Any], tuple[str, ...]] = {
    parts.Rank: ("rank", "host"),
    parts.Collective: ("kind", "group", "ranks"),
    parts.Straggler: ("rank", "cause"),
    parts.Finding: ("rule", "title"),
}
"""What tells the rows that have rows inside them apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of one kind. `columns` has the type of each: int, float, str, bool, or a list of one of these. Text is
    printable. What was not measured is None, or not in its row."""

    name: str
    columns: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a record or of the records inside it, which have no rows of their own. `kind` is without its None."""

    path: tuple[str, ...]
    kind: Any

    @property
    def name(self) -> str:
        return "_".join(self.path)

    def of(self, record: Any) -> Any:
        """Its value; None where a record around it is not there."""
        return functools.reduce(lambda part, name: None if part is None else getattr(part, name), self.path, record)


@dataclass(frozen=True, slots=True)
class _Fact:
    """Something of a kind of its own that is kept by name: a setting, a version."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class _Point:
    """One point of a series."""

    host: str
    subject: str
    rank: int | None
    name: str
    time_ns: int
    value: float


def report_tables(result: Result) -> list[Table]:
    """Every table of a report, those without rows too; "report" is one row, of what there is once."""
    return list(_tables("report", "", Result, {}, [({}, result)]))


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Every table of a comparison; "comparison" is one row, of what there is once."""
    return list(_tables("comparison", "", Comparison, {}, [({}, comparison)]))


_Records = Sequence[tuple[Mapping[str, Any], Any]]
"""Records of one type, each with what names the row around it."""


def _tables(name: str, prefix: str, kind: Any, around: Mapping[str, Any], records: _Records) -> Iterator[Table]:
    columns: dict[str, Any] = dict(around)
    rows = [dict(outer) for outer, _ in records]
    inside = []
    for field in _fields(kind):
        values = [field.of(record) for _, record in records]
        if _has_rows(field.kind):
            inside.append((field, values))
        elif _is_by_name(field.kind):
            _add_by_name(columns, rows, field, values)
        else:
            columns[field.name] = field.kind
            for row, value in zip(rows, values, strict=True):
                row[field.name] = _plain(value)
    yield Table(name=name, columns=columns, rows=rows)
    for field, values in inside:
        inner_name = f"{prefix}{field.name}"
        inner_kind, inner = _inside(field, values)
        renamed = _renamed(_NAMED_BY.get(kind, ()), inner_kind)
        naming = [{new: row[column] for column, new in renamed.items()} for row in rows]
        pairs = [(outer, record) for outer, of_row in zip(naming, inner, strict=True) for record in of_row]
        around_inner = {new: columns[column] for column, new in renamed.items()}
        yield from _tables(inner_name, f"{inner_name}_", inner_kind, around_inner, pairs)


@functools.cache
def _fields(kind: Hashable) -> tuple[_Field, ...]:
    """The fields of a type of records, those of single records inside it in their place."""
    hints = typing.get_type_hints(kind)
    found: list[_Field] = []
    for spec in dataclasses.fields(cast(Any, kind)):
        of_type = _without_none(hints[spec.name])
        if dataclasses.is_dataclass(of_type):
            found += (_Field((spec.name, *inner.path), inner.kind) for inner in _fields(cast(Hashable, of_type)))
        else:
            found.append(_Field((spec.name,), of_type if _has_rows(of_type) else _listed(of_type)))
    return tuple(found)


def _without_none(of_type: Any) -> Any:
    if isinstance(of_type, types.UnionType) or typing.get_origin(of_type) is typing.Union:
        (of_type,) = (part for part in typing.get_args(of_type) if part is not types.NoneType)
    return of_type


def _listed(of_type: Any) -> Any:
    """Tuples of values are lists."""
    return list[typing.get_args(of_type)[0]] if typing.get_origin(of_type) is tuple else of_type  # type: ignore[misc]


def _is_by_name(of_type: Any) -> bool:
    origin = typing.get_origin(of_type)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _has_rows(of_type: Any) -> bool:
    """Is each element of it a row of another table?"""
    arguments = typing.get_args(of_type)
    if _is_by_name(of_type):
        return _without_none(arguments[1]) not in (int, float)
    return bool(arguments) and dataclasses.is_dataclass(arguments[0])


def _add_by_name(columns: dict[str, Any], rows: Sequence[dict[str, Any]], field: _Field, values: Sequence[Any]) -> None:
    stem, _, unit = field.path[-1].rpartition("_")
    last, end = (stem, f"_{unit}") if stem else (unit.removesuffix("s"), "")
    begin = "_".join((*field.path[:-1], last))
    for row, by_name in zip(rows, values, strict=True):
        for name, value in (by_name or {}).items():
            column = printable(f"{begin}_{name}{end}")
            columns.setdefault(column, _without_none(typing.get_args(field.kind)[1]))
            row[column] = value


def _inside(field: _Field, values: Sequence[Any]) -> tuple[Any, list[list[Any]]]:
    """The type of the records in a field, and those of each row."""
    if _is_by_name(field.kind):
        return _Fact, [[_Fact(name, _text(value)) for name, value in (of_row or {}).items()] for of_row in values]
    kind = typing.get_args(field.kind)[0]
    if kind is parts.Series:
        return _Point, [[point for series in of_row or () for point in _points(series)] for of_row in values]
    return kind, [list(of_row or ()) for of_row in values]


def _points(series: parts.Series) -> Iterator[_Point]:
    for time_ns, value in zip(series.times_ns, series.values, strict=True):
        yield _Point(series.host, series.subject, series.rank, series.name, time_ns, value)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    return printable(value) if isinstance(value, str) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _renamed(naming: Iterable[str], inner_kind: Any) -> dict[str, str]:
    """What names a row, as the rows inside it call it: the evidence on a rank may be of another rank."""
    taken = {field.name for field in _fields(inner_kind)}
    return {column: f"of_{column}" if column in taken else column for column in naming}
