"""What a study says before it runs and while it does: whole at every width, safe, and plain about what failed."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from shardprof.study.bench.fit import fit
from shardprof.study.bench.hosts import Hosts
from shardprof.study.bench.plan import Plan, plan
from shardprof.study.model_sizes import usual_transformer
from shardprof.study.render import plan as dry_run
from shardprof.study.render.progress import follow
from shardprof.study.results import FAILED, Trial
from tests.unit.studies import cell, repeated, trial

NAME = "a long name [/nope] [bold]of knobs \\u001b]0;pwn\\u0007, which says what all of them do and why"
STUDY = f"""\
[study]
name = "told"
about = "red \\u001b[31m [bold]words[/bold] [/nope]"
steps = 30
repeats = 1
device = "cpu"

[matrix]
strategy = ["ddp", "fsdp2-hybrid"]
knobs = ["as shipped", "{NAME}"]
ranks = [2, 4]

[knobs."{NAME}"]
strategies = ["ddp"]
bucket_mb = 1
"""


def planned(tmp_path: Path) -> Plan:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return plan(path, Hosts(), None)


def shown(made: Plan, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    sizes = usual_transformer(10**6, precision="fp32", checkpointing=False)
    fits = {one: fit(one, None, sizes, None, "cpu") for one in made.cells}
    out = io.StringIO()
    dry_run.render(made, made.order, fits, [made.located.mistake(".matrix.ranks", "no \x1b[2J", "why")], out)
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_dry_run_shows_all_columns_and_obeys_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    text = shown(planned(tmp_path), width, monkeypatch)
    assert "\x1b" not in text
    assert r"red \x1b[31m [bold]words[/bold] [/nope]" in text
    assert all(len(line) <= width for line in text.splitlines())
    rows = [line.split() for line in text.splitlines() if line.endswith("unknown")]
    assert [row[-4] for row in rows] == ["2", "4"] * 3, "ranks, of two strategies and of one with knobs"
    assert r"cannot be run here  " in text
    assert r"\x1b[2J" in " ".join(text.split())


def test_hybrid_sharding_that_keeps_one_replica_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned(tmp_path)
    text = " ".join(shown(made, 80, monkeypatch).split())
    assert "fsdp2-hybrid on 2 ranks of one node keeps one replica: what is measured there is full sharding" in text
    assert {one.ranks for one in made.cells if one.has_one_replica} == {2}
    assert not cell("fsdp2-hybrid", ranks=4, nodes=2).has_one_replica


def followed(made: Plan, ended: list[Trial], before: list[Trial]) -> tuple[int, str]:
    out = io.StringIO()
    return follow(made.order[: len(ended)], iter(ended), before, out), out.getvalue()


def test_what_failed_before_is_not_forgotten(tmp_path: Path) -> None:
    made = planned(tmp_path)
    fine = repeated(cell(), [100, 110])
    lost = trial(cell("zero1", knobs="x\x1b[31m"), status=FAILED, reason="[/nope] \x1b[2J")
    assert followed(made, [], fine) == (0, "nothing is left to run: all 2 trainings are there\n")
    failed, text = followed(made, [], [*fine, lost])
    assert failed == 1
    assert text.endswith("1 of 3 trainings did not finish; --retry-failed runs them again\n")
    failed, text = followed(made, [fine[0], lost], [lost])
    assert failed == 2
    assert "nothing is left" not in text
    assert text.endswith("2 of 3 trainings did not finish; --retry-failed runs them again\n")
    assert r"zero1 x\x1b[31m fp32" in text
    assert r"[/nope] \x1b[2J" in text
    assert "\x1b" not in text
