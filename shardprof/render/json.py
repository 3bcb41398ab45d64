"""The JSON contract: the Result as it is, for scripts. Field meanings: docs/definitions.md."""

from __future__ import annotations

import dataclasses
import json
from typing import TextIO

from shardprof.analysis.result import Result


def render(result: Result, out: TextIO, focus: str = "report") -> None:
    """Write one JSON object; None is null, which means: not measured. It has everything, whatever the `focus`."""
    del focus
    json.dump(dataclasses.asdict(result), out, indent=1, default=str)
    out.write("\n")
