"""All that runs beside the job on one node: counters; stacks, the watchdog, sinks of steps where they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from shardprof.recording.beside.feeder import Feeder
from shardprof.recording.beside.nccl_rings import NcclRings
from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.recording.beside.sampler import Sampler
from shardprof.recording.beside.stacks.recorder import StackRecorder
from shardprof.recording.beside.thread import BesideThread
from shardprof.recording.beside.watchdog import Watchdog
from shardprof.recording.counters import open_sources
from shardprof.recording.shield import shielded
from shardprof.sinks import Request
from shardprof.trace.place import PLACE_FILE, read_place
from shardprof.trace.schema import COUNTERS_FILE, CapturePlan, CounterCost, Device, RunFolder


class Crew:
    """What looks at the ranks of `host` from the recorder's process, from `start` to `stop`. Neither raises."""

    def __init__(
        self,
        run: RunFolder,
        host: str,
        plan: CapturePlan,
        say: Callable[[str], None],
        note: Callable[[str], None],
        sinks: Sequence[Request] = (),
    ) -> None:
        self._ranks = NodeRanks(run, host)
        sources = open_sources(self._ranks, note)
        self.devices: tuple[Device, ...] = tuple(device for source in sources for device in source.devices)
        self._sampler = Sampler(run.host(host) / COUNTERS_FILE, sources, self._captures, note)
        self._members: list[BesideThread] = [self._sampler]
        if plan.nccl != "off":
            self._members.append(NcclRings(run.nccl(host), note))
        if plan.stacks:
            self._members.append(StackRecorder(self._ranks, note))
        if plan.watchdog_s is not None:
            self._members.append(Watchdog(self._ranks, plan.watchdog_s, say, note))
        if sinks:
            self._members.append(Feeder(self._ranks, sinks, say, note))  # the last one: counters then end before it

    def start(self) -> None:
        """The job has begun."""
        for member in self._members:
            shielded(member.start)()

    def stop(self) -> None:
        """The job is over."""
        for member in self._members:
            shielded(member.stop)()

    def costs(self) -> tuple[CounterCost, ...]:
        """What the counters have cost."""
        return self._sampler.costs(self._ranks.host)

    def _captures(self) -> bool:
        """Does a rank of this node capture steps, or will it soon? Until they say where they are they will."""
        places = [read_place(self._ranks.run.rank(rank.rank) / PLACE_FILE) for rank in self._ranks.current()]
        return not places or any(place is not None and place.capture != "far" for place in places)
