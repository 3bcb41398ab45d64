"""A study file's mistakes are told with their line before anything runs; what is right becomes the cells it means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")  # only an environment with the study's extra has all that a study needs

from shardprof.study.bench.cells import AS_SHIPPED, TUNED, Cell, cell_id, knobs_of
from shardprof.study.bench.located import Located, StudyError
from shardprof.study.bench.matrix import cells
from shardprof.study.bench.study_file import TRAINING, Length
from shardprof.study.knobs import Knobs
from shardprof.study.shapes import MODELS

STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies"
GOOD = """\
[study]
name = "good"
steps = 30

[matrix]
strategy = ["ddp", "fsdp2-hybrid", "zero2"]
knobs = ["as shipped", "small"]
ranks = [2, 4]
batch_size = [8, 16]

[knobs.small]
strategies = ["zero2"]
reduce_bucket_elements = 1000

[[exclude]]
strategy = "fsdp2-hybrid"
ranks = 2

[[exclude]]
batch_size = 16
knobs = ["small"]
"""
LAST = "[[exclude]]\nbatch_size"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


def cells_of(tmp_path: Path, text: str, device: str = "cpu") -> tuple[Cell, ...]:
    return cells(Located(written(tmp_path, text)), tuple(MODELS), device)


def test_cells_are_the_combinations_without_what_is_excluded_and_knobs_of_other_strategies(tmp_path: Path) -> None:
    found = {(cell.strategy, cell.knobs, cell.ranks, cell.batch_size) for cell in cells_of(tmp_path, GOOD)}
    assert found == {
        *(("ddp", AS_SHIPPED, ranks, batch) for ranks in (2, 4) for batch in (8, 16)),
        *(("fsdp2-hybrid", AS_SHIPPED, 4, batch) for batch in (8, 16)),
        *(("zero2", AS_SHIPPED, ranks, batch) for ranks in (2, 4) for batch in (8, 16)),
        *(("zero2", "small", ranks, 8) for ranks in (2, 4)),
    }


def test_named_knobs_are_theirs_and_shipped_ones_are_none(tmp_path: Path) -> None:
    located = Located(written(tmp_path, GOOD))
    by_name = {cell.knobs: knobs_of(cell, located.file.knobs) for cell in cells(located, tuple(MODELS), "cpu")}
    assert by_name == {AS_SHIPPED: Knobs(), "small": Knobs(reduce_bucket_elements=1000)}


def test_tuned_is_for_what_can_be_tuned_and_follows_from_the_model(tmp_path: Path) -> None:
    text = GOOD.replace('"as shipped", "small"', '"tuned", "small"').replace('"ddp"', '"zero0"')
    located = Located(written(tmp_path, text))
    found = cells(located, tuple(MODELS), "cpu")
    tuned = [cell for cell in found if cell.knobs == TUNED]
    assert {cell.strategy for cell in tuned} == {"fsdp2-hybrid", "zero2"}, "ZeRO-0 has nothing to tune"
    zero2 = next(knobs_of(cell, located.file.knobs) for cell in tuned if cell.strategy == "zero2")
    assert zero2 == Knobs(reduce_bucket_elements=MODELS["vit_small"].parameters // 10, overlap=True)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_studies_of_the_repository_are_right(path: Path) -> None:
    device = "cpu" if 'device = "cpu"' in path.read_text() else "cuda"
    found = cells(Located(path), tuple(MODELS), device)
    assert len(set(found)) == len(found) > 1


@pytest.mark.parametrize(
    ("wrong", "line", "message"),
    [
        (("steps = 30", "stps = 30"), 3, "unknown field `stps`"),
        (("steps = 30", 'steps = "many"'), 3, "expected `int"),
        (('name = "good"', 'name = "../good"'), 2, "it is also a folder's name; use letters, digits"),
        (("steps = 30", "steps = 30\nrepeats = 0"), 4, "expected `int` >= 1"),
        (("steps = 30", "steps = 30\ntarget_accuracy = 90"), 4, "expected `float` <= 1"),
        # 10 of warm-up, 5 captured, one that writes the trace, and one that counts.
        (("steps = 30", "steps = 16"), 3, "of 16 steps none counts in figures"),
        (("steps = 30", "steps = 15"), 3, "and what disturbs; set steps to 17 or more"),
        (("steps = 30", "steps = 17\nevaluate_every = 4"), 3, "set steps to 18 or more"),
        (("steps = 30", "steps = 30\nevaluate_every = 1"), 4, "every step holds an evaluation"),
        (("steps = 30", "steps = 30\nepochs = 2"), 3, "lasts either steps or epochs"),
        (('name = "good"\n', ""), 1, "missing required field `name`"),
        (('"zero2"]\nknobs', '"zero4"]\nknobs'), 6, "no strategy is called 'zero4'; use one of ddp"),
        (('"as shipped", "small"', '"as shipped", "smal"'), 7, "no knobs is called 'smal'"),
        (("ranks = [2, 4]", "ranks = []"), 8, "ranks has no value"),
        (("ranks = [2, 4]", "ranks = [0]"), 8, "ranks: expected `int` >= 1"),
        (("ranks = [2, 4]", "ranks = [2, 3]"), 8, "3 ranks do not divide into shards of 2 for fsdp2-hybrid"),
        (("ranks = [2, 4]", "ranks = [2, 4]\nnodes = [3]"), 9, "2 ranks cannot be 3 nodes of the same size"),
        (("ranks = [2, 4]", 'ranks = [2, 4]\nprecision = ["fp16"]'), 9, "zero2 has no fp16 on a CPU"),
        (("ranks = [2, 4]", 'ranks = [2, 4]\nprecision = ["fp8"]'), 9, "no precision is called 'fp8'"),
        (("reduce_bucket_elements = 1000", "prefetch = 1"), 13, "zero2 has no prefetch; it has offload, overlap"),
        (("reduce_bucket_elements = 1000", "buckets = 1"), 13, "unknown field `buckets`"),
        (('strategies = ["zero2"]', 'strategies = ["zero"]'), 12, "no strategy is called 'zero'"),
        (('strategy = "fsdp2-hybrid"\nranks = 2', "rank = 2"), 16, "unknown field `rank`"),
        (('strategy = "fsdp2-hybrid"\nranks = 2', "nodes = 1"), 15, "no cell is left"),
        (('strategy = "fsdp2-hybrid"\nranks = 2', ""), 15, "exclude without a value leaves nothing out"),
        (('"fsdp2-hybrid"\nranks = 2', '"fsdp2-hybrd"'), 16, "'fsdp2-hybrd', which the matrix does not have; use one"),
        (('"fsdp2-hybrid"\nranks = 2', '"fsdp2-hybrid"\nranks = [2, 8]'), 17, "ranks 8, which the matrix does not"),
        (("batch_size = [8, 16]", "batch_size = [8, 16, 8]"), 9, "batch_size has 8 twice"),
        (("batch_size = [8, 16]", "batch_size = 8"), 9, "batch_size: expected a list, got `int`; write it as a list"),
        (("steps = 30", 'steps = 30\nlauncher = "mpirun"'), 4, "'mpirun'; use one of torchrun, deepspeed"),
        (("steps = 30", 'steps = 30\ndevice = "tpu"'), 4, "device: invalid enum value 'tpu'; use one of cuda, cpu"),
        (("steps = 30", "steps = 30\nseed = 100000000000000000000"), 4, "seed: expected `int` <= 2147483647"),
        (("steps = 30", "steps = 100000000000000000000000000"), 3, "steps: expected `int` <= 2147483647"),
        (("steps = 30", "steps = 30\nlr = inf"), 4, "lr: expected `float` <= 1"),
        (("steps = 30", "steps = 30\nlr = nan"), 4, "lr: expected `float` > 0"),
        (("steps = 30", "steps = 30\nworkers = 5000"), 4, "workers: expected `int` <= 1024"),
        (("elements = 1000", "elements = 0"), 13, "reduce_bucket_elements: expected `int` >= 1"),
        (("elements = 1000", "elements = -5"), 13, "reduce_bucket_elements: expected `int` >= 1"),
        ((LAST, f"[knobs.a]\nprefetch = -1\n{LAST}"), 20, "prefetch: expected `int` >= 0"),
        ((LAST, f'[knobs.tuned]\nstrategies = ["ddp"]\n{LAST}'), 19, "every study has the knobs"),
        ((LAST, f'[knobs.a]\nstrategies = ["ddp"]\n{LAST}'), 19, "no cell has the knobs 'a'"),
        (('strategies = ["zero2"]', 'strategies = ["zero1"]'), 11, "no cell has the knobs 'small'; add its name"),
        (("batch_size = [8, 16]", f"batch_size = {list(range(1, 17000))}"), 5, "has 203,988 combinations"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_told_with_its_line_and_what_to_change(
    tmp_path: Path, wrong: tuple[str, str], line: int, message: str
) -> None:
    assert wrong[0] in GOOD
    with pytest.raises(StudyError, match=re.escape(message)) as error:
        cells_of(tmp_path, GOOD.replace(*wrong))
    assert f"study.toml, line {line}: " in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("enough", ["steps = 17", "steps = 17\nevaluate_every = 5", "steps = 18\nevaluate_every = 4"])
def test_steps_of_which_one_counts_are_enough(tmp_path: Path, enough: str) -> None:
    assert cells_of(tmp_path, GOOD.replace("steps = 30", enough))


def test_text_that_is_no_toml_and_a_file_that_is_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"is no TOML.*line 2"):
        Located(written(tmp_path, "[study]\nname = \n"))
    with pytest.raises(StudyError, match="No such file"):
        Located(tmp_path / "absent.toml")


DOTTED = """\
study.name = "good"
study.steps = 30
knobs = {"small one" = {strategies = ["zero2"], overlap = true}}

