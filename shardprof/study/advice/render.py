"""An answer in one of its formats: by words in the terminal or Markdown, or as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import TextIO

from rich.console import RenderableType

from shardprof.render import _markup
from shardprof.render._layout import INDENT, indented, remarks, text_of, with_notes, write
from shardprof.render._text import pack, wrap
from shardprof.study.advice.answer import Advice
from shardprof.study.advice.outlook import Outlook
from shardprof.study.advice.words import AdviceView, view

_STYLES = {"assumed": "yellow"}


def _as_terminal(advice: Advice, out: TextIO) -> None:
    write(out, partial(_parts, view(advice)))


def _parts(shown: AdviceView, width: int) -> Iterator[RenderableType]:
    inner = width - INDENT
    first, *more = pack([shown.title, *shown.about], " · ", inner)
    line = text_of(first)
    line.stylize("bold", 0, len(shown.title))
    yield line
    yield from (indented(line) for line in more)
    yield ""
    yield from (indented(line, "bold") for line in wrap(shown.answer, inner))
    yield from (indented(line) for line in wrap(shown.sure, inner))
    yield ""
    yield from with_notes(shown.table, inner)
    yield ""
    entries = [(label, _STYLES.get(label, "cyan"), texts) for label, texts in shown.remarks]
    yield from remarks(entries, shown.next_commands, inner)


def _as_markdown(advice: Advice, out: TextIO) -> None:
    _markup.write(out, _lines(view(advice)))


def _lines(shown: AdviceView) -> Iterator[str]:
    yield f"**{_markup.escaped(shown.title)}** · {' · '.join(map(_markup.escaped, shown.about))}"
    yield from _markup.paragraph([f"**{_markup.escaped(shown.answer)}**"])
    yield from _markup.paragraph([_markup.escaped(shown.sure)])
    yield from _markup.with_notes(shown.table)
    for label, texts in shown.remarks:
        yield from _markup.paragraph([f"- {label}: {_markup.escaped(text)}" for text in texts])
    yield from _markup.paragraph([f"Next: {_markup.code(command)}, {why}" for command, why in shown.next_commands])


def _as_json(advice: Advice, out: TextIO) -> None:
    """The question, all that was considered, the preference by place in it, and where it changes."""
    told = {
        "schema": "shardprof.advice/1",
        "question": dataclasses.asdict(
            dataclasses.replace(advice.question, calibration=type(advice.question.calibration)())
        ),
        "study": advice.question.calibration.notes,
        "answer": view(advice).answer,
        "tied": advice.tied,
        "ranking": [_told(each) for each in advice.ranking],
        "all": [_told(each) for each in advice.all],
        "thresholds": [dataclasses.asdict(each) for each in advice.thresholds],
    }
    json.dump(told, out, indent=1)
    out.write("\n")


def _told(outlook: Outlook) -> dict[str, object]:
    fields = dataclasses.asdict(outlook)
    held = outlook.fit
    fields |= {"peak_bytes": held.peak_bytes, "room_bytes": held.room_bytes, "verdict": held.verdict}
    return fields


FORMATS: dict[str, Callable[[Advice, TextIO], None]] = {
    "json": _as_json,
    "markdown": _as_markdown,
    "terminal": _as_terminal,
}
"""What writes an answer, by the name of the format."""
