"""What cells are called: their strategy and knobs and, where a study file was edited between two runs, what differs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from shardprof.study.bench.cells import AS_SHIPPED, Cell
from shardprof.study.bench.study_file import TRAINING
from shardprof.study.results import Trial
from shardprof.words import plural

_ID_CHARACTERS = 6
_COUNTED = {"steps": "step", "epochs": "epoch"}
_WORDS = {"warm_up": "warm-up", "clip_norm": "clipping", "lr": "lr"}


def label(cell: Cell) -> str:
    """Its strategy, and its knobs where they are not those that are shipped."""
    return cell.strategy if cell.knobs == AS_SHIPPED else f"{cell.strategy} {cell.knobs}"


def differences(trials: Mapping[str, Trial]) -> dict[str, str]:
    """In what cells of one label and situation differ, by the ids of cells, from a trial of each: "30 steps"; "" for
    one alone. What nothing tells apart has its id."""
    facts = {cell_id: _facts(trial) for cell_id, trial in trials.items()}
    names = dict.fromkeys(name for told in facts.values() for name in told)
    differing = [name for name in names if len({told.get(name, "null") for told in facts.values()}) > 1]
    words = {
        cell_id: ", ".join(filter(None, (_words(name, told.get(name, "null")) for name in differing)))
        for cell_id, told in facts.items()
    }
    alike = Counter(words.values())
    return {
        cell_id: told if alike[told] == 1 else ", ".join(filter(None, (told, cell_id[:_ID_CHARACTERS])))
        for cell_id, told in words.items()
    }


def _facts(trial: Trial) -> dict[str, str]:
    """What of its study file changes a training, as JSON; what it ran on where the file leaves that open."""
    report = trial.measurement.report
    device = next((rank.device for rank in report.ranks if rank.device), None) if report else None
    told: dict[str, Any] = {name: trial.length.get(name) for name in TRAINING} | {**trial.knobs}
    told["device"] = told["device"] or device
    return {name: json.dumps(value, default=str) for name, value in told.items()}


def _words(name: str, value: str) -> str:
    word = _WORDS.get(name, name.replace("_", " "))
    if name in _COUNTED:
        return plural(int(value), _COUNTED[name]) if value.isdecimal() else ""
    return f"no {word}" if value in ("null", "false") else word if value == "true" else f"{word} {json.loads(value)}"