matrix.strategy = ["zero2"]
matrix.knobs = ["small one"]
matrix . "ranks" = [2]
"""


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (("30", "0"), 2), (("[2]", "[2, 2]"), 7), (("small one", "tuned"), 3), (('study.name = "good"\n', ""), 1),
        (("overlap = true", "overlap = 3"), 3), (('["small one"]', "[]"), 6),
    ],
)  # fmt: skip
def test_keys_of_several_parts_and_inline_tables_have_lines_too(
    tmp_path: Path, wrong: tuple[str, str], line: int
) -> None:
    assert len(cells_of(tmp_path, DOTTED)) == 1
    with pytest.raises(StudyError, match=f"line {line}: "):
        cells_of(tmp_path, DOTTED.replace(*wrong))


def test_half_precision_is_possible_on_gpus(tmp_path: Path) -> None:
    text = GOOD.replace("ranks = [2, 4]", 'ranks = [2, 4]\nprecision = ["fp16"]')
    assert {cell.precision for cell in cells_of(tmp_path, text, device="cuda")} == {"fp16"}


CHANGED = {
    "seed": 1, "steps": 31, "epochs": 2, "warm_up": 9, "captured": 4, "evaluate_every": 5, "data": "elsewhere",
    "workers": 2, "lr": 0.5, "clip_norm": 1.0, "device": "cuda", "launcher": "deepspeed", "threads": 3,
}  # fmt: skip


def test_the_name_of_a_cell_changes_with_whatever_changes_its_training(tmp_path: Path) -> None:
    cell = cells_of(tmp_path, GOOD)[0]
    plain: dict[str, Any] = {"name": "a", "steps": 30}
    assert set(CHANGED) == set(TRAINING), "every key that changes a training has another value here"
    one = Length(**plain)
    lengths = [Length(**(plain | {name: value})) for name, value in CHANGED.items() if name != "device"]
    names = {cell_id(cell, length, Knobs(), None, "cpu") for length in [one, *lengths]}
    names |= {cell_id(cell, one, Knobs(no_sync=True), None, "cpu"), cell_id(cell, one, Knobs(), 1e9, "cpu")}
    names.add(cell_id(cell, one, Knobs(), None, "cuda"))
    assert len(names) == len(CHANGED) + 3
    more = Length(**plain, repeats=9, about="other words", timeout_s=5, target_accuracy=0.5)
    assert cell_id(cell, more, Knobs(), None, "cpu") == cell_id(cell, one, Knobs(), None, "cpu")
    named = Length(**plain, device="cpu")
    assert cell_id(cell, named, Knobs(), None, "cpu") == cell_id(cell, one, Knobs(), None, "cpu"), "what is trained on"
