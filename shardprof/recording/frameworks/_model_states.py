"""What this rank holds of the model when a step has ended: parameters, gradients and optimizer states, in bytes.

Sums of live storages, each counted once, wherever they lie. Nothing is copied, moved or waited for.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from shardprof.recording.frameworks._common import told
from shardprof.recording.rank.patches import watch

_optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
_followed: set[type] = set()


def follow_optimizers() -> None:
    """From now on optimizers are remembered while they live. Every framework asks for it, the first time counts."""
    if torch.optim.Optimizer not in _followed:
        _followed.add(torch.optim.Optimizer)
        watch(torch.optim.Optimizer, "_patch_step_function", before=_optimizers.add)


def remember_optimizer(optimizer: Any) -> None:
    """One that was built before anybody followed."""
    _optimizers.add(optimizer)


def optimizers_of(parameters: Iterable[torch.Tensor]) -> list[Any]:
    """The optimizers that update some of these parameters."""
    wanted = set(map(id, parameters))
    return [optimizer for optimizer in _optimizers if any(id(p) in wanted for p in _parameters_of(optimizer))]


def model_states(
    parameters: Sequence[torch.Tensor],
    optimizers: Sequence[Any],
    *,
    updated: Iterable[torch.Tensor] = (),
    buffers: Iterable[torch.Tensor] = (),
) -> dict[str, Any]:
    """The optimizer and `state_bytes`; `parameters` are all tensors that hold some, `buffers` those of communication,
    `updated` what is updated and not always among the optimizers' parameters.

    Gradients that have been freed by the end of the step are left out.
    """
    held = _storages(parameters)
    # What an optimizer updates and the model does not hold is a copy in higher precision: the master weights.
    masters = {key: size for key, size in _storages([*_updated_by(optimizers), *updated]).items() if key not in held}
    states_and_masters = _storages(_states_of(optimizers)) | masters
    parts = {
        "parameters": held,
        "gradients": _storages(p.grad for p in parameters if p.grad is not None),
        "optimizer": states_and_masters,
        "buckets": _storages(buffers),
    }
    return {
        **told(
            optimizer=lambda: type(optimizers[0]).__name__,
            optimizer_bytes_per_element=lambda: _bytes_per_element(optimizers),
            master_weights=lambda: bool(masters) if optimizers else None,
        ),
        "state_bytes": {name: sum(storages.values()) for name, storages in parts.items() if storages},
    }


def _parameters_of(optimizer: Any) -> Iterator[torch.Tensor]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _updated_by(optimizers: Iterable[Any]) -> Iterator[torch.Tensor]:
    return (parameter for optimizer in optimizers for parameter in _parameters_of(optimizer))


def _states_of(optimizers: Iterable[Any]) -> Iterator[torch.Tensor]:
    values = (value for optimizer in optimizers for state in optimizer.state.values() for value in state.values())
    return (value for value in values if isinstance(value, torch.Tensor))


def _bytes_per_element(optimizers: Iterable[Any]) -> int | None:
    """What is kept of an element beside its value, told by the largest parameter: flags and counters are not of it."""
    kept = [(p, state) for optimizer in optimizers for p, state in optimizer.state.items() if p.numel()]
    if not kept:
        return None
    parameter, state = max(kept, key=lambda entry: entry[0].numel())
    values = [v for v in state.values() if isinstance(v, torch.Tensor) and v.numel() == parameter.numel()]
    return sum(value.element_size() for value in values)


def _storages(tensors: Iterable[torch.Tensor]) -> dict[tuple[str, int], int]:
    """The bytes of each storage by its place; of a DTensor this rank's part. A freed storage is at no place."""
    local = (getattr(tensor, "_local_tensor", tensor) for tensor in tensors)
    storages = ((str(tensor.device), tensor.untyped_storage()) for tensor in local)
    return {(device, storage.data_ptr()): storage.nbytes() for device, storage in storages if storage.data_ptr()}
