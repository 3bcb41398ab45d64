"""R33: kernels are slower while communication runs beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.engine import Int64s, covered_ns

FEWEST = 5
LEAST_SLOWDOWN, MOST_SLOWDOWN = 1.15, 2.0
LEAST_SHARE = 0.03
LEAST_COVERED = 0.9
_LONGEST_NAME = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowed(Observation):
    """Kernels that take `lost_ns` of a step longer beside communication than alone: the `kernel` that loses most takes
    `beside_ns` and `alone_ns`, medians of `beside` and `alone` runs."""

    lost_ns: float
    kernel: str
    beside_ns: float
    alone_ns: float
    beside: int
    alone: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runs:
    """The runs of one kernel at one place, beside communication and alone: rows, and their times."""

    rows: Int64s
    beside_ns: Int64s
    alone_ns: Int64s

    @property
    def slowdown(self) -> float:
        return float(np.median(self.beside_ns) / max(np.median(self.alone_ns), 1))

    @property
    def lost_ns(self) -> float:
        return float(self.beside_ns.sum() - len(self.beside_ns) * np.median(self.alone_ns))

    @property
    def are_slowed(self) -> bool:
        """Nearly all are slower beside communication, yet not by as much as other work of the same name would be."""
        apart = np.quantile(self.beside_ns, 0.25) > np.quantile(self.alone_ns, 0.75)
        return bool(apart) and LEAST_SLOWDOWN <= self.slowdown <= MOST_SLOWDOWN

    @property
    def have_other_work(self) -> bool:
        """Nearly all are faster beside communication, which only less work explains."""
        return bool(np.quantile(self.beside_ns, 0.75) < np.quantile(self.alone_ns, 0.25))


def observe(view: View) -> Iterator[Slowed]:
    """Kernels at one place of a layer, where what they lose together is more than LEAST_SHARE of a step. As much as
    others seem to win there, some of these may seem to lose."""
    if not view.on_gpu or not len(view.activities.collectives):
        return
    every = list(_runs(view))
    slowed = [runs for runs in every if runs.are_slowed]
    lost_ns = view.a_step(sum(runs.lost_ns for runs in every if runs.are_slowed or runs.have_other_work))
    if lost_ns <= LEAST_SHARE * view.step_ns:
        return
    worst = max(slowed, key=lambda runs: runs.lost_ns)
    longest = int(worst.rows[worst.beside_ns.argmax()])
    yield Slowed(
        rank=view.rank,
        evidence=(view.at(longest, "one that is"),),
        lost_ns=lost_ns,
        kernel=_short(view.events.name_of(longest)),
        beside_ns=float(np.median(worst.beside_ns)),
        alone_ns=float(np.median(worst.alone_ns)),
        beside=len(worst.beside_ns),
        alone=len(worst.alone_ns),
    )


def _runs(view: View) -> Iterator[_Runs]:
    """Those of each kernel that ran FEWEST times or more both beside communication and alone."""
    events = view.events
    kernels = view.rows(np.setdiff1d(np.flatnonzero(events.in_categories("kernel")), view.activities.collectives.row))
    spans = events.intervals(kernels)
    lengths_ns = spans[:, 1] - spans[:, 0]
    covered = covered_ns(view.activities.all_comm(), spans)
    is_beside, is_alone = (covered >= LEAST_COVERED * lengths_ns) & (covered > 0), covered == 0
    places = _places(view, kernels)
    count = int(places.max(initial=-1)) + 1
    often = (np.bincount(places[is_beside], minlength=count) >= FEWEST) & (
        np.bincount(places[is_alone], minlength=count) >= FEWEST
    )
    for place in np.flatnonzero(often).tolist():
        beside, alone = is_beside & (places == place), is_alone & (places == place)
        yield _Runs(rows=kernels[beside], beside_ns=lengths_ns[beside], alone_ns=lengths_ns[alone])


def _places(view: View, kernels: Int64s) -> Int64s:
    """A number for each kernel, by its name and grid and by those of its neighbours on its stream: a grid does not tell
    all of the work, but what runs around a kernel tells its place in a layer."""
    events = view.events
    order = np.lexsort((events.begin_ns[kernels], events.thread[kernels]))
    alike = events.name[kernels].astype(np.int64) << 32 | events.shape[kernels]
    kind = np.unique(alike, return_inverse=True)[1][order].astype(np.int64)
    kinds = int(kind.max(initial=0)) + 1
    places = np.empty(len(kernels), dtype=np.int64)
    places[order] = np.unique((np.roll(kind, 1) * kinds + kind) * kinds + np.roll(kind, -1), return_inverse=True)[1]
    return places


def find(case: Case) -> Iterator[Finding]:
    """For the ranks on which that was seen."""
    seen = case.seen(Slowed)
    if not seen:
        return
    worst = max(seen, key=lambda slowed: slowed.lost_ns)
    lost_ns = case.mean_of_ranks(seen, lambda slowed: slowed.lost_ns)
    yield case.finding(
        "R33",
        f"Kernels are slower beside communication, by {lost_ns / case.step_ns:.0%} of a step".replace("%", " %"),
        [
            said(f"{worst.kernel} takes {worst.beside_ns / 1e3:,.1f} µs beside it and {worst.alone_ns / 1e3:,.1f} µs "
                 f"alone, medians of {worst.beside} and {worst.alone} runs at one place of the model"),
            case.longest(seen, "compute", "one of them, beside communication"),
        ],
        lost_ns,
        Turn(
            advice="let communication have fewer of the GPU's multiprocessors",
            knob=_knob(case),
            side_effect="communication has less bandwidth: it must still end before what waits for it",
            disproof="they are as slow with NCCL_MAX_CTAS=1: then they have other work than their like at that place",
        ),
    )  # fmt: skip


def _knob(case: Case) -> str:
    knob = "NCCL_MAX_CTAS=8, or half of what it takes now (RCCL: NCCL_MAX_NCHANNELS=8)"
    if case.framework == "FSDP2":
        knob += "; or NCCL_CTA_POLICY=2 with model.set_symm_mem_for_comm(), which copies without multiprocessors"
    return knob


def _short(kernel: str) -> str:
    name = kernel.removeprefix("void ").replace("(anonymous namespace)::", "").split("<")[0].split("(")[0]
    return name if len(name) <= _LONGEST_NAME else name[:_LONGEST_NAME] + "..."
