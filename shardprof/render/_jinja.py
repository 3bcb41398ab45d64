"""Templates of the outputs that are HTML: whatever a trace says is escaped, safe to show, and of bounded length."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from shardprof.render._text import cut
from shardprof.words import printable

_LONGEST, _LONGEST_CELL = 1000, 400
"""What shardprof itself says is shorter; a name in a trace may be of any length."""


@cache
def template(folder: Path, name: str) -> Template:
    """The template of that name in `folder`."""
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = lambda text: cut(text, _LONGEST_CELL)
    return environment.get_template(name)


def _shown(value: object) -> object:
    """What is written of a value: of text nothing that turns or hides what comes after it."""
    return cut(printable(value), _LONGEST) if isinstance(value, str) and not isinstance(value, Markup) else value
