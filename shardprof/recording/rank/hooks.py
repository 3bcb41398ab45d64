"""The hooks in torch itself that every framework shares: what is evidence of training, data, backward, optimizer."""

from __future__ import annotations

import gc
import importlib
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from shardprof.recording.frameworks._model_states import remember_optimizer
from shardprof.recording.rank.patches import Callback, Function, watch, watched
from shardprof.recording.rank.steps import BACKWARD, DATA, OPTIMIZER

if TYPE_CHECKING:
    from shardprof.recording.rank.agent import Agent

WhenImported = Callable[[str, Callable[[], None]], None]


def install(agent: Agent, when_imported: WhenImported) -> None:
    """Put the hooks in, each as soon as its module is there."""
    when_imported("torch.optim.optimizer", lambda: _watch_optimizers(agent))
    when_imported("torch.amp.grad_scaler", lambda: _watch_scaler(agent))
    when_imported("torch.distributed.distributed_c10d", lambda: _watch_init(agent))
    when_imported("torch.utils.data.dataloader", lambda: _watch_data(agent))
    watch(torch.autograd, "backward", **phase(agent, BACKWARD))


def adopt_optimizers(agent: Agent) -> None:
    """See the steps of optimizers that were built before the hooks, as in an earlier cell of a notebook."""
    # type() and no isinstance(), which asks the objects; `hooked` is torch's own sign of a class that it has patched
    there = [o for o in gc.get_objects() if issubclass(type(o), torch.optim.Optimizer)]
    for optimizer in there:
        kind: Any = type(optimizer)
        if not hasattr(kind.step, "hooked"):
            continue  # a wrapper of somebody's, which steps the one inside
        if not hasattr(kind.step, "seen_by_shardprof"):
            kind.step = _watched_step(agent, kind.step, _first)
        own = vars(optimizer).get("step")  # a scheduler has put it there, by way of the class's step of then
        if own is not None and not hasattr(own, "seen_by_shardprof"):
            vars(optimizer)["step"] = _watched_step(agent, own, _always(optimizer))
        remember_optimizer(optimizer)
        agent.optimizer_built()


def phase(agent: Agent, name: str) -> dict[str, Callback]:
    """The callbacks around a function whose time is phase `name` of the step."""

    def phase_begins(*_args: Any, **_kwargs: Any) -> None:
        agent.begin(name)

    def phase_ends(_token: object) -> None:
        agent.end()

    return {"before": phase_begins, "after": phase_ends}


def _watch_optimizers(agent: Agent) -> None:
    def optimizer_patched(optimizer: Any, _result: object) -> None:
        kind = type(optimizer)
        if not hasattr(kind.step, "seen_by_shardprof"):
            kind.step = _watched_step(agent, kind.step, _first)
        agent.optimizer_built()

    # torch puts its `Optimizer.step#...` range around the class's step here: ours goes around that, so that a step of
    # the training never ends inside the range.
    watch(torch.optim.Optimizer, "_patch_step_function", before=_first, returned=optimizer_patched)


def _watched_step(agent: Agent, step: Function, optimizer_of: Callable[..., object]) -> Function:
    seen: Any = watched(step, **_stepping(agent, optimizer_of))
    seen.hooked = True  # torch's own sign that it need not patch again
    seen.seen_by_shardprof = True
    return seen  # type: ignore[no-any-return]


def _watch_scaler(agent: Agent) -> None:
    """GradScaler leaves the optimizer out when gradients overflow: the training step is over all the same."""
    watch(torch.amp.GradScaler, "step", **_stepping(agent, _scaled))


def _stepping(agent: Agent, optimizer_of: Callable[..., object]) -> dict[str, Callback]:
    def step_begins(*args: Any, **kwargs: Any) -> object:
        agent.begin(OPTIMIZER)
        return optimizer_of(*args, **kwargs)

    def step_returned(optimizer: object, _result: object) -> None:
        agent.optimizer_stepped(optimizer)

    def step_ends(_optimizer: object) -> None:
        agent.end()

    return {"before": step_begins, "returned": step_returned, "after": step_ends}


def _watch_init(agent: Agent) -> None:
    def group_joined(_token: object, _result: object) -> None:
        agent.training_seen()

    c10d = importlib.import_module("torch.distributed.distributed_c10d")
    watch(c10d, "init_process_group", returned=group_joined)
    torch.distributed.init_process_group = c10d.init_process_group


def _watch_data(agent: Agent) -> None:
    iterator = importlib.import_module("torch.utils.data.dataloader")._BaseDataLoaderIter
    watch(iterator, "__next__", **phase(agent, DATA))


def _first(optimizer: object, *_args: Any, **_kwargs: Any) -> object:
    return optimizer


def _always(optimizer: object) -> Callable[..., object]:
    reference = weakref.ref(optimizer)
    return lambda *_args, **_kwargs: reference()


def _scaled(_scaler: object, optimizer: object, *_args: Any, **_kwargs: Any) -> object:
    return optimizer
