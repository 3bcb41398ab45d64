"""The cells of a study side by side: their step times and ratios, computed once for all that is concluded from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from shardprof.study.conclusions.cell_figures import figures_of, memory_name, memory_of
from shardprof.study.conclusions.groups import CellTrials, by_situation, cells_of, varied_axes, words
from shardprof.study.conclusions.reading import network_bytes, wire_bytes
from shardprof.study.conclusions.statistics import counted, paired
from shardprof.study.conclusions.step_times import StepTimes
from shardprof.study.conclusions.study_report import CellFigures, Estimate, Situation
from shardprof.study.results import Trial

Key = tuple[str, Situation]


class Study:
    """What every conclusion looks at. Ratios are of the first cell's figure over the second's. `compared` are the cells
    that did not diverge: of others neither steps nor bytes say anything; `situations` are those of them."""

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = trials
        self.cells = cells_of(trials)
        self.compared = tuple(cell for cell in self.cells if cell.diverged_at is None)
        self.situations = by_situation(self.compared)
        self.axes = varied_axes([cell.situation for cell in self.cells])
        self._memory = memory_name(self.cells)
        self._times = {_key(cell): StepTimes(cell, seed) for seed, cell in enumerate(self.cells)}
        self._ratios: dict[tuple[Key, Key], Estimate | None] = {}

    @cached_property
    def figures(self) -> dict[Key, CellFigures]:
        """The figures of each cell."""
        return {_key(cell): figures_of(cell, self._times[_key(cell)], self._memory) for cell in self.cells}

    def of(self, cell: CellTrials) -> CellFigures:
        """The figures of a cell."""
        return self.figures[_key(cell)]

    def time_ratio(self, a: CellTrials, b: CellTrials) -> Estimate | None:
        """Of step times."""
        both = _key(a), _key(b)
        if both not in self._ratios:
            self._ratios[both] = self._times[both[0]].ratio_to(self._times[both[1]])
        return self._ratios[both]

    def memory_ratio(self, a: CellTrials, b: CellTrials) -> Estimate | None:
        """Of memory."""
        name = self._memory[0]
        return paired(memory_of(a, name), memory_of(b, name))

    def wire_ratio(self, a: CellTrials, b: CellTrials) -> Estimate | None:
        """Of the bytes that a rank sends in a step."""
        return counted(paired(a.values(wire_bytes), b.values(wire_bytes)))

    def network_ratio(self, a: CellTrials, b: CellTrials) -> Estimate | None:
        """Of the bytes that a step sends over the network."""
        return counted(paired(a.values(network_bytes), b.values(network_bytes)))

    def by_speed(self, situation: Situation) -> list[CellTrials]:
        """The cells of a situation whose step time is known, the shortest first."""
        timed = [(step.value, cell) for cell in self.situations[situation] if (step := self.of(cell).step_ns)]
        return [cell for _, cell in sorted(timed, key=lambda pair: pair[0])]

    def words(self, situation: Situation) -> str:
        """A situation by what tells it from the study's others."""
        return words(situation, self.axes)


def _key(cell: CellTrials) -> Key:
    return cell.cell_id, cell.situation
