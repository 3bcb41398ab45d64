"""What a study consists of as it was last run: kept beside its results, and told where it is not yet whole."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from shardprof.errors import ShardprofError
from shardprof.study.conclusions import conclude
from shardprof.study.store import Store
from tests.unit.studies import cell, repeated, trial


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results.duckdb")


def planned_of(store: Store) -> dict[str, int | None]:
    return {one.trial_id: one.planned for one in store.trials()}


def test_a_study_that_was_interrupted_lacks_what_has_not_run(store: Store) -> None:
    made = repeated(cell(), [100, 100, 100])
    store.plan("hand-made", None, [one.trial_id for one in made])
    assert store.trials() == []
    store.add(made[0])
    assert planned_of(store) == {made[0].trial_id: 3}
    assert conclude(store.trials()).head.left == 2
    for one in made[1:]:
        store.add(one)
    assert conclude(store.trials()).head.left == 0


def test_the_last_plan_holds_and_older_trainings_are_none_of_it(store: Store) -> None:
    old, new = trial(cell(), 100), trial(cell("zero1"), 100)
    store.plan("hand-made", None, [old.trial_id])
    store.plan("hand-made", None, [new.trial_id, "another"])
    store.add(old)
    store.add(new)
    assert planned_of(store) == {old.trial_id: None, new.trial_id: 2}
    assert conclude(store.trials()).head.left == 1


def test_each_study_and_each_fabric_has_a_plan_of_its_own(store: Store) -> None:
    made = [
        trial(cell(name, nodes=2), 100, study=study, fabric_bytes_per_s=at)
        for name, study, at in (("ddp", "a", 1e6), ("zero0", "a", 1e8), ("zero1", "b", 1e6))
    ]
    for size, one in enumerate(made, 1):
        more = [f"{one.trial_id} {number}" for number in range(size - 1)]
        store.plan(one.study, one.fabric_bytes_per_s, [one.trial_id, *more])
        store.add(one)
    assert list(planned_of(store).values()) == [1, 2, 3]
    assert conclude(store.trials()).head.left == 3


def test_results_without_a_plan_and_exports_tell_nothing_of_it(store: Store, tmp_path: Path) -> None:
    store.add(trial(cell(), 100))
    assert list(planned_of(store).values()) == [None]
    store.plan("hand-made", None, ["another"])
    store.export(tmp_path / "exported", "parquet")
    assert list(planned_of(Store(tmp_path / "exported")).values()) == [None]


def test_a_plan_that_is_none_is_told_in_one_line(store: Store) -> None:
    store.add(trial(cell(), 100))
    with duckdb.connect(str(store.path)) as database:
        database.execute("CREATE TABLE planned (something INTEGER)")
    with pytest.raises(ShardprofError, match="holds no study"):
        store.trials()
