"""A named range in torch's traces, open from its making to `close`."""

from __future__ import annotations

from typing import Any

import torch


class Range:
    """Opens at once. Costs about a microsecond, so it is made only while the profiler records."""

    def __init__(self, name: str) -> None:
        record_function: Any = torch.autograd.profiler.record_function  # Any: its methods are untyped
        self._range = record_function(name)
        self._range.__enter__()

    def close(self) -> None:
        """The range ends here."""
        self._range.__exit__(None, None, None)
