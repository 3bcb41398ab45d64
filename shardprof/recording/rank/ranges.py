"""A named range in torch's traces, open from its making to `close`."""

from __future__ import annotations

from typing import Any

import torch

_CAN_BE_FAST = torch.__version__ >= "2.10"
"""Since then the way that goes past the dispatcher can make a range of the user's too, not only an operator's."""


class Range:
    """Opens at once. Costs a microsecond, with torch before 2.10 six: it is made only while the profiler records."""

    def __init__(self, name: str) -> None:
        self._range = _range(name)
        self._range.__enter__()

    def close(self) -> None:
        """The range ends here."""
        self._range.__exit__(None, None, None)


def _range(name: str) -> Any:
    if _CAN_BE_FAST:
        return torch._C._profiler._RecordFunctionFast(name, [], {"scope": "user_scope"})
    return torch.autograd.profiler.record_function(name)
