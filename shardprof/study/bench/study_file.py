"""What a study file may say: which trainings a study consists of, and how long each lasts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from shardprof.study.knobs import Knobs, Natural, Positive

_MOST_REPEATS = 1000
_MOST_OF_A_RANK = 1024
_MOST_RATE = 1e9

Repeats = Annotated[int, msgspec.Meta(ge=1, le=_MOST_REPEATS)]
Workers = Annotated[int, msgspec.Meta(ge=0, le=_MOST_OF_A_RANK)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=_MOST_OF_A_RANK)]
AboveZero = Annotated[float, msgspec.Meta(gt=0, le=_MOST_RATE)]
FolderName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
Share = Annotated[float, msgspec.Meta(gt=0, le=1)]


class Length(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[study]`: what holds for every training. It lasts so many `steps` or `epochs`; the first `warm_up` steps count
    in no figure, and `captured` ones after them are recorded in full. It is given up after `timeout_s`."""

    name: FolderName
    about: str = ""
    repeats: Repeats = 3
    seed: Natural = 0
    steps: Positive | None = None
    epochs: Positive | None = None
    warm_up: Natural = 10
    captured: Positive = 5
    evaluate_every: Positive | None = None
    data: str = "digits"
    workers: Workers = 0
    lr: AboveZero = 1e-3
    clip_norm: AboveZero | None = None
    target_accuracy: Share = 0.9
    device: Literal["cuda", "cpu"] | None = None
    launcher: Literal["torchrun", "deepspeed"] = "torchrun"
    threads: Threads | None = None
    timeout_s: Positive = 3600

    @property
    def least_steps(self) -> int:
        """The fewest steps of which one counts in figures: after warm-up, capture and the step that pays for writing
        the trace, one that holds no evaluation."""
        first = self.warm_up + self.captured + 1
        evaluates = self.evaluate_every is not None and first % self.evaluate_every == 0
        return first + (2 if evaluates else 1)


TRAINING = tuple(
    name for name in Length.__struct_fields__
    if name not in ("name", "about", "repeats", "target_accuracy", "timeout_s")
)  # fmt: skip
"""The keys of `[study]` that change a training."""


class Matrix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[matrix]`: the values of each axis; every combination is a cell. `ranks` are of the whole job."""

    strategy: tuple[str, ...]
    ranks: tuple[Positive, ...]
    model: tuple[str, ...] = ("vit_small",)
    knobs: tuple[str, ...] = ("as shipped",)
    precision: tuple[str, ...] = ("fp32",)
    checkpointing: tuple[bool, ...] = (False,)
    batch_size: tuple[Positive, ...] = (32,)
    accumulation: tuple[Positive, ...] = (1,)
    nodes: tuple[Positive, ...] = (1,)


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

    def told(self) -> dict[str, list[Any]]:
        """The values that are left out, by axis."""
        told = {axis: value for axis in self.__struct_fields__ if (value := getattr(self, axis)) is not None}
        return {axis: value if isinstance(value, list) else [value] for axis, value in told.items()}


class StudyFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of a file."""

    study: Length
    matrix: Matrix
    knobs: dict[str, KnobSet] = {}
    exclude: tuple[Exclude, ...] = ()
