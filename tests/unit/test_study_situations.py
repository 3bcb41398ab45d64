"""Several situations in few words: what stands there means exactly these, and no more."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from shardprof.study.conclusions.groups import axis_words
from shardprof.study.conclusions.study_report import Situation
from shardprof.study.render._situations import situations_words

AXES = ("batch_size", "accumulation", "ranks")


def situation(batch_size: int, accumulation: int, ranks: int) -> Situation:
    return Situation(
        model="vit_small", precision="fp32", checkpointing=False, batch_size=batch_size, accumulation=accumulation,
        nodes=1, ranks=ranks, fabric_bytes_per_s=None,
    )  # fmt: skip


def told(*values: tuple[int, int, int]) -> str:
    return situations_words([situation(*each) for each in values], AXES)


def test_what_they_share_is_said_once_and_what_differs_with_or() -> None:
    assert told((8, 1, 2)) == "batch 8, accumulation 1, 2 ranks"
    assert told((8, 1, 1), (8, 1, 2)) == "batch 8, accumulation 1, 1 rank or 2 ranks"
    assert told((8, 1, 1), (8, 2, 1), (16, 1, 1), (16, 2, 1)) == (
        "batch 8 or batch 16, accumulation 1 or accumulation 2, 1 rank"
    )


def test_situations_that_are_no_whole_block_are_kept_apart_by_semicolons() -> None:
    assert told((8, 1, 1), (16, 2, 1)) == "1 rank: batch 8, accumulation 1; batch 16, accumulation 2"
    assert told((8, 1, 1), (8, 1, 2), (16, 1, 1)) == "accumulation 1: batch 8, 1 rank or 2 ranks; batch 16, 1 rank"


def test_nothing_tells_situations_apart_where_there_is_one() -> None:
    assert situations_words([situation(8, 1, 1)], ()) == ""


def meant(text: str) -> set[str]:
    """Every combination that the words stand for."""
    head, _, tail = text.rpartition(": ")
    found = set()
    for block in tail.split("; "):
        parts = [part.split(" or ") for part in filter(None, (*head.split(", "), *block.split(", ")))]
        for values in itertools.product(*parts):
            found.add(", ".join(sorted(values)))
    return found


@given(
    st.sets(st.tuples(st.sampled_from([8, 16, 32]), st.sampled_from([1, 2]), st.sampled_from([1, 2, 4])), min_size=1)
)
def test_the_words_mean_these_situations_and_no_others(values: set[tuple[int, int, int]]) -> None:
    wanted = {", ".join(sorted(axis_words(situation(*each), axis) for axis in AXES)) for each in values}
    assert meant(told(*sorted(values))) == wanted
