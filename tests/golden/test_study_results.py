"""The results of our own studies, as they were measured: their reports in docs/ are what `bench report` says of them,
the links between the nodes carried what the reports count, and every strategy learned the digits."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

from shardprof.study.conclusions import conclude
from shardprof.study.render import markdown
from shardprof.study.results import FINISHED, Trial
from shardprof.study.store import Store

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
STUDIES = ("two-nodes", "digits")
STRATEGIES = {
    "ddp", "fsdp1-full", "fsdp1-grad-op", "fsdp1-hybrid", "fsdp2-full", "fsdp2-grad-op", "fsdp2-hybrid",
    "zero0", "zero1", "zero2", "zero3",
}  # fmt: skip
TOLERANCE = 0.05
LEARNED = 0.9


@pytest.fixture(scope="module", params=STUDIES)
def study(request: pytest.FixtureRequest) -> tuple[str, list[Trial]]:
    return request.param, Store(RESULTS / request.param).trials()


def test_the_report_in_the_docs_is_generated(study: tuple[str, list[Trial]]) -> None:
    name, trials = study
    out = StringIO()
    markdown.render(conclude(trials), out)
    assert (ROOT / "docs" / "studies" / f"{name}.md").read_text() == out.getvalue()


def test_every_strategy_was_trained_to_its_end(study: tuple[str, list[Trial]]) -> None:
    _, trials = study
    assert {trial.cell.strategy for trial in trials} == STRATEGIES
    assert {trial.status for trial in trials} == {FINISHED}


def test_bytes_are_what_the_implementations_are_known_to_send(study: tuple[str, list[Trial]]) -> None:
    _, trials = study
    assert [trial.figure("volume_ratio", "per_expected") for trial in trials] == [
        pytest.approx(1, rel=TOLERANCE) for _ in trials
    ]


def test_every_training_learned_the_digits() -> None:
    trials = Store(RESULTS / "digits").trials()
    assert len(trials) == 3 * len(STRATEGIES)
    assert min(trial.measurement.accuracies[-1].accuracy for trial in trials) > LEARNED


def test_the_links_carried_what_was_counted() -> None:
    """A ring over all four ranks crosses from one node to the other once, with what each rank sends; the two rings of
    hybrid sharding, one for each shard, cross beside each other. At the slowest rate a window lasts for seconds; at
    the others it is short beside the samples of the links' counters."""
    trials = Store(RESULTS / "two-nodes").trials()
    slowest = min(trial.fabric_bytes_per_s or 0 for trial in trials)
    for trial in (trial for trial in trials if trial.fabric_bytes_per_s == slowest):
        report = trial.measurement.report
        assert report is not None
        steps = len(report.ranks[0].steps)
        between_nodes = sum(c.wire_bytes or 0 for c in report.collectives if c.nodes == 2) / steps
        for host in report.source.hosts:
            assert host.link_tx_bytes is not None
            assert host.link_tx_bytes["eth0"] / steps == pytest.approx(between_nodes, rel=TOLERANCE)
