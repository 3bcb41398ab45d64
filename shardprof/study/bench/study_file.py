"""A study file: which trainings a study consists of. What is wrong in it is told with its line before any runs."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from shardprof.errors import ShardprofError
from shardprof.study.knobs import Knobs

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_HEADER = re.compile(r"\s*(\[\[?)([^\[\]]+)\]")
_KEY = re.compile(r"\s*[\"']?([\w-]+)[\"']?\s*=")
_LAST = re.compile(r"(\.[^.\[\]]+|\[[^\]]*\])$")


Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]
FolderName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class StudyError(ShardprofError):
    """A study file that says nothing that can be run."""


class Length(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[study]`: what holds for every training. It lasts so many `steps` or `epochs`; the first `warm_up` steps count
    in no figure, and `captured` ones after them are recorded in full. It is given up after `timeout_s`."""

    name: FolderName
    about: str = ""
    repeats: Positive = 3
    seed: Natural = 0
    steps: Positive | None = None
    epochs: Positive | None = None
    warm_up: Natural = 10
    captured: Positive = 5
    evaluate_every: Positive | None = None
    data: str = "digits"
    workers: Natural = 0
    lr: AboveZero = 1e-3
    clip_norm: AboveZero | None = None
    target_accuracy: Share = 0.9
    device: Literal["cuda", "cpu"] | None = None
    launcher: Literal["torchrun", "deepspeed"] = "torchrun"
    threads: Positive | None = None
    timeout_s: Positive = 3600


TRAINING = tuple(
    name for name in Length.__struct_fields__
    if name not in ("name", "about", "repeats", "target_accuracy", "timeout_s")
)  # fmt: skip
"""The keys of `[study]` that change a training."""


class Matrix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[matrix]`: the values of each axis; every combination is a cell. `ranks` are of the whole job."""

    strategy: tuple[str, ...]
    ranks: tuple[int, ...]
    model: tuple[str, ...] = ("vit_small",)
    knobs: tuple[str, ...] = ("as shipped",)
    precision: tuple[str, ...] = ("fp32",)
    checkpointing: tuple[bool, ...] = (False,)
    batch_size: tuple[int, ...] = (32,)
    accumulation: tuple[int, ...] = (1,)
    nodes: tuple[int, ...] = (1,)


class KnobSet(Knobs, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`[knobs.NAME]`: knobs under a name, for some strategies."""

    strategies: tuple[str, ...]


class Exclude(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`[[exclude]]`: cells with all of these values are left out."""

    strategy: list[str] | str | None = None
    knobs: list[str] | str | None = None
    precision: list[str] | str | None = None
    checkpointing: bool | None = None
    batch_size: list[int] | int | None = None
    accumulation: list[int] | int | None = None
    model: list[str] | str | None = None
    ranks: list[int] | int | None = None
    nodes: list[int] | int | None = None


class StudyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a file."""

    study: Length
    matrix: Matrix
    knobs: dict[str, KnobSet] = {}
    exclude: tuple[Exclude, ...] = ()


class Located:
    """A study file and where in its text its parts stand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._text = path.read_text(encoding="utf-8")
            told: dict[str, Any] = tomllib.loads(self._text)
        except OSError as error:
            raise StudyError(
                f"{path}: {error.strerror}", "name a study file, as those in benchmarks/studies/"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StudyError(f"{path} is no TOML: {error}", "see benchmarks/studies/ for examples") from error
        try:
            self.file = msgspec.convert(told, StudyFile)
        except msgspec.ValidationError as error:
            message, _, place = str(error).partition(" - at `$")
            raise self.mistake(place.strip("`"), message, "see docs/bench.md for all keys") from error

    def mistake(self, place: str, message: str, remedy: str) -> StudyError:
        """The error for something at a place like ".matrix.ranks[1]", with its line."""
        if unknown := re.search(r"unknown field `(\w+)`", message):
            place += f".{unknown.group(1)}"
        return StudyError(f"{self.path}, line {self._line(place)}: {message[:1].lower()}{message[1:]}", remedy)

    def _line(self, place: str) -> int:
        """Of the innermost part of the place that has one."""
        lines = _lines(self._text)
        while place:
            pattern = re.compile(re.escape(place).replace(re.escape("[...]"), r"\.[^.]+"))  # so msgspec hides a name
            for told, number in lines.items():
                if pattern.fullmatch(told):
                    return number
            place = _LAST.sub("", place)
        return 1


def _lines(text: str) -> dict[str, int]:
    """The line of each table and key, by its place: ".study.steps", ".exclude[0].ranks"."""
    lines: dict[str, int] = {}
    tables = Counter[str]()
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            name = "".join(f".{part.strip()}" for part in header[2].replace('"', "").split("."))
            table = f"{name}[{tables[name]}]" if header[1] == "[[" else name
            tables[name] += 1
            lines[table] = number
        elif key := _KEY.match(line):
            lines[f"{table}.{key[1]}"] = number
    return lines
