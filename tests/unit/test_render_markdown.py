"""The report as Markdown: well-formed tables, and nothing from a trace that becomes markup."""

from __future__ import annotations

import io

import pytest

from shardprof.analysis.result import Evidence, Result
from shardprof.render import markdown
from shardprof.render._findings import placed

from .builders import always_on, collective, rank, result, step


def _text(of: Result) -> str:
    out = io.StringIO()
    markdown.render(of, out)
    return out.getvalue()


def _report(group: str = "shard", **source: object) -> Result:
    ranks = [rank(i, step(7, compute=60, all_gather=40), host=f"node-{i}", always_on=always_on(99)) for i in range(2)]
    return result(*ranks, source=source, collectives=(collective("all_gather", group, [0, 1]),))


def test_the_tables_are_tables() -> None:
    lines = _text(_report()).splitlines()
    rules = [index for index, line in enumerate(lines) if set(line) <= set("|:-") and line]
    assert len(rules) == 3
    for rule in rules:
        assert lines[rule - 2] == ""
        for row in (rule - 1, rule + 1):
            assert lines[row].count("|") == lines[rule].count("|")
    assert "| 1 | node-1 | 100 | 60 | 40 |" in lines


def test_verdict_and_next_step_are_there() -> None:
    text = _text(_report())
    assert "**Communication-bound: 40 % of a step waits for all-gather; nothing of it is overlapped" in text
    assert "- next: `shardprof report runs/example --html report.html` charts, as one page" in text


def test_what_a_trace_says_is_no_markup() -> None:
    text = _text(_report("a|b<script>[x](https://e.org) *b* @you #12\n\x1b[31m"))
    row = next(line for line in text.splitlines() if line.startswith("| all-gather"))
    assert "a\\|b\\<script\\>\\[x\\](https\\://e.org) \\*b\\* @<!-- -->you #<!-- -->12\\\\n\\\\x1b\\[31m" in row
    assert row.replace("\\|", "").count("|") == 8


def test_a_path_cannot_leave_its_code_span() -> None:
    assert "- next: `` shardprof report 'a`b' --html report.html ``" in _text(_report(paths=("a`b",)))


@pytest.mark.parametrize(("begin_ns", "words"), [(-3_000, "0.00"), (3_000, "0.00"), (-30_000, "-0.03")])
def test_no_time_is_less_than_zero_by_nothing(begin_ns: int, words: str) -> None:
    evidence = Evidence(message="here", rank=1, step=2, begin_ns=begin_ns, end_ns=3_310_000)
    assert placed(evidence, {(1, 2): 0}) == f"here: {words} to 3.31 ms into step 2 on rank 1"
