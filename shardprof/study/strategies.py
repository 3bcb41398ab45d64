"""How the training is spread over ranks: one name, one function; each turns a model into something that trains.

All of them run AdamW with the same hyperparameters on fp32 master weights. Lower precision is the framework's own:
autocast for one process and DDP, mixed-precision policies for FSDP (gradients reduced in that precision too), the
engine's for ZeRO. What no knob changes stays as the frameworks ship it; so is accumulation each one's plain one: FSDP
and DDP communicate on every micro-batch.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffload,
    CPUOffloadPolicy,
    FullyShardedDataParallel,
    MixedPrecision,
    MixedPrecisionPolicy,
    OffloadPolicy,
    ShardingStrategy,
    fully_shard,
)
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.distributed.fsdp.wrap import CustomPolicy
from torch.nn.parallel import DistributedDataParallel

from shardprof.study.errors import WorkloadError
from shardprof.study.knobs import Knobs
from shardprof.study.model import blocks
from shardprof.study.world import World

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WEIGHT_DECAY = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all strategies are told; `batch_size` is samples a rank and micro-batch, `shard_size` is ranks."""

    precision: str = "fp32"
    batch_size: int = 32
    accumulation: int = 1
    lr: float = 1e-3
    clip_norm: float | None = None
    shard_size: int = 2
    knobs: Knobs = Knobs()  # noqa: RUF009  # it cannot be changed

    @property
    def dtype(self) -> torch.dtype:
        """The element type that the model computes in."""
        return PRECISIONS[self.precision]

    def samples_a_step(self, world: World) -> int:
        """Of the whole job."""
        return world.size * self.batch_size * self.accumulation


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What an optimizer step did: the norm of all gradients before clipping, None where nothing asked for it, and
    whether it was `skipped` because a gradient had overflown."""

    grad_norm: torch.Tensor | float | None = None
    skipped: bool = False


class Trainer(Protocol):
    """A sharded model with its optimizer."""

    def micro_batch(self, *, last: bool) -> AbstractContextManager[None]:
        """What the forward and backward of a micro-batch run inside; the `last` one of a step updates the weights."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The logits, in fp32."""

    def backward(self, loss: torch.Tensor, *, last: bool) -> Update | None:
        """Add the gradients of one micro-batch; after the `last` one of a step, update the weights."""

    def train(self, *, on: bool) -> None:
        """Whether what follows trains, or only looks."""


Strategy = Callable[[nn.Module, World, Settings], Trainer]


def single(model: nn.Module, world: World, settings: Settings) -> Trainer:
    """One process, nothing to communicate."""
    return _TorchTrainer(model.to(world.device), settings, world, autocast=True)


def ddp(model: nn.Module, world: World, settings: Settings) -> Trainer:
    """DistributedDataParallel: every rank holds everything, gradients are all-reduced in buckets."""
    device_ids = [world.device.index] if world.device.type == "cuda" else None
    sharing = DistributedDataParallel(model.to(world.device), device_ids, bucket_cap_mb=settings.knobs.bucket_mb)
    return _TorchTrainer(sharing, settings, world, autocast=True, no_sync=sharing.no_sync)


def fsdp1(model: nn.Module, world: World, settings: Settings, *, sharding: ShardingStrategy) -> Trainer:
    """FullyShardedDataParallel, each transformer block a unit."""
    knobs, units = settings.knobs, set(blocks(model))
    hybrid = sharding is ShardingStrategy.HYBRID_SHARD
    sharded = FullyShardedDataParallel(
        model,
        auto_wrap_policy=None if knobs.wrap == "whole" else CustomPolicy(lambda module: module in units),
        forward_prefetch=bool(knobs.prefetch),
        cpu_offload=CPUOffload(offload_params=bool(knobs.offload)),
        sharding_strategy=sharding,
        device_mesh=_hybrid_mesh(world, settings) if hybrid else None,
        mixed_precision=MixedPrecision(settings.dtype, settings.dtype, settings.dtype),
        device_id=world.device,
        use_orig_params=True,
    )
    return _TorchTrainer(
        sharded, settings, world, scaler=ShardedGradScaler, no_sync=sharded.no_sync, clip=sharded.clip_grad_norm_
    )


