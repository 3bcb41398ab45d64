"""DeepSpeed ZeRO 0 to 3: the engine says when a step ends, and its NVTX ranges become ranges in the trace.

`instrument_w_nvtx` calls the accelerator's `range_push` and `range_pop`, which Kineto does not see and which do nothing
on a CPU; while capturing they open and close a range of the same name.
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

from shardprof.record.frameworks._common import forward_of
from shardprof.record.rank.hooks import phase
from shardprof.record.rank.patches import Callback, Function, watch
from shardprof.record.rank.ranges import Range
from shardprof.record.rank.steps import BACKWARD, OPTIMIZER, Source

if TYPE_CHECKING:
    from shardprof.record.rank.agent import Agent

MODULE = "deepspeed.runtime.engine"


def install(agent: Agent) -> None:
    """Time forward, backward and step of the engine; its optimizers end no steps any more."""
    engine = importlib.import_module(MODULE).DeepSpeedEngine
    watch(engine, "__init__", returned=_engine_built(agent))
    watch(engine, "forward", **forward_of(agent, "DeepSpeed", describe))
    watch(engine, "backward", **phase(agent, BACKWARD))
    watch(engine, "step", **_stepping(agent))


def describe(engine: Any) -> dict[str, Any]:
    """The settings of a DeepSpeed engine."""
    stage = int(engine.zero_optimization_stage())
    precision = "bf16" if engine.bfloat16_enabled() else "fp16" if engine.fp16_enabled() else "fp32"
    offload = engine.zero_offload_optimizer()
    return {
        "strategy": f"ZeRO-{stage}",
        "zero_stage": stage,
        "precision": precision,
        "parameters": sum(getattr(p, "ds_numel", p.numel()) for p in engine.module.parameters()),
        "gradient_accumulation_steps": int(engine.gradient_accumulation_steps()),
        "micro_batch_size": int(engine.train_micro_batch_size_per_gpu()),
        "reduce_bucket_elements": int(engine.zero_reduce_bucket_size()),
        "allgather_bucket_elements": int(engine.zero_allgather_bucket_size()),
        "overlap_comm": bool(engine.zero_overlap_comm()),
        "offload_optimizer": str(getattr(offload, "device", "") or ""),
    }


def _engine_built(agent: Agent) -> Callback:
    def engine_built(_token: object, _result: object) -> None:
        agent.training_seen()
        agent.listen_to(Source.ENGINE)
        agent.show(NvtxRanges)

    return engine_built


def _stepping(agent: Agent) -> dict[str, Callback]:
    """`step` is called each micro-batch; the one at the boundary of the accumulation ends the training step."""

    def engine_steps(engine: Any, *_args: Any, **_kwargs: Any) -> Any:
        agent.begin(OPTIMIZER)
        return engine if _is_boundary(engine) else None

    def engine_stepped(engine: Any, _result: object) -> None:
        if engine is not None:
            agent.stepped(Source.ENGINE, engine)

    def engine_is_done(_engine: Any) -> None:
        agent.end()

    return {"before": engine_steps, "returned": engine_stepped, "after": engine_is_done}


def _is_boundary(engine: Any) -> bool:
    try:
        return bool(engine.is_gradient_accumulation_boundary())
    except Exception:  # the engine's own `step` will say what is wrong
        return False


class NvtxRanges:
    """DeepSpeed's own ranges as ranges of the trace."""

    def __init__(self) -> None:
        self._accelerator = importlib.import_module("deepspeed.accelerator").get_accelerator()
        self._originals: dict[str, Function] = {}
        self._open = _Open()

    def install(self) -> None:
        """From now on what the accelerator pushes is a range."""
        self._originals = {name: getattr(self._accelerator, name) for name in ("range_push", "range_pop")}
        watch(self._accelerator, "range_push", before=self._push)
        watch(self._accelerator, "range_pop", before=self._pop)

    def remove(self) -> None:
        """Leave the accelerator as it was, and no range open."""
        while self._originals:
            setattr(self._accelerator, *self._originals.popitem())
        while self._open.ranges:
            self._open.ranges.pop().close()

    def _push(self, message: str, *_args: Any, **_kwargs: Any) -> None:
        self._open.ranges.append(Range(message))

    def _pop(self, *_args: Any, **_kwargs: Any) -> None:
        if self._open.ranges:
            self._open.ranges.pop().close()


class _Open(threading.local):
    """The ranges open on this thread. One that began before `install` is not among them: its pop finds none."""

    def __init__(self) -> None:
        self.ranges: list[Range] = []
