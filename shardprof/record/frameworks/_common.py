"""What several frameworks are described by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch

from shardprof.record.rank.patches import Callback
from shardprof.record.rank.steps import FORWARD

if TYPE_CHECKING:
    from shardprof.record.rank.agent import Agent


def forward_of(agent: Agent, name: str, describe: Callable[[Any], dict[str, Any]]) -> dict[str, Callback]:
    """The callbacks around a module's forward: the forward phase, in the framework's name if it is the outermost."""

    def forward_begins(module: Any, *_args: Any, **_kwargs: Any) -> None:
        agent.begin(FORWARD)
        agent.uses(name, module, describe)

    def forward_ends(_token: object) -> None:
        agent.end()

    return {"before": forward_begins, "after": forward_ends}


def dtype_name(dtype: torch.dtype | None) -> str:
    """`torch.bfloat16` as people write it: bf16."""
    short = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
    return "" if dtype is None else short.get(dtype, str(dtype).removeprefix("torch."))


def dtype_of(parameters: Iterable[torch.Tensor]) -> str:
    """The precision of the parameters; several are joined."""
    return "+".join(sorted({dtype_name(parameter.dtype) for parameter in parameters}))