def fsdp2(
    model: nn.Module, world: World, settings: Settings, *, reshard: bool | None = None, hybrid: bool = False
) -> Trainer:
    """fully_shard on each transformer block, then on the rest; `reshard` None is its default (all but the root)."""
    mesh = _hybrid_mesh(world, settings) if hybrid else init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy(param_dtype=settings.dtype, reduce_dtype=settings.dtype)
    offload = CPUOffloadPolicy() if settings.knobs.offload else OffloadPolicy()
    model.to(world.device)
    units = [] if settings.knobs.wrap == "whole" else blocks(model)
    for module in [*units, model]:
        fully_shard(module, mesh=mesh, reshard_after_forward=reshard, mp_policy=policy, offload_policy=offload)
    _prefetch(units, settings.knobs.prefetch or 0)
    return _TorchTrainer(model, settings, world, no_sync=partial(_unsynchronized, model))


def _prefetch(units: list[Any], ahead: int) -> None:
    """Each unit gathers so many of those that come after it, in forward and in backward."""
    for i, unit in enumerate(units if ahead else []):
        unit.set_modules_to_forward_prefetch(units[i + 1 : i + 1 + ahead])
        unit.set_modules_to_backward_prefetch(units[max(0, i - ahead) : i][::-1])


@contextmanager
def _unsynchronized(model: Any) -> Iterator[None]:
    """FSDP2 without communicating gradients."""
    model.set_requires_gradient_sync(False)
    yield
    model.set_requires_gradient_sync(True)


def zero(model: nn.Module, world: World, settings: Settings, *, stage: int) -> Trainer:
    """DeepSpeed's engine at one ZeRO stage."""
    return _EngineTrainer(model, settings, stage)


STRATEGIES: dict[str, Strategy] = {
    "none": single,
    "ddp": ddp,
    "fsdp1-full": partial(fsdp1, sharding=ShardingStrategy.FULL_SHARD),
    "fsdp1-grad-op": partial(fsdp1, sharding=ShardingStrategy.SHARD_GRAD_OP),
    "fsdp1-hybrid": partial(fsdp1, sharding=ShardingStrategy.HYBRID_SHARD),
    "fsdp2-full": fsdp2,
    "fsdp2-grad-op": partial(fsdp2, reshard=False),
    "fsdp2-hybrid": partial(fsdp2, hybrid=True),
    "zero0": partial(zero, stage=0),
    "zero1": partial(zero, stage=1),
    "zero2": partial(zero, stage=2),
    "zero3": partial(zero, stage=3),
}


def check(name: str, world: World, settings: Settings) -> None:
    """Raise WorkloadError for what this strategy cannot do here, before any rank is connected."""
    if name == "none" and world.size > 1:
        raise WorkloadError(f"strategy none is for one process, not for {world.size}", "choose another --strategy")
    if name.endswith("-hybrid") and world.size % settings.shard_size:
        raise WorkloadError(
            f"{world.size} ranks do not divide into shard groups of {settings.shard_size}", "change --shard-size"
        )
    if name.startswith("zero") and importlib.util.find_spec("deepspeed") is None:
        raise WorkloadError(
            f"strategy {name} needs deepspeed, which is not installed", "pip install shardprof[deepspeed]"
        )
    if name.startswith("zero") and settings.precision == "fp16" and world.device.type == "cpu":
        raise WorkloadError("DeepSpeed has no fp16 on a CPU", "try --precision bf16")


def _hybrid_mesh(world: World, settings: Settings) -> DeviceMesh:
    shape = (world.size // settings.shard_size, settings.shard_size)
    return init_device_mesh(world.device.type, shape, mesh_dim_names=("replicate", "shard"))


def _adamw(model: nn.Module, settings: Settings) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=WEIGHT_DECAY)


