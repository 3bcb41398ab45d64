"""What several frameworks are described by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch

from shardprof.recording.rank.patches import Callback
from shardprof.recording.rank.steps import FORWARD

if TYPE_CHECKING:
    from shardprof.recording.rank.agent import Agent


def forward_of(agent: Agent, name: str, describe: Callable[[Any], dict[str, Any]]) -> dict[str, Callback]:
    """The callbacks around a module's forward: the forward phase, in the framework's name if it is the outermost."""

    def forward_begins(module: Any, *_args: Any, **_kwargs: Any) -> None:
        agent.begin(FORWARD)
        agent.uses(name, module, describe)

    def forward_ends(_token: object) -> None:
        agent.end()

    return {"before": forward_begins, "after": forward_ends}


def told(**facts: Callable[[], Any]) -> dict[str, Any]:
    """The facts that can be read; one that this version of the framework does not tell, or None, is left out."""
    known = {}
    for name, read in facts.items():
        try:
            value = read()
        except Exception:  # internals that another version names otherwise cost only themselves
            continue
        if value is not None:
            known[name] = value
    return known


def part(read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Several facts that rest on the same internals; nothing where this version has none of these."""
    facts: dict[str, Any] = told(part=read).get("part", {})
    return facts


def dtype_name(dtype: torch.dtype | None) -> str:
    """`torch.bfloat16` as people write it: bf16."""
    short = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.float64: "fp64"}
    return "" if dtype is None else short.get(dtype, str(dtype).removeprefix("torch."))


def dtype_of(parameters: Iterable[torch.Tensor]) -> str:
    """The precision of the parameters; several are joined."""
    return names_of(parameter.dtype for parameter in parameters)


def names_of(dtypes: Iterable[torch.dtype]) -> str:
    """The precisions, each once; several are joined."""
    return "+".join(sorted({dtype_name(dtype) for dtype in dtypes}))


def elements_by_dtype(sizes: Iterable[tuple[torch.dtype, int]]) -> dict[str, int]:
    """How many elements are kept in which precision, from the precision and the number of each parameter's."""
    elements = Counter[str]()
    for dtype, number in sizes:
        elements[dtype_name(dtype)] += number
    return dict(elements)
