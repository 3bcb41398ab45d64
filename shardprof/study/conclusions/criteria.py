"""By what cells are chosen: step time, memory, bytes on the network, and whether they finish."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shardprof.study.conclusions.groups import CellTrials
from shardprof.study.conclusions.statistics import differs
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import CellFigures, Estimate, Situation

THROUGHPUT, MEMORY, NETWORK = "throughput", "least memory", "least network traffic"
ROLES = (THROUGHPUT, MEMORY, NETWORK)
RatioOf = Callable[[CellTrials, CellTrials], "Estimate | None"]


def front(study: Study, situation: Situation) -> list[CellTrials]:
    """The cells that no other one dominates, by speed.

    One dominates another that is at least as good in everything and better in something, by more than chance.
    """
    cells = study.by_speed(situation)
    return [cell for cell in cells if not any(_dominates(study, other, cell) for other in cells if other is not cell)]


def best(study: Study, role: str, situation: Situation) -> list[CellTrials]:
    """The cells that none of the situation is better than in one criterion, the best first."""
    by_value = {cell.name: figure(study.of(cell), role) for cell in study.situations[situation]}
    cells = [cell for cell in study.by_speed(situation) if by_value[cell.name] is not None]
    cells.sort(key=lambda cell: by_value[cell.name] or 0.0)
    ratio_of = ratios(study)[role]
    return [cell for cell in cells if all(_sign(ratio_of(other, cell)) >= 0 for other in cells if other is not cell)]


def ratios(study: Study) -> Mapping[str, RatioOf]:
    """What compares two cells by each criterion: the less, the better."""
    return {THROUGHPUT: study.time_ratio, MEMORY: study.memory_ratio, NETWORK: study.network_ratio}


def figure(cell: CellFigures, role: str) -> float | None:
    """What a criterion goes by."""
    found = {THROUGHPUT: cell.step_ns, MEMORY: cell.memory_bytes, NETWORK: cell.network_bytes}[role]
    return found.value if found else None


def _dominates(study: Study, a: CellTrials, b: CellTrials) -> bool:
    signs = [_sign(ratio_of(a, b)) for ratio_of in ratios(study).values()]
    unfinished_a, unfinished_b = (1 - study.of(cell).finished / study.of(cell).trials for cell in (a, b))
    signs.append((unfinished_a > unfinished_b) - (unfinished_a < unfinished_b))
    return max(signs) <= 0 and min(signs) < 0


def _sign(ratio: Estimate | None) -> int:
    """-1 where the first is less, by more than chance."""
    return 0 if ratio is None or not differs(ratio) else -1 if ratio.value < 1 else 1
