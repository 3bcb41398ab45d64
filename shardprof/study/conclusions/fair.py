"""What keeps cells from being compared fairly: each pair of a situation is checked, and what is unequal told once.

The checks are those of `shardprof compare` on the reports of the pair's trials, and those that a study makes possible:
initial weights, the order of data, the length of the training, facts of the machines.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from shardprof.analysis.comparing.fairness import MIND, NOT_COMPARABLE, caveats
from shardprof.analysis.comparing.measured import Measured
from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import Fairness, Situation, Unequal
from shardprof.words import enumeration, plural

_SIDE = re.compile(r"\b(in|of) [AB]\b")
_MIRRORED = str.maketrans("AB", "BA")
_BY_DESIGN = {"arguments", "versions", "environment"}
"""What a study sets for each cell itself, and what is checked below among all its facts."""
_OF_CELLS = {
    "few steps": "fewer than 5 steps of a cell were captured: what is said of causes rests on few",
    "warm-up": "steps before the 10th were captured, by which a training may not have settled",
    "runs": "one trial of a cell finished: what differs from run to run is in no interval",
}
"""What `compare` says of a side by itself, as it is said of a study."""
_KNOWN = {"batch of a rank", "gradient accumulation"}
"""What a study knows, where the reports of its trials do not tell it."""
_HIDDEN = {"name", "about", "repeats", "timeout_s", "started_ns", "ended_ns"}
"""Of the length and the workload: what does not change a training."""
_OWN = {"initial_weights": NOT_COMPARABLE, "data_order": NOT_COMPARABLE}
_WORDS = {
    "initial_weights": "initial weights", "data_order": "order of data", "global_batch": "global batch",
    "clip_norm": "gradient clipping", "warm_up": "warm-up steps", "lr": "learning rate",
}  # fmt: skip
_ALWAYS = ("initial_weights", "data_order", "global_batch", "optimizer", "clip_norm", "warm_up", "seed")
_SHOWN = ("global_batch", "clip_norm", "warm_up", "lr", "seed")
"""Whose values say something to a reader."""
_NONE = "none"
_Facts = Mapping[str, set[str]]
_Difference = tuple[str, str, str]
"""Severity, subject and message."""


@dataclass(slots=True)
class _Found:
    """Pairs in which something holds, and the cells on each side of it."""

    pairs: int = 0
    sides: tuple[dict[str, None], dict[str, None]] = field(default_factory=lambda: ({}, {}))
    situations: set[Situation] = field(default_factory=set)

    def add(self, a: CellTrials, b: CellTrials) -> None:
        """Another pair."""
        self.pairs += 1
        self.situations.add(a.situation)
        self.sides[0][a.name] = None
        self.sides[1][b.name] = None


def fairness(study: Study) -> Fairness:
    """Of all pairs of all situations."""
    drifting = _drifting(study)
    told = {(cell.cell_id, cell.situation): _facts(cell, drifting) for cell in study.cells if cell.finished}
    pairs = [pair for cells in study.situations.values() for pair in itertools.combinations(_finished(cells), 2)]
    found: dict[_Difference, _Found] = defaultdict(_Found)
    for a, b in pairs:
        facts_a, facts_b = (told[cell.cell_id, cell.situation] for cell in (a, b))
        for difference, swapped in _of_pair(a, b, facts_a, facts_b):
            found[difference].add(*((b, a) if swapped else (a, b)))
    unequal = [_unequal(difference, where) for difference, where in found.items()]
    subjects = {row.subject for row in unequal}
    names = {name for facts in told.values() for name in facts}
    return Fairness(
        pairs=len(pairs),
        equal=tuple(_equal_words(told.values(), subjects)),
        not_told=tuple(_word(name) for name in _ALWAYS if pairs and name not in names),
        unequal=tuple(sorted(unequal, key=lambda row: (row.severity != NOT_COMPARABLE, -row.pairs, row.subject))),
        changed=tuple(_changed(study, subjects)),
    )


def _finished(cells: Sequence[CellTrials]) -> list[CellTrials]:
    return [cell for cell in cells if cell.finished]


def _of_pair(a: CellTrials, b: CellTrials, facts_a: _Facts, facts_b: _Facts) -> Iterator[tuple[_Difference, bool]]:
    """Each difference; its message is the smaller one of itself and its mirror image, so that the same difference of
    other pairs is the same. And whether it was mirrored."""
    runs_a, runs_b = _measured(a), _measured(b)
    for caveat in caveats(runs_a, runs_b) if runs_a and runs_b else ():
        if caveat.subject in _OF_CELLS:
            yield (caveat.severity, caveat.subject, _OF_CELLS[caveat.subject]), False
        elif caveat.subject not in _BY_DESIGN and not (caveat.subject in _KNOWN and "not told" in caveat.message):
            message, swapped = _canonical(caveat.message)
            yield (caveat.severity, caveat.subject, message), swapped
    if a.cell.has_one_replica != b.cell.has_one_replica:
        side = "A" if a.cell.has_one_replica else "B"
        message, swapped = _canonical(f"one replica in {side}: it is full sharding")
        yield (MIND, "hybrid sharding", message), swapped
    for name in sorted(facts_a.keys() | facts_b.keys()):
        of_a, of_b = facts_a.get(name), facts_b.get(name)
        if of_a != of_b or len(of_a or ()) > 1:
            message, swapped = _canonical(f"{_either(of_a)} in A, {_either(of_b)} in B")
            yield (_OWN.get(name, MIND), _word(name), message), swapped


def _canonical(message: str) -> tuple[str, bool]:
    mirrored = _SIDE.sub(lambda found: found[0][:-1] + found[0][-1].translate(_MIRRORED), message)
    clauses = ", ".join(sorted(mirrored.split(", "), key=_side_of)) if mirrored.count(", ") == 1 else mirrored
    return min((message, False), (clauses, True))


def _side_of(clause: str) -> str:
    found = _SIDE.search(clause)
    return found[0][-1] if found else ""


def _unequal(difference: _Difference, entry: _Found) -> Unequal:
    severity, subject, message = difference
    names = {"A": enumeration(list(entry.sides[0])), "B": enumeration(list(entry.sides[1]))}
    told = _SIDE.sub(lambda found: found[0][:-1] + names[found[0][-1]], message)
    return Unequal(
        severity=severity, subject=subject, message=told, pairs=entry.pairs, situations=len(entry.situations)
    )


def _measured(cell: CellTrials) -> list[Measured]:
    """The trials of a cell as `shardprof compare` takes runs."""
    reports = [report for trial in cell.finished.values() if (report := trial.measurement.report)]
    return [Measured(result=report, memory_bytes={}) for report in reports]


def _drifting(study: Study) -> set[str]:
    """Facts of the machines that changed while a cell was repeated: so they are no matter of cells."""
    values: dict[tuple[str, Situation, str], set[str]] = defaultdict(set)
    for cell in study.cells:
        for trial in cell.finished.values():
            for name, value in trial.environment.items():
                values[cell.cell_id, cell.situation, name].add(value)
    return {name for (_, _, name), told in values.items() if len(told) > 1}


def _facts(cell: CellTrials, without: Set[str]) -> dict[str, set[str]]:
    """What the trials of a cell tell of themselves: the values of each name."""
    facts: dict[str, set[str]] = defaultdict(set)
    for trial in cell.finished.values():
        told: dict[str, Any] = {**trial.environment, **trial.measurement.workload, **trial.length}
        for name, value in (told | {"global_batch": cell.cell.global_batch}).items():
            if name not in _HIDDEN and name not in without:
                facts[name].add(_text(value))
    return facts


def _text(value: Any) -> str:
    if value is None:
        return _NONE
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _changed(study: Study, told: set[str]) -> Iterator[str]:
    """Facts of the machines that changed with time; those that differ from cell to cell are told there."""
    names = dict.fromkeys(name for trial in study.trials for name in trial.environment)
    for name in names:
        values = Counter(trial.environment[name] for trial in study.trials if name in trial.environment)
        if len(values) > 1 and name not in told:
            words = (f"{value} in {plural(count, 'trial')}" for value, count in values.items())
            yield f"{name} ({', '.join(words)})"


def _equal_words(told: Iterable[_Facts], unequal: set[str]) -> Iterator[str]:
    """The facts that matter and hold everywhere, with the values that a reader knows."""
    facts: dict[str, set[str]] = defaultdict(set)
    for one in told:
        for name, values in one.items():
            facts[name] |= values
    for name in (*_ALWAYS, "lr"):
        if name in facts and _word(name) not in unequal:
            values = facts[name]
            yield f"{_word(name)} {next(iter(values))}" if name in _SHOWN and len(values) == 1 else _word(name)


def _word(name: str) -> str:
    return _WORDS.get(name, name)


def _either(values: Sequence[str] | set[str] | None) -> str:
    return " or ".join(sorted(values)) if values else "not told"
