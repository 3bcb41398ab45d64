"""DeepSpeed ZeRO 0 to 3: the engine says when a step ends, and its NVTX ranges become ranges in the trace.

`instrument_w_nvtx` calls the accelerator's `range_push` and `range_pop`, which Kineto does not see and which do nothing
on a CPU; while capturing they open and close a range of the same name.
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

from shardprof.recording.frameworks._common import dtype_name, elements_by_dtype, forward_of, part, told
from shardprof.recording.frameworks._model_states import model_states
from shardprof.recording.rank.hooks import phase
from shardprof.recording.rank.patches import Callback, Function, watch
from shardprof.recording.rank.ranges import Range
from shardprof.recording.rank.steps import BACKWARD, OPTIMIZER, Source

if TYPE_CHECKING:
    from shardprof.recording.rank.agent import Agent

MODULE = "deepspeed.runtime.engine"
_FLAT_GROUPS = ("bit16_groups_flat", "bf16_groups_flat")


def install(agent: Agent) -> None:
    """Time forward, backward and step of the engine; its optimizers end no steps any more."""
    engine = importlib.import_module(MODULE).DeepSpeedEngine
    watch(engine, "__init__", before=_engine_is_built(agent))
    watch(engine, "forward", **forward_of(agent, "DeepSpeed", describe))
    watch(engine, "backward", **phase(agent, BACKWARD))
    watch(engine, "step", **_stepping(agent))


def describe(engine: Any) -> dict[str, Any]:
    """The settings of a DeepSpeed engine."""
    stage = int(engine.zero_optimization_stage())
    precision = "bf16" if engine.bfloat16_enabled() else "fp16" if engine.fp16_enabled() else "fp32"
    parameters = list(engine.module.parameters())
    return {
        "strategy": f"ZeRO-{stage}",
        "zero_stage": stage,
        "precision": precision,
        "parameters": sum(map(_elements, parameters)),
        **part(lambda: _knobs(engine)),
        **part(lambda: (_partitioned if stage == 3 else _replicated)(engine, parameters)),
        **part(lambda: _states(engine, parameters)),
    }


def _knobs(engine: Any) -> dict[str, Any]:
    """Of the configuration what moves bytes or takes memory."""
    zero = engine._config.zero_config
    return told(
        mesh=lambda: [engine.seq_data_parallel_group.size()],
        gradient_accumulation_steps=lambda: int(engine.gradient_accumulation_steps()),
        micro_batch_size=lambda: int(engine.train_micro_batch_size_per_gpu()),
        reduce_dtype=lambda: dtype_name(engine.communication_data_type),
        reduce_bucket_elements=lambda: int(engine.zero_reduce_bucket_size()),
        allgather_bucket_elements=lambda: int(engine.zero_allgather_bucket_size()),
        overlap_comm=lambda: bool(engine.zero_overlap_comm()),
        use_multi_rank_bucket_allreduce=lambda: bool(zero.use_multi_rank_bucket_allreduce),
        reduce_scatter=lambda: bool(zero.reduce_scatter),
        contiguous_gradients=lambda: bool(zero.contiguous_gradients),
        stage3_prefetch_bucket_elements=lambda: int(zero.prefetch_bucket_size),
        stage3_param_persistence_threshold=lambda: int(zero.param_persistence_threshold),
        stage3_max_live_parameters=lambda: int(zero.max_live_parameters),
        stage3_max_reuse_distance=lambda: int(zero.max_reuse_distance),
        hpz_partition_size=lambda: int(zero.zero_hpz_partition_size),
        mics_shard_size=lambda: int(zero.mics_shard_size),
        quantized_weights=lambda: bool(zero.zero_quantized_weights),
        quantized_gradients=lambda: bool(zero.zero_quantized_gradients),
        has_moe_layers=lambda: bool(engine.has_moe_layers),
        offload_optimizer=lambda: _device_of(engine.zero_offload_optimizer()),
        offload_param=lambda: _device_of(engine.zero_offload_param()),
    )


def _device_of(offload: Any) -> str:
    device = getattr(offload, "device", "") or ""
    return str(getattr(device, "value", device))


def _replicated(engine: Any, parameters: list[Any]) -> dict[str, Any]:
    """ZeRO-0 to 2: every rank has all parameters; from ZeRO-1 on they are gathered after the step, in flat groups."""

    def gathered() -> int | None:
        groups = [group for name in _FLAT_GROUPS for group in getattr(engine.optimizer, name, ())]
        return sum(group.numel() * group.element_size() for group in groups) or None

    return told(
        elements_by_dtype=lambda: elements_by_dtype((p.dtype, p.numel()) for p in parameters),
        parameter_bytes=lambda: sum(p.numel() * p.element_size() for p in parameters),
        gradient_bytes=lambda: _gradient_bytes(engine, parameters),
        gather_bytes=gathered,
        reduce_bytes=lambda: _gradient_bytes(engine, parameters),
    )


def _partitioned(engine: Any, parameters: list[Any]) -> dict[str, Any]:
    """ZeRO-3: each parameter is padded to the ranks; small ones stay on all, gathered once after the step."""
    kept = [parameter for parameter in parameters if parameter.ds_persist]
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    shards = engine.seq_data_parallel_group.size()
    return told(
        elements_by_dtype=lambda: elements_by_dtype((p.ds_tensor.dtype, _elements(p)) for p in parameters),
        persistent_parameters=lambda: sum(map(_elements, kept)),
        parameter_bytes=lambda: sum(_elements(p) * p.ds_tensor.element_size() for p in parameters),
        gradient_bytes=lambda: _gradient_bytes(engine, parameters),
        gather_bytes=lambda: sum(_padded_bytes(p, shards) for p in parameters if not p.ds_persist),
        persistent_bytes=lambda: sum(_padded_bytes(p, shards) for p in kept),
        reduce_bytes=lambda: (
            sum(p.partition_numel() * shards for p in trained) * engine.communication_data_type.itemsize
        ),
    )


def _elements(parameter: Any) -> int:
    return int(getattr(parameter, "ds_numel", parameter.numel()))


def _padded_bytes(parameter: Any, shards: int) -> int:
    return int(parameter.partition_numel() * shards * parameter.ds_tensor.element_size())


def _gradient_bytes(engine: Any, parameters: list[Any]) -> int:
    elements = sum(_elements(parameter) for parameter in parameters if parameter.requires_grad)
    return elements * int(engine.communication_data_type.itemsize)


def _states(engine: Any, parameters: list[Any]) -> dict[str, Any]:
    """What is held. The optimizer that was asked for is inside DeepSpeed's own, which has gradients and buckets."""
    zero = engine.optimizer
    inner = getattr(zero, "optimizer", zero)
    partitions = [parameter.ds_tensor for parameter in parameters if hasattr(parameter, "ds_tensor")]
    buckets = [bucket.buffer for bucket in getattr(zero, "ipg_buckets", {}).values()]
    known = model_states(
        [*parameters, *partitions],
        [inner],
        updated=getattr(zero, "fp32_partitioned_groups_flat", ()),  # ZeRO-3 takes them from `inner` between steps
        buffers=[buffer for each in buckets for buffer in (each if isinstance(each, list) else [each])],
    )
    gradients = getattr(zero, "grad_partitions_flat_buffer", None)
    if gradients is not None:
        known["state_bytes"]["gradients"] = gradients.untyped_storage().nbytes()
    return known


def _engine_is_built(agent: Agent) -> Callback:
    """Before it is: some of its optimizers make a step while they are built, to have their states allocated."""

    def engine_is_built(*_args: Any, **_kwargs: Any) -> None:
        agent.training_seen()
        agent.listen_to(Source.ENGINE)
        agent.show(NvtxRanges)

    return engine_is_built


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
