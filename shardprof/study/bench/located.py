"""A study file and where in its text its parts stand: what is wrong in it is told with its line before any training."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from shardprof.errors import ShardprofError
from shardprof.study.bench.study_file import KnobSet, Length, StudyFile
from shardprof.study.bench.toml_lines import line_at, lines_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_FIELD = re.compile(r"(?:unknown|required) field `(.+)`$")
_INDEX = re.compile(r"\[[^\]]*\]$")
_KEYS = "see docs/bench.md for all keys"
T = TypeVar("T")


class StudyError(ShardprofError):
    """A study file that says nothing that can be run."""


class Located:
    """A study file, read. Raises StudyError for what is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
            told: dict[str, Any] = tomllib.loads(text)
        except OSError as error:
            raise StudyError(
                f"{path}: {error.strerror}", "name a study file, as those in benchmarks/studies/"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise StudyError(f"{path} is no TOML: {error}", "see benchmarks/studies/ for examples") from error
        self._lines = lines_of(text)
        for name, knobs in _tables(told, "knobs"):  # msgspec does not say in which of them a mistake is
            self._converted(knobs, KnobSet, f".knobs.{name}")
        self.file = self._converted(told, StudyFile, "")

    def mistake(self, place: str, message: str, remedy: str) -> StudyError:
        """The error for something at a place like ".matrix.ranks[1]", with its line."""
        return StudyError(f"{self.path}, line {line_at(place, self._lines)}: {message}", remedy)

    def _converted(self, told: Any, kind: type[T], place: str) -> T:
        try:
            return msgspec.convert(told, kind)
        except msgspec.ValidationError as error:
            message, _, inner = str(error).partition(" - at `$")
            place += inner.strip("`")
            if field := _FIELD.search(message):
                raise self.mistake(f"{place}.{field[1]}", _lowered(message), _KEYS) from error
            raise self.mistake(place, *_in_words(_key(place), message)) from error


def _tables(told: dict[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    tables = told.get(name)
    yield from tables.items() if isinstance(tables, dict) else ()


def _key(place: str) -> str:
    return _INDEX.sub("", place).rpartition(".")[2]


def _in_words(key: str, message: str) -> tuple[str, str]:
    """What is wrong with a key's value, and what to write: of msgspec's message."""
    if message.startswith("Expected `array`"):
        return f"{key}: {_lowered(message).replace('`array`', 'a list')}", f"write it as a list: {key} = [...]"
    if choices := _choices(key):
        return f"{key}: {_lowered(message)}", f"use one of {', '.join(choices)}"
    if "matching regex" in message:
        return f"{key}: it is also a folder's name", "use letters, digits, '.', '_' and '-', a letter or digit first"
    return f"{key}: {_lowered(message)}", _KEYS


def _choices(key: str) -> list[str]:
    hint = (get_type_hints(Length) | get_type_hints(KnobSet)).get(key)
    return [value for part in (hint, *get_args(hint)) for value in get_args(part) if isinstance(value, str)]


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]
