"""A debug log of NCCL explained: by words in the terminal, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TextIO

import msgspec
from rich.console import RenderableType

from shardprof.analysis.nccl_log import Account, name_of
from shardprof.render._layout import INDENT, indented, labelled, text_of, with_notes, write
from shardprof.render._nccl_log_view import Section, sections, verdict
from shardprof.render._text import wrap
from shardprof.trace.nccl.log_meaning import MEANINGS, Weight

_STYLES = {Weight.FAILURE: "red", Weight.CONSEQUENCE: "red", Weight.SLOW: "yellow", Weight.NOTE: "cyan"}


def _as_terminal(told: Account, out: TextIO) -> None:
    write(out, partial(_parts, told))


def _parts(told: Account, width: int) -> Iterator[RenderableType]:
    inner = width - INDENT
    worst = max((warning.weight for warning in told.warnings), default=Weight.NOTE)
    lines = wrap(verdict(told), inner)
    yield text_of(lines[0], "bold" if worst < Weight.SLOW else f"bold {_STYLES[worst]}")
    yield from (indented(line, "bold") for line in lines[1:])
    for section in sections(told):
        yield ""
        yield text_of(section.title, "cyan")
        yield from _section(section, inner)


def _section(section: Section, width: int) -> Iterator[RenderableType]:
    if section.table:
        yield from with_notes(section.table, width)
    column = max((len(label) for label, _, _ in section.lines), default=0) + INDENT
    for label, texts, weight in section.lines:
        beside = [line for text in texts for line in wrap(text, width - column)]
        yield from labelled(label, _STYLES[weight] if weight is not None else "dim", column, beside)


def _as_json(told: Account, out: TextIO) -> None:
    """Everything but the calls themselves, which are counted; processes are named by their place."""
    log = told.log
    document: dict[str, Any] = {
        "schema": "shardprof.nccl-log/1",
        "verdict": verdict(told),
        "lines": log.lines,
        "library": "RCCL" if log.is_rccl else "NCCL",
        "versions": log.nccl,
        "runtime": log.runtime,
        "ranks": told.ranks,
        "nodes": told.nodes,
        "networks": told.networks,
        "processes": [{"name": name_of(each), **_told(each)} for each in log.processes],
        "groups": told.groups,
        "communicators": [_communicator(_told(each)) for each in log.communicators],
        "ways": told.ways,
        "notes": [{"process": process, "topic": topic, "text": text} for process, topic, text in log.notes],
        "choices": told.chosen,
        "settings": told.settings,
        "warnings": [
            _told(each) | _meaning(each.code) | {"weight": each.weight.name.lower()} for each in told.warnings
        ],
        "quality": log.quality,
    }
    json.dump(msgspec.to_builtins(document), out, indent=1)
    out.write("\n")


def _told(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


def _communicator(fields: dict[str, Any]) -> dict[str, Any]:
    """A communicator, whose links are rows: JSON has no links as keys."""
    topology = _told(fields["topology"])
    topology["links"] = [_told(link) | {"channels": count} for link, count in topology["links"].items()]
    return fields | {"topology": topology}


def _meaning(code: str) -> dict[str, str | None]:
    known = MEANINGS.get(code)
    return {"means": known.means if known else None, "try": known.attempt if known else None}


FORMATS: dict[str, Callable[[Account, TextIO], None]] = {"json": _as_json, "terminal": _as_terminal}
"""What writes it, by the name of the format."""
