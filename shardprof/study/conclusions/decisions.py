"""Which configuration to take for what: derived from those that no other one beats in everything that counts."""

from __future__ import annotations

from collections import defaultdict

from shardprof.study.conclusions.criteria import MEMORY, NETWORK, ROLES, THROUGHPUT, best, figure, front, ratios
from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.phrases import between, few, rate, ratio
from shardprof.study.conclusions.statistics import differs
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import Decision
from shardprof.words import size

COMPROMISE = "a compromise"


def decisions(study: Study) -> tuple[Decision, ...]:
    """A line a configuration and role, those that are best for most first."""
    found: dict[tuple[str, str], list[CellTrials]] = defaultdict(list)
    for situation in study.situations:
        for cell in front(study, situation):
            for role in _roles(study, cell) or [COMPROMISE]:
                found[cell.name, role].append(cell)
    weight: dict[str, int] = defaultdict(int)
    for (name, role), cells in found.items():
        weight[name] += 0 if role == COMPROMISE else len(cells)
    order = (*ROLES, COMPROMISE)
    ordered = sorted(found.items(), key=lambda item: (-weight[item[0][0]], item[0][0], order.index(item[0][1])))
    return tuple(_decision(study, name, role, cells) for (name, role), cells in ordered)


def _roles(study: Study, cell: CellTrials) -> list[str]:
    """What a cell is the best for; where all are as good, none is."""
    found = []
    for role in ROLES:
        leading = best(study, role, cell.situation)
        if cell in leading and len(leading) < len(study.by_speed(cell.situation)):
            found.append(role)
    return found


def _decision(study: Study, name: str, role: str, cells: list[CellTrials]) -> Decision:
    tied = dict.fromkeys(
        other.name
        for cell in cells
        if role != COMPROMISE
        for other in best(study, role, cell.situation)
        if other is not cell
    )
    return Decision(
        name=name,
        best_for=role,
        situations=tuple(cell.situation for cell in cells),
        tied_with=tuple(tied),
        figures=tuple(_figures(study, cell, role) for cell in cells),
    )


def _figures(study: Study, cell: CellTrials, role: str) -> str:
    """The figure of a role in one situation, what is as good there, and the best one that is not."""
    at = study.words(cell.situation)
    roles = ROLES if role == COMPROMISE else (role,)
    return (f"{at}: " if at else "") + ", ".join(filter(None, (_figure(study, cell, one) for one in roles)))


def _figure(study: Study, cell: CellTrials, role: str) -> str:
    if figure(study.of(cell), role) is None:
        return ""
    leading = best(study, role, cell.situation)
    if cell not in leading:
        return _amount(study, cell, role) + _against(study, cell, leading[0], role)
    behind = [other for other in study.by_speed(cell.situation) if other not in leading]
    valued = [(value, other) for other in behind if (value := figure(study.of(other), role)) is not None]
    nearest = min(valued, key=lambda pair: pair[0])[1] if valued else None
    tied = [other.name for other in leading if other is not cell]
    told = f", as good as {few(tied)}" if tied else ""
    return _amount(study, cell, role) + told + (_against(study, cell, nearest, role) if nearest else "")


def _amount(study: Study, cell: CellTrials, role: str) -> str:
    figures = study.of(cell)
    if role == THROUGHPUT and figures.samples_per_s:
        return f"{rate(figures.samples_per_s.value)} samples/s{between(figures.samples_per_s, rate)}"
    shown = {MEMORY: figures.memory_bytes, NETWORK: figures.network_bytes}[role]
    assert shown is not None
    where = " out of a node a step" if cell.situation.nodes > 1 else " sent a step"
    return f"{size(shown.value)}{where if role == NETWORK else ''}{between(shown, size)}"


def _against(study: Study, cell: CellTrials, other: CellTrials, role: str) -> str:
    """The ratio to another cell, where that is more than chance."""
    found = ratios(study)[role](cell, other)
    if found is None or not differs(found) or ratio(found.value) == ratio(1):
        return ""
    what = "the step" if role == THROUGHPUT else "that"
    return f", x{ratio(found.value)} {what} of {other.name}{between(found)}"
