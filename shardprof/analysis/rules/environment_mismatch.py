"""R35: ranks of one run differ in what they run on or are set to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said
from shardprof.analysis.rules._observing import Observation
from shardprof.analysis.rules._view import View
from shardprof.words import numbers

_GPU = "GPU"
_OF_TRACE: Mapping[str, str] = {
    "cuda_runtime_version": "CUDA runtime",
    "cuda_driver_version": "CUDA driver",
    "hip_runtime_version": "HIP runtime",
    "hip_driver_version": "HIP driver",
}
# Those that are no matter of what a rank holds of the model.
_SETTINGS = (
    "strategy",
    "mesh",
    "precision",
    "reduce_dtype",
    "optimizer",
    "micro_batch_size",
    "gradient_accumulation_steps",
    "overlap_comm",
    "reduce_bucket_elements",
    "bucket_bytes",
    "offload_optimizer",
    "offload_param",
    "cpu_offload",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Observation):
    """What a rank runs on and is set to, by name; what is not told is left out."""

    facts: Mapping[str, str]


def observe(view: View) -> Iterator[Environment]:
    """Every rank, since only others show which one differs."""
    metadata = view.trace.metadata
    facts = {name: metadata.get(key) for key, name in _OF_TRACE.items()}
    facts |= {_GPU: _gpus(view), "NCCL": view.trace.distributed_info.get("nccl_version")}
    if view.record is not None:
        facts |= {"framework": view.record.framework, **view.record.versions}
        facts |= {name: view.record.settings.get(name) for name in _SETTINGS}
    yield Environment(
        rank=view.rank, facts={name: str(value) for name, value in facts.items() if value not in (None, "")}
    )


def _gpus(view: View) -> str:
    """The models of those that the rank could use."""
    told = view.trace.metadata.get("deviceProperties") if view.on_gpu else None
    devices = told if isinstance(told, list) else []
    return " and ".join(
        sorted({str(device["name"]) for device in devices if isinstance(device, dict) and "name" in device})
    )


def find(case: Case) -> Iterator[Finding]:
    """The facts in which not all ranks that tell them agree."""
    values: dict[str, dict[str, set[int]]] = {}
    for seen in case.seen(Environment):
        for name, value in seen.facts.items():
            values.setdefault(name, {}).setdefault(value, set()).add(seen.rank)
    unlike = {name: by_value for name, by_value in values.items() if _differ(by_value)}
    if not unlike:
        return
    yield case.finding(
        "R35",
        f"Ranks of one run differ in {', '.join(unlike)}",
        [said(f"{name}: {_by_rank(by_value)}") for name, by_value in unlike.items()],
        None,
        Turn(
            advice="make the ranks alike: in a synchronous step the slowest sets the pace, and figures mix the kinds",
            knob=_knob(set(unlike)),
            side_effect="none",
            disproof="only the names differ: the same build under two names, one GPU in two editions",
        ),
    )


def _differ(by_value: Mapping[str, set[int]]) -> bool:
    """A rank whose windows tell several values does not differ from itself."""
    ranks = set().union(*by_value.values())
    return len(by_value) > 1 and any(of != ranks for of in by_value.values())


def _by_rank(by_value: Mapping[str, set[int]]) -> str:
    """Each value with its ranks, the one of the most ranks first."""
    ordered = sorted(by_value.items(), key=lambda entry: (-len(entry[1]), min(entry[1])))
    return "; ".join(f"{value} on {'rank' if len(of) == 1 else 'ranks'} {numbers(of)}" for value, of in ordered)


def _knob(unlike: set[str]) -> str:
    knobs = {
        "one container image or lock file for all nodes": unlike - {_GPU, *_SETTINGS},
        "nodes of one kind only (Slurm: --constraint, or --gpus-per-node=MODEL:N)": unlike & {_GPU},
        "the same configuration for all ranks": unlike & set(_SETTINGS),
    }
    return "; ".join(knob for knob, of in knobs.items() if of)
