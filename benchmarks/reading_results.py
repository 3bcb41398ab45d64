"""What reading cost, and whether that is within its budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from measuring import Sample

MB = 1e6
CPU_OF_FLOOR = 2
WALL_OF_FLOOR = 1
WALL_OF_HTA = 50
HTA_COPIES = 10  # the trace of 500 MB that HTA is compared on
BASE_RSS_BYTES = 100 * MB
RSS_BYTES_AN_EVENT = 80
GROWTH_A_RANK = 1.1  # what is left to noise of "linear": the cost of a rank grows by no more, of 8 ranks to 128
ANSWER_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A figure of every round, whose median is to be at most (or at least) `limit`; of what unit, "x" for a ratio."""

    what: str
    values: list[float]
    limit: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether it is."""
        measured = median(self.values)
        return measured >= self.limit if self.at_least else measured <= self.limit


@dataclass(frozen=True, slots=True, kw_only=True)
class FileCost:
    """One file, `copies` times the large trace: what the floor found in it, and the samples of each contestant."""

    copies: int
    floor: dict[str, Any]
    samples: dict[str, list[Sample]]

    @property
    def name(self) -> str:
        """As it stands in the tables."""
        return "as it is" if self.copies == 1 else f"x{self.copies}"

    def ratios(self, field: str, contestant: str, other: str) -> list[float]:
        """Of one field of Sample, round by round."""
        return ratios(field, self.samples[contestant], self.samples[other])

    def targets(self) -> list[Target]:
        """The budgets that this file is held to."""
        to_floor = ("shardprof", "floor")
        found = [
            Target(
                what=f"{self.name}: CPU time over the floor's",
                values=self.ratios("cpu_s", *to_floor), limit=CPU_OF_FLOOR, unit="x",
            ),
            Target(
                what=f"{self.name}: peak RSS, 100 MB + 80 B an event",
                values=[sample.peak_rss_bytes / MB for sample in self.samples["shardprof"]],
                limit=(BASE_RSS_BYTES + RSS_BYTES_AN_EVENT * self.floor["events"]) / MB, unit="MB",
            ),
        ]  # fmt: skip
        if self.copies > 1:
            what, values = f"{self.name}: wall time over the floor's", self.ratios("wall_s", *to_floor)
            found.append(Target(what=what, values=values, limit=WALL_OF_FLOOR, unit="x"))
        if self.copies == HTA_COPIES and "HTA" in self.samples:
            what, values = f"{self.name}: HTA's wall time over ours", self.ratios("wall_s", "HTA", "shardprof")
            found.append(Target(what=what, values=values, limit=WALL_OF_HTA, unit="x", at_least=True))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingCost:
    """All of it: files; jobs by their number of ranks; `shardprof report` of a small trace, in the terminal."""

    files: list[FileCost]
    ranks: dict[int, list[Sample]]
    answer: list[Sample]

    def growth_a_rank(self, field: str) -> list[float]:
        """The cost of a rank in the largest job over that in the smallest, round by round."""
        fewest, most = min(self.ranks), max(self.ranks)
        return [ratio * fewest / most for ratio in ratios(field, self.ranks[most], self.ranks[fewest])]

    def targets(self) -> list[Target]:
        """Every budget."""
        found = [target for file in self.files for target in file.targets()]
        for field, name in (("cpu_s", "CPU time"), ("wall_s", "wall time")):
            what = f"{name} a rank, {max(self.ranks)} ranks over {min(self.ranks)}"
            found.append(Target(what=what, values=self.growth_a_rank(field), limit=GROWTH_A_RANK, unit="x"))
        answers = [sample.wall_s for sample in self.answer]
        return [*found, Target(what="a small trace is answered within", values=answers, limit=ANSWER_S, unit="s")]


def ratios(field: str, samples: Sequence[Sample], others: Sequence[Sample]) -> list[float]:
    """Of one field of two contestants, round by round."""
    return [getattr(a, field) / getattr(b, field) for a, b in zip(samples, others, strict=True)]
