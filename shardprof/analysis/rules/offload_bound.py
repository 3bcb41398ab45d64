"""R22: steps wait for what was offloaded to the host: copies, or an optimizer on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, of_framework, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import UPDATE, View
from shardprof.engine import Int64s
from shardprof.trace.device_names import copy_kind
from shardprof.words import milliseconds

LEAST_COPIES = 0.2
LEAST_OPTIMIZER = 0.3
COPIES, OPTIMIZER = "copies", "optimizer"

_SAID = {
    COPIES: "copies between host and GPU take {time} a step while nothing computes",
    OPTIMIZER: "{name} updates on the CPU, {time} a step",
}
_KNOBS = {
    "FSDP2": "fully_shard(module) without offload_policy=CPUOffloadPolicy(); else CPUOffloadPolicy(pin_memory=True)",
    "FSDP1": "FullyShardedDataParallel(cpu_offload=CPUOffload(offload_params=False))",
    "DeepSpeed": '"offload_optimizer": {"device": "none"}, "offload_param": {"device": "none"}; with ZeRO-3 '
    '"offload_optimizer": {"device": "cpu", "ratio": 0.5} offloads half; "stage": 2 instead of 3 copies less',
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Offloaded(Observation):
    """`what` was offloaded and takes `time_ns` of a step: copies while nothing computes, or the optimizer `name`."""

    what: str
    name: str
    time_ns: float

    @property
    def subject(self) -> str:
        return f"offloaded {self.what}"


def observe(view: View) -> Iterator[Offloaded]:
    """Of a rank whose settings say that something is offloaded."""
    if not view.on_gpu or view.record is None:
        return
    settings = view.record.settings
    offloads = [settings.get(name) or "none" for name in ("offload_optimizer", "offload_param", "cpu_offload")]
    if all(offload == "none" for offload in offloads):
        return
    events = view.events
    copies = view.rows(events.in_categories("gpu_memcpy") & events.named(lambda n: copy_kind(n) in ("HtoD", "DtoH")))
    if (exposed_ns := view.exposed_ns(view.merged(copies))) > LEAST_COPIES * view.step_ns:
        yield _offloaded(view, COPIES, copies, exposed_ns)
    updates = _on_host(view)
    if (time_ns := view.a_step_ns(view.merged(updates))) > LEAST_OPTIMIZER * view.step_ns:
        yield _offloaded(view, OPTIMIZER, updates, time_ns)


def _on_host(view: View) -> Int64s:
    """The optimizer's steps that launch no kernels."""
    events, updates = view.events, view.updates
    launched_ns = np.sort(events.begin_ns[view.launching(np.flatnonzero(events.in_categories("kernel")))])
    inside = np.searchsorted(launched_ns, events.end_ns[updates]) - np.searchsorted(
        launched_ns, events.begin_ns[updates]
    )
    on_host: Int64s = updates[inside == 0]
    return on_host


def _offloaded(view: View, what: str, rows: Int64s, time_ns: float) -> Offloaded:
    longest = view.most_exposed(rows)
    name = UPDATE.match(view.events.name_of(longest))
    return Offloaded(
        rank=view.rank,
        evidence=(view.at(longest, f"the longest of its {what}"),),
        rows=view.in_sample(rows),
        what=what,
        name=name[1] if name else "",
        time_ns=time_ns,
    )


def find(case: Case) -> Iterator[Finding]:
    """Where copies or the optimizer's steps on the CPU hold steps up."""
    seen = case.seen(Offloaded)
    if not seen:
        return
    times_ns = {what: case.mean_of_ranks([one for one in seen if one.what == what], _time_ns) for what in _SAID}
    cost_ns = case.cost_ns(seen, sum(times_ns.values()))
    name = next((one.name for one in seen if one.name), "")
    yield case.finding(
        "R22",
        f"Steps wait for what is offloaded to the host, {cost_ns / case.step_ns:.0%} of their time".replace("%", " %"),
        [
            *(
                said(_SAID[what].format(name=name, time=milliseconds(taken)))
                for what, taken in times_ns.items()
                if taken
            ),
            case.longest(seen, "memcpy", "it takes longest here"),
        ],
        cost_ns,
        Turn(
            advice="keep on the GPU what its memory holds, and offload only the rest",
            knob=of_framework(_KNOBS, case),
            side_effect=f"memory of the GPU: {_states(case)}",
            disproof="without offloading the model runs out of memory, whatever the batch",
        ),
    )


def _time_ns(offloaded: Offloaded) -> float:
    return offloaded.time_ns


def _states(case: Case) -> str:
    states = case.setting("state_bytes")
    held = states.get("optimizer") if isinstance(states, dict) else None
    return f"{held / 1e9:,.3g} GB of optimizer states a rank" if held else "what was offloaded"
