"""The study's report as it is, for scripts."""

from __future__ import annotations

from typing import TextIO

import msgspec

from shardprof.study.conclusions.study_report import StudyReport


def render(report: StudyReport, out: TextIO) -> None:
    """Write one JSON object; None is null, which means: not measured."""
    out.write(msgspec.json.format(msgspec.json.encode(report), indent=1).decode() + "\n")
