"""One self-contained page: sections of words, charts and tables, with its style, its script and Plotly inside.

Nothing of it is loaded from anywhere, and its Content-Security-Policy keeps it so: only the scripts and the style whose
digests it names run. Whatever came from a trace is escaped.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

from markupsafe import Markup

import shardprof
from shardprof.errors import ShardprofError
from shardprof.render._html.figures import Figure
from shardprof.render._jinja import template
from shardprof.render._tables import Table

_HERE = Path(__file__).parent
_LEVELS = 8
_NAME = re.compile(r"\S*([/_\d]|\.\S)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A headline figure: what it is, how much, and a remark."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A finding: `severity`, its words, and what to do about it; `more` is what shows it, its price, its disproof."""

    severity: str
    title: str
    wins: str
    do: tuple[tuple[str, str], ...]
    more: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """A table whose figures are coloured by how large they are; a cell is its text and a share of the largest."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[str, float] | None, ...]], ...]
    notes: tuple[str, ...] = ()

    def level(self, share: float) -> int:
        """The shade of a share of the largest figure, from 0 to 8."""
        return round(_LEVELS * share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a page, `short` its title among links. Tables are shown as they are, `folded` ones behind theirs."""

    name: str
    short: str
    title: str
    lines: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    heats: tuple[Heat, ...] = ()
    tables: tuple[tuple[str, Table], ...] = ()
    folded: tuple[tuple[str, Table], ...] = ()
    findings: tuple[Found, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.lines or self.figures or self.heats or self.tables or self.folded or self.findings)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page from top to bottom. `missing` says what it does not show, and why."""

    title: str
    kind: str
    about: tuple[str, ...]
    verdict: str
    warning: str
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]
    missing: tuple[str, ...]
    next_commands: tuple[tuple[str, str], ...]


def sentence(words: str) -> str:
    """Words as a line of their own: "Slowest step: ... ." The name of a file at its begin stays as it is."""
    begins_with_name = _NAME.match(words) is not None
    return (words if begins_with_name else f"{words[:1].upper()}{words[1:]}") + ("" if words.endswith(".") else ".")


def write(page: Page, out: TextIO) -> None:
    """Write the page. Raises ShardprofError where shardprof was built without Plotly."""
    figures = [figure for section in page.sections for figure in section.figures]
    scripts = {"plotly": plotly() if figures else "", "script": _file("page.js")}
    style = _file("page.css")
    parts = template(_HERE, "page.html.jinja").stream(
        page=page,
        shown=[section for section in page.sections if section],
        charts=Markup(_json([figure.chart for figure in figures])),
        policy="default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'"
        f"; script-src {_digests(*filter(None, scripts.values()))}; style-src {_digests(style, '')}",
        style=Markup(style),
        version=shardprof.__version__,
        **{name: Markup(text) for name, text in scripts.items()},
    )
    _write_utf8(out, parts)


def _write_utf8(out: TextIO, parts: Iterable[str]) -> None:
    """Write what says that it is UTF-8 as that, whatever `out` writes otherwise."""
    binary = getattr(out, "buffer", None)
    if binary is None:
        out.writelines(parts)
        return
    out.flush()
    binary.writelines(part.encode() for part in parts)


def _json(charts: list[Mapping[str, Any]]) -> str:
    """JSON that stays inside its element, whatever it says."""
    return json.dumps(charts, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _digests(*texts: str) -> str:
    """What names these texts, and no others, as allowed."""
    return " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts)


def _file(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def plotly_file() -> Path | None:
    """Plotly's basic bundle, which the build puts beside the compiled core; None where it could not get it."""
    core = find_spec("shardprof._native")
    file = Path(core.origin if core and core.origin else shardprof.__file__).with_name("plotly-basic.min.js")
    return file if file.is_file() else None


def plotly() -> str:
    """The text of the bundle. Raises ShardprofError where there is none."""
    file = plotly_file()
    if file is None:
        raise ShardprofError(
            "shardprof was built without Plotly, which the HTML pages draw with",
            "install npm (Debian, Ubuntu: sudo apt-get install npm), then build again: pip install --force-reinstall .",
        )
    return file.read_text(encoding="utf-8")
