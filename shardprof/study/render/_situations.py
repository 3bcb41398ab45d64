"""Several situations in as few words as they take: "batch 8 or 16 ..., 2 ranks", what they share said once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from shardprof.study.conclusions.groups import axis_words
from shardprof.study.conclusions.study_report import Situation

_Box = tuple[tuple[str, ...], ...]
"""The values of each axis, in words: it stands for every combination of them."""


def situations_words(situations: Sequence[Situation], axes: Sequence[str]) -> str:
    """All of them by the axes that tell the situations of a study apart."""
    boxes = _merged([tuple((axis_words(situation, axis),) for axis in axes) for situation in situations])
    if not boxes:
        return ""
    shared = [len({box[axis] for box in boxes}) == 1 for axis in range(len(axes))]
    common = ", ".join(_either(values) for values, is_shared in zip(boxes[0], shared, strict=True) if is_shared)
    own = [
        ", ".join(_either(values) for values, is_shared in zip(box, shared, strict=True) if not is_shared)
        for box in boxes
    ]
    return ": ".join(filter(None, (common, "; ".join(filter(None, own)))))


def _either(values: Sequence[str]) -> str:
    return " or ".join(values)


def _merged(boxes: list[_Box]) -> list[_Box]:
    """The same combinations in fewer boxes: two that differ on one axis become one, as long as there are such."""
    for (i, a), (j, b) in itertools.combinations(enumerate(boxes), 2):
        differing = [axis for axis, (of_a, of_b) in enumerate(zip(a, b, strict=True)) if of_a != of_b]
        if len(differing) <= 1:
            both = tuple(tuple(dict.fromkeys((*of_a, *of_b))) for of_a, of_b in zip(a, b, strict=True))
            return _merged([*boxes[:i], both, *boxes[i + 1 : j], *boxes[j + 1 :]])
    return boxes
