"""What a study's trials say: figures with intervals, rankings, scaling, fairness, causes, hypotheses, decisions.

Computes, never prints. `conclude` is all that others need; study_report.py has what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence

from shardprof.study.conclusions.causes import causes
from shardprof.study.conclusions.convergence import agreement, learning
from shardprof.study.conclusions.decisions import decisions
from shardprof.study.conclusions.failures import failures, robustness
from shardprof.study.conclusions.fair import fairness
from shardprof.study.conclusions.head import head
from shardprof.study.conclusions.hypotheses import hypotheses
from shardprof.study.conclusions.rankings import crossings, rankings
from shardprof.study.conclusions.scaling import scaling
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import StudyReport
from shardprof.study.results import Trial


def conclude(trials: Sequence[Trial]) -> StudyReport:
    """All that the trials of a study, or of several, say."""
    study = Study(trials)
    return StudyReport(
        head=head(study),
        cells=tuple(study.figures.values()),
        rankings=rankings(study),
        crossings=crossings(study),
        scaling=scaling(study),
        learning=learning(study),
        agreement=agreement(study),
        failures=failures(study),
        robustness=robustness(study),
        fairness=fairness(study),
        causes=causes(study),
        hypotheses=hypotheses(study),
        decisions=decisions(study),
    )