class _TorchTrainer:
    """The plain PyTorch loop around whatever module a strategy made."""

    def __init__(
        self,
        model: nn.Module,
        settings: Settings,
        world: World,
        *,
        scaler: type[torch.amp.GradScaler] = torch.amp.GradScaler,
        autocast: bool = False,
        no_sync: Callable[[], AbstractContextManager[None]] = nullcontext,
        clip: Callable[[float], Any] | None = None,
    ) -> None:
        self._model = model
        self._no_sync = no_sync if settings.knobs.no_sync else nullcontext
        self._clip_norm = settings.clip_norm
        self._clip = clip or partial(nn.utils.clip_grad_norm_, list(model.parameters()))
        self._optimizer = _adamw(model, settings)
        self._accumulation = settings.accumulation
        self._scaler = scaler(device=world.device.type, enabled=settings.precision == "fp16")
        self._lower_precision = partial(
            torch.autocast, world.device.type, settings.dtype, enabled=autocast and settings.precision != "fp32"
        )

    def micro_batch(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last else self._no_sync()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        with self._lower_precision():
            logits: torch.Tensor = self._model(images)
        return logits.float()

    def backward(self, loss: torch.Tensor, *, last: bool) -> Update | None:
        self._scaler.scale(loss / self._accumulation).backward()  # type: ignore[no-untyped-call]
        return self._update() if last else None

    def _update(self) -> Update:
        norm = None
        if self._clip_norm is not None:
            self._scaler.unscale_(self._optimizer)
            norm = self._clip(self._clip_norm)
        scale = self._scaler.get_scale()
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        return Update(grad_norm=norm, skipped=self._scaler.get_scale() < scale)

    def train(self, *, on: bool) -> None:
        self._model.train(on)


class _EngineTrainer:
    """DeepSpeed's engine: it scales, accumulates and decides itself when a step is complete."""

    def __init__(self, model: nn.Module, settings: Settings, stage: int) -> None:
        import deepspeed

        # Of use in inference only, and compiled at every first start on a CPU, behind a lock that a killed job leaves
        # locked for ever.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        # It calls collectives by names that torch 2.13 deprecates: a warning a call would drown the output.
        warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")
        config: dict[str, Any] = {
            "train_micro_batch_size_per_gpu": settings.batch_size,
            "gradient_accumulation_steps": settings.accumulation,
            "gradient_clipping": settings.clip_norm or 0.0,  # DeepSpeed clips at a norm of 1 where nothing is said
            "zero_optimization": {"stage": stage, **_zero_knobs(settings.knobs, stage)},
        }
        if settings.knobs.offload:
            config["zero_force_ds_cpu_optimizer"] = False  # the optimizer is torch's, as everywhere
        if settings.precision != "fp32":
            config[settings.precision] = {"enabled": True}
        self._engine, *_ = deepspeed.initialize(model=model, optimizer=_adamw(model, settings), config=config)
        self._dtype = settings.dtype

    def micro_batch(self, *, last: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._engine(images.to(self._dtype))
        return logits.float()

    def backward(self, loss: torch.Tensor, *, last: bool) -> Update | None:
        skipped_before = self._engine.skipped_steps
        self._engine.backward(loss)
        self._engine.step()
        skipped = self._engine.skipped_steps > skipped_before
        return Update(grad_norm=self._engine.get_global_grad_norm(), skipped=skipped) if last else None

    def train(self, *, on: bool) -> None:
        self._engine.train(on)


def _zero_knobs(knobs: Knobs, stage: int) -> dict[str, Any]:
    """The knobs in DeepSpeed's names, those that are set."""
    told = {
        "reduce_bucket_size": knobs.reduce_bucket_elements,
        "overlap_comm": knobs.overlap,
        "stage3_prefetch_bucket_size": knobs.prefetch_bucket_elements,
        "stage3_param_persistence_threshold": knobs.persistence_threshold,
        "offload_optimizer": {"device": "cpu"} if knobs.offload else None,
        "offload_param": {"device": "cpu"} if knobs.offload and stage == 3 else None,
    }
    return {name: value for name, value in told.items() if value is not None}
