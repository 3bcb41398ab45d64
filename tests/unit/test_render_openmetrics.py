"""Metrics that both kinds of readers take, with the figures of the JSON and whatever names there are."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_prometheus

from shardprof.analysis.result import GROUPS, Result
from shardprof.render import openmetrics
from shardprof.words import printable

from .real_reports import DLRM, FSDP2, SLOW_WORKER, result_of

PATHS = [FSDP2, DLRM, SLOW_WORKER]
UNITS = {"seconds", "bytes", "ratio", "bytes_per_second", ""}
Values = dict[frozenset[tuple[str, str]], float]


@pytest.fixture(scope="module")
def fsdp2() -> Result:
    return result_of(FSDP2)


def text_of(result: Result) -> str:
    out = io.StringIO()
    openmetrics.render(result, out)
    return out.getvalue()


def families(text: str) -> dict[str, Metric]:
    """What both readers make of it, which must be the same."""
    new, old = list(read_openmetrics(text)), list(read_prometheus(text))
    assert [family.samples for family in new] == [family.samples for family in old]
    assert {family.type for family in new} | {family.type for family in old} == {"gauge"}
    return {family.name: family for family in new}


def values(text: str) -> dict[str, Values]:
    """Values by metric and labels; each set of labels once, as readers want it."""
    found: dict[str, Values] = {}
    for name, family in families(text).items():
        found[name] = {frozenset(sample.labels.items()): sample.value for sample in family.samples}
        assert len(found[name]) == len(family.samples), name
    return found


def labels(**given: object) -> frozenset[tuple[str, str]]:
    return frozenset({"run": "fsdp2-vit-2ranks", **{name: str(value) for name, value in given.items()}}.items())


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_both_readers_take_it(path: Path) -> None:
    text = text_of(result_of(path))
    assert text.endswith("\n# EOF\n")
    assert "" not in text.splitlines()
    for name, family in families(text).items():
        assert name.startswith("shardprof_")
        assert family.unit in UNITS
        assert family.documentation
        assert name.endswith(family.unit)
        assert all(sample.timestamp is None and math.isfinite(sample.value) for sample in family.samples)
    assert values(text)


def test_the_figures_are_those_of_the_report(fsdp2: Result) -> None:
    told = values(text_of(fsdp2))
    assert fsdp2.summary is not None
    assert fsdp2.summary.steps is not None
    assert told["shardprof_median_step_seconds"][labels()] == fsdp2.summary.steps.median.wall_ns / 1e9
    assert told["shardprof_captured_steps"][labels()] == 6
    for rank in fsdp2.summary.ranks:
        assert rank.step_ns is not None
        assert told["shardprof_step_seconds"][labels(rank=rank.rank, host="node-a")] == rank.step_ns / 1e9
        shares = [
            told["shardprof_step_time_ratio"][labels(rank=rank.rank, host="node-a", **{"class": group})]
            for group in GROUPS
        ]
        assert shares == [rank.share(group) for group in GROUPS]
        assert sum(shares) == pytest.approx(1)
    for collective in fsdp2.collectives:
        of_group = labels(kind=collective.kind, group=collective.group, ranks="0-1")
        assert told["shardprof_collective_wire_bytes"][of_group] == collective.wire_bytes
        assert collective.busbw_gbps is not None
        assert told["shardprof_collective_bus_bandwidth_bytes_per_second"][of_group] == collective.busbw_gbps * 1e9
    for rank_of in fsdp2.ranks:
        assert rank_of.always_on is not None
        recorded = told["shardprof_recorded_step_seconds"][labels(rank=rank_of.rank, host="node-a")]
        assert recorded == rank_of.always_on.wall_ns / 1e9
    (found,) = fsdp2.findings or ()
    assert found.cost_ns_per_step is not None
    assert list(told["shardprof_finding_cost_seconds"].values()) == [found.cost_ns_per_step / 1e9]


def test_what_was_not_measured_has_no_line(fsdp2: Result) -> None:
    unknown = [dataclasses.replace(one, transfer_ns=None, busbw_gbps=None) for one in fsdp2.collectives]
    bare = dataclasses.replace(fsdp2, collectives=tuple(unknown), clock=None, stragglers=None, volumes=None)
    told = values(text_of(bare))
    assert "shardprof_collective_calls" in told
    assert "shardprof_collective_transfer_seconds" not in told
    assert "shardprof_collective_bus_bandwidth_bytes_per_second" not in told
    assert "shardprof_step_sent_bytes" not in told


@given(name=st.text())
@example(name='a"b\\c\nd{e="f"} 1\r\u2028\x00\udc80 # EOF')
@example(name="\\n")
def test_any_name_comes_back_as_it_was(fsdp2: Result, name: str) -> None:
    ranks = tuple(dataclasses.replace(rank, host=name) for rank in fsdp2.ranks)
    told = values(text_of(dataclasses.replace(fsdp2, ranks=ranks)))
    hosts = {dict(label)["host"] for label in told["shardprof_recorded_step_seconds"]}
    assert hosts == {printable(name)}


def test_no_two_values_have_the_same_labels(fsdp2: Result) -> None:
    twice = tuple(dataclasses.replace(one, ranks=None) for one in (*fsdp2.collectives, *fsdp2.collectives))
    told = values(text_of(dataclasses.replace(fsdp2, collectives=twice, findings=(fsdp2.findings or ()) * 2)))
    assert len(told["shardprof_collective_calls"]) == 2
    hosts = [dataclasses.replace(rank, rank=0, host=host) for rank in fsdp2.ranks for host in ("\x1b", r"\x1b")]
    values(text_of(dataclasses.replace(fsdp2, ranks=tuple(hosts))))


def test_groups_that_begin_alike_are_told_apart(fsdp2: Result) -> None:
    one = fsdp2.collectives[0]
    groups = [tuple(range(0, world, 2)) for world in (64, 128)] + [(0, 1, 2, 5)]
    made = [dataclasses.replace(one, ranks=ranks, calls=len(ranks)) for ranks in groups]
    told = values(text_of(dataclasses.replace(fsdp2, collectives=tuple(made))))
    calls = {dict(label)["ranks"]: value for label, value in told["shardprof_collective_calls"].items()}
    assert sorted(calls.values()) == [4, 32, 64]
    assert calls["0-2, 5"] == 4
    assert calls[", ".join(map(str, groups[1]))] == 64


def test_a_finding_is_the_same_series_in_every_run(fsdp2: Result) -> None:
    (found,) = fsdp2.findings or ()
    assert found.cost_ns_per_step is not None
    dearer = dataclasses.replace(found, title="another 7 %", cost_ns_per_step=2 * found.cost_ns_per_step)
    told = values(text_of(dataclasses.replace(fsdp2, findings=(found, dearer))))["shardprof_finding_cost_seconds"]
    assert told == {labels(rule=found.rule, severity=found.severity): dearer.cost_ns_per_step / 1e9}
