"""Who is faster in each situation, as far as intervals tell, and where that changes with the fabric."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.statistics import by, differs
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import Crossing, Estimate, Ranked, Ranking, Situation

_AtFabric = tuple[float, Estimate]


def rankings(study: Study) -> tuple[Ranking, ...]:
    """A ranking a situation in which a cell was timed."""
    found = ((situation, places(study, study.by_speed(situation))) for situation in study.situations)
    return tuple(
        Ranking(situation=situation, ranked=tuple(_ranked(study, placed))) for situation, placed in found if placed
    )


def places(study: Study, cells: Sequence[CellTrials]) -> list[list[CellTrials]]:
    """Cells by speed, together where no interval tells them from the first of them."""
    found: list[list[CellTrials]] = []
    for cell in cells:
        if found and not differs(study.time_ratio(cell, found[-1][0])):
            found[-1].append(cell)
        else:
            found.append([cell])
    return found


def _ranked(study: Study, placed: Sequence[Sequence[CellTrials]]) -> Iterator[Ranked]:
    best, place = placed[0][0], 1
    for group in placed:
        for cell in group:
            step_ns = study.of(cell).step_ns
            assert step_ns is not None
            to_best = None if cell is best else study.time_ratio(cell, best)
            yield Ranked(name=cell.name, place=place, tied=len(group) > 1, step_ns=step_ns, to_best=to_best)
        place += len(group)


def crossings(study: Study) -> tuple[Crossing, ...]:
    """All of them, those between the fastest cells first."""
    series: dict[Situation, list[CellTrials]] = defaultdict(list)
    for cell in study.cells:
        if cell.situation.fabric_bytes_per_s and study.of(cell).step_ns:
            series[replace(cell.situation, fabric_bytes_per_s=None)].append(cell)
    found = [crossing for cells in series.values() for crossing in _crossings_of(study, cells)]
    return tuple(sorted(found, key=lambda crossing: _best_place(study, crossing)))


def _best_place(study: Study, crossing: Crossing) -> int:
    names = [cell.name for cell in study.by_speed(crossing.situation)]
    return names.index(crossing.on_slow)


def _crossings_of(study: Study, cells: Sequence[CellTrials]) -> Iterator[Crossing]:
    by_name: dict[str, dict[float, CellTrials]] = defaultdict(dict)
    for cell in cells:
        by_name[cell.name][cell.situation.fabric_bytes_per_s or 0.0] = cell
    for a, b in itertools.combinations(by_name.values(), 2):
        ratios = [(at, study.time_ratio(a[at], b[at])) for at in sorted(a.keys() & b.keys())]
        known = [(at, ratio) for at, ratio in ratios if ratio is not None]
        told = [i for i, (_, ratio) in enumerate(known) if differs(ratio)]
        for low, high in itertools.pairwise(told):
            if (known[low][1].value < 1) != (known[high][1].value < 1):
                yield _crossing(a, b, known[low : high + 1])


def _crossing(a: dict[float, CellTrials], b: dict[float, CellTrials], between: Sequence[_AtFabric]) -> Crossing:
    (slow, slow_ratio), (fast, fast_ratio) = between[0], between[-1]
    first, second = (a, b) if slow_ratio.value < 1 else (b, a)
    turned = slow_ratio.value >= 1
    return Crossing(
        situation=first[slow].situation,
        on_slow=first[slow].name,
        on_fast=second[slow].name,
        slow_bytes_per_s=slow,
        fast_bytes_per_s=fast,
        near_bytes_per_s=_where_equal([(at, ratio.value) for at, ratio in between]),
        slow_ratio=by(1, slow_ratio) if turned else slow_ratio,
        fast_ratio=by(1, fast_ratio) if turned else fast_ratio,
    )


def _where_equal(ratios: Sequence[tuple[float, float]]) -> float:
    """The fabric at which the ratio is 1, on straight lines between logarithms."""
    points = [(math.log(at), math.log(ratio)) for at, ratio in ratios]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if (y0 < 0) != (y1 < 0):
            return math.exp(x0 + (x1 - x0) * y0 / (y0 - y1))
    raise AssertionError("the ratio crosses 1 between its ends")
