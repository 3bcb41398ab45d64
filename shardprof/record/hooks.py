"""The hooks in torch itself that every framework shares: what is evidence of training, data, backward, optimizer."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import torch

from shardprof.record.patches import Function, replace, unseen_by_compile
from shardprof.record.steps import BACKWARD, DATA, OPTIMIZER

if TYPE_CHECKING:
    from shardprof.record.agent import Agent

WhenImported = Callable[[str, Callable[[], None]], None]


def install(agent: Agent, when_imported: WhenImported) -> None:
    """Put the hooks in, each as soon as its module is there."""
    when_imported("torch.optim.optimizer", lambda: _watch_optimizers(agent))
    when_imported("torch.amp.grad_scaler", lambda: _watch_scaler(agent))
    when_imported("torch.distributed.distributed_c10d", lambda: _watch_init(agent))
    when_imported("torch.utils.data.dataloader", lambda: _watch_data(agent))
    replace(torch.autograd, "backward", phase(agent, BACKWARD))


def phase(agent: Agent, name: str) -> Callable[[Function], Function]:
    """Around a function: its time is phase `name` of the step."""

    def around(original: Function) -> Function:
        def call(*args: Any, **kwargs: Any) -> Any:
            agent.begin(name)
            try:
                return original(*args, **kwargs)
            finally:
                agent.end()

        return call

    return around


def _watch_optimizers(agent: Agent) -> None:
    def around_patching(patch_step: Function) -> Function:
        def patch(optimizer: Any) -> None:
            patch_step(optimizer)
            kind = type(optimizer)
            if not hasattr(kind.step, "seen_by_shardprof"):
                kind.step = _watched(agent, kind.step)
            agent.optimizer_built()

        return patch

    # torch puts its `Optimizer.step#...` range around the class's step here: ours goes around that, so that a step of
    # the training never ends inside the range.
    replace(torch.optim.Optimizer, "_patch_step_function", around_patching)


def _watched(agent: Agent, step: Function) -> Function:
    def call(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        return _run_step(agent, optimizer, functools.partial(step, optimizer, *args, **kwargs))

    watched: Any = unseen_by_compile(step, call)
    watched.hooked = True  # torch's own sign that it need not patch again
    watched.seen_by_shardprof = True
    return cast(Function, watched)


def _watch_scaler(agent: Agent) -> None:
    """GradScaler leaves the optimizer out when gradients overflow: the training step is over all the same."""

    def around(step: Function) -> Function:
        def call(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            return _run_step(agent, optimizer, functools.partial(step, scaler, optimizer, *args, **kwargs))

        return call

    replace(torch.amp.GradScaler, "step", around)


def _run_step(agent: Agent, optimizer: object, step: Callable[[], Any]) -> Any:
    agent.begin(OPTIMIZER)
    try:
        result = step()
        agent.optimizer_stepped(optimizer)
        return result
    finally:
        agent.end()


def _watch_init(agent: Agent) -> None:
    def around(init: Function) -> Function:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = init(*args, **kwargs)
            agent.training_seen()
            return result

        return call

    c10d = importlib.import_module("torch.distributed.distributed_c10d")
    replace(c10d, "init_process_group", around)
    torch.distributed.init_process_group = c10d.init_process_group


def _watch_data(agent: Agent) -> None:
    iterator = importlib.import_module("torch.utils.data.dataloader")._BaseDataLoaderIter
    replace(iterator, "__next__", phase(agent, DATA))
