"""Limits for CI: how they are written, when they are exceeded, and what is told of them, to people and to machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from shardprof import cli
from shardprof.analysis.comparing.limits import FIGURES, Judgement, judge, parse_limit
from shardprof.analysis.comparing.measured import Measured
from shardprof.errors import ShardprofError
from shardprof.render._limits import github_annotations, junit, lines
from tests.conftest import Trace, distributed_info

from .builders import always_on, rank, result, step

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs `shardprof check`; its exit code, and what it wrote to stdout and stderr."""
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.main(["check", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def timed(*walls_ms: float, **fields: Any) -> Measured:
    """A run whose steps wait for communication for a quarter of their time."""
    steps = [step(i, compute=0.75 * wall, all_gather=0.25 * wall) for i, wall in enumerate(walls_ms)]
    return Measured(result=result(rank(0, *steps)), **({"memory_bytes": {}} | fields))


def judged(limit: str, run: Measured, baseline: Measured | None = None, *, at_most: bool = True) -> Judgement:
    return judge(parse_limit(limit, at_most=at_most), run, baseline)


@pytest.mark.parametrize(
    ("limit", "exceeded", "value"),
    [
        ("step_time=100ms", False, 100e6),
        ("step_time=0.0999s", True, 100e6),
        ("exposed_comm=25%", False, 0.25),
        ("exposed_comm=24.9%", True, 0.25),
        ("exposed_comm=26ms", True, 26.6e6),
        ("exposed_comm=27000us", False, 26.6e6),
        ("compute=70%", True, 0.75),
        ("data_loading=0%", False, 0),
        ("launch_bound=0ms", False, 0),
        ("idle=5 %", False, 0),
        ("copies=0ns", False, 0),
        ("overlap=0%", False, 0),
        ("comm_bytes=0B", False, 0),
        ("notices=0", False, 0),
        ("findings=0", None, None),
        ("memory=1GB", None, None),
        ("recorded_step_time=1s", None, None),
    ],
)
def test_absolute_limits(limit: str, exceeded: bool | None, value: float | None) -> None:  # noqa: FBT001
    judgement = judged(limit, timed(100, 90, 110, 132, 100))
    assert judgement.exceeded is exceeded
    assert judgement.value == (None if value is None else pytest.approx(value))
    assert bool(judgement.why) is (exceeded is None)


def test_every_name_can_be_limited_and_measured() -> None:
    made = dataclasses.replace(step(3, compute=5, all_gather=5), comm_bytes={"all_gather": 30}, overlapped_ns={})
    report = result(rank(0, made, always_on=always_on(9)), findings=({"rule": "R01"},))
    run = Measured(result=report, memory_bytes={"peak_reserved_bytes": 7, "rss_bytes": 9})
    values = {name: figure.value(run) for name, figure in FIGURES.items()}
    assert None not in values.values()
    assert (values["memory"], values["comm_bytes"], values["findings"]) == (7, 30, 1)
    assert values["recorded_step_time"] == 9e6


def test_at_least_is_the_other_way_around() -> None:
    assert judged("compute=80%", timed(100), at_most=False).exceeded is True
    assert judged("compute=75%", timed(100), at_most=False).exceeded is False


@pytest.mark.parametrize(
    ("limit", "walls_ms", "exceeded", "by_chance"),
    [
        ("step_time=+5%@b", (103, 104, 102, 103, 104), False, False),
        ("step_time=+5%@b", (110, 111, 109, 110, 112), True, False),
        ("step_time=+5%@b", (60, 111, 109, 60, 112), False, True),
        ("step_time=+5ms@b", (108, 109, 108, 108, 109), True, False),
        ("step_time=+5ms@b", (106, 107, 106, 106, 107), False, True),
        ("step_time=+10ms@b", (106, 107, 106, 106, 107), False, False),
        ("step_time=-10%@b", (89, 88, 90, 89, 89), False, False),
        ("step_time=-10%@b", (95, 94, 96, 95, 95), True, False),
        ("exposed_comm=+5%@b", (110, 111, 109, 110, 112), True, False),
        ("step_time=+5%@b", (106, 104, 112, 107, 103), False, True),
        ("step_time=-5%@b", (100, 101, 99, 100, 100), True, False),
        ("step_time=-5%@b", (92, 100, 96, 97, 91), False, True),
        ("exposed_comm=-30%@b", (101, 100, 99, 100, 101), True, False),
    ],
)
def test_relative_limits(limit: str, walls_ms: tuple[float, ...], exceeded: bool, by_chance: bool) -> None:  # noqa: FBT001
    judgement = judged(limit, timed(*walls_ms), timed(100, 101, 99, 100, 100))
    assert (judgement.exceeded, judgement.by_chance) == (exceeded, by_chance)
    (line,) = lines([judgement])
    assert line.startswith("exceeded" if exceeded else "kept")
    assert ("may be chance" in line) is by_chance


@pytest.mark.parametrize(
    ("limit", "walls_ms", "exceeded", "by_chance"),
    [
        ("step_time=-5%@b", (97, 96, 98, 97, 97), False, False),
        ("step_time=-5%@b", (90, 91, 89, 90, 90), True, False),
        ("step_time=-5%@b", (93, 94, 99, 92, 96), False, True),
        ("step_time=+5%@b", (100, 101, 99, 100, 100), True, False),
        ("step_time=+5%@b", (104, 103, 107, 102, 108), False, True),
        ("step_time=+5ms@b", (100, 101, 99, 100, 100), True, False),
        ("step_time=+5%@b", (110, 111, 109, 110, 112), False, False),
    ],
)
def test_relative_limits_of_what_has_to_be_at_least(
    limit: str,
    walls_ms: tuple[float, ...],
    exceeded: bool,  # noqa: FBT001
    by_chance: bool,  # noqa: FBT001
) -> None:
    judgement = judged(limit, timed(*walls_ms), timed(100, 101, 99, 100, 100), at_most=False)
    assert (judgement.exceeded, judgement.by_chance) == (exceeded, by_chance)


def test_a_count_is_not_rounded() -> None:
    (line,) = lines([judged("notices=0.5", timed(100))])
    assert line == "kept      notices is 0, at most 0.5"
    (line,) = lines([judged("notices=1234567", timed(100))])
    assert line.endswith("at most 1,234,567")


def test_a_single_step_is_taken_as_it_is() -> None:
    judgement = judged("step_time=+5%@b", timed(106), timed(100))
    assert (judgement.exceeded, judgement.change_interval) == (True, None)


def test_what_the_baseline_lacks_cannot_be_told() -> None:
    judgement = judged("memory=+5%@b", timed(1, memory_bytes={"rss_bytes": 5}), timed(1))
    assert judgement.exceeded is None
    assert "the baseline does not tell" in judgement.why


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("speed=3ms", "one of step_time, recorded_step_time, compute, exposed_comm"),
        ("step_time", "is no limit"),
        ("step_time=fast", "is no limit"),
        ("step_time=+ms@b", "is no limit"),
        ("step_time=3", "limits a time by a count"),
        ("step_time=3%", "limits a time by a share"),
        ("step_time=3MB", "limits a time by a size"),
        ("step_time=3parsec", "has no known unit"),
        ("findings=3%", "limits a count by a share"),
        ("step_time=+3%", "lacks what it is relative to"),
        ("step_time=3ms@b", "lacks a sign"),
        ("step_time=3ms@", "is no limit"),
    ],
)
def test_what_is_no_limit_is_refused(text: str, says: str, call: Call) -> None:
    with pytest.raises(ShardprofError, match=says):
        parse_limit(text, at_most=True)
    code, out, err = call("nowhere", "--max", text)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def trace(folder: Path, name: str, *exposed_ns: int) -> Path:
    """Steps of 1000 ns, of which a collective takes so much."""
    made = Trace(distributed_info(0, [0, 1]))
    for number, exposed in enumerate(exposed_ns):
        begin = 1000 * number
        made.step(number, begin, begin + 1000).kernel("gemm", begin, begin + 100)
        made.kernel("ncclDevKernel_AllReduce", begin + 100, begin + 100 + exposed)
    return made.write(folder / name)


def test_exit_codes_and_order(tmp_path: Path, call: Call) -> None:
    run = trace(tmp_path, "run.json", 300, 300, 300)
    assert call(run, "--max", "exposed_comm=30%")[:2] == (0, "kept      exposed_comm is 30.0 %, at most 30.0 %\n")
    limits = ("--max", "exposed_comm=40%", "--max", "memory=1GB", "--min", "compute=50%")
    code, out, err = call(run, *limits)
    assert (code, err) == (1, "")
    assert [line.split()[0] for line in out.splitlines()] == ["exceeded", "unknown", "kept"]
    assert out.splitlines()[0] == "exceeded  compute is 10.0 %, at least 50.0 %"
    assert call(run, "--max", "memory=1GB")[0] == 2
    assert call(run, "--max", "findings=0")[0] == 0
    assert call(run)[0] == 2
    assert call(tmp_path / "missing", "--max", "idle=1%")[0] == 2


def test_a_baseline_is_a_run_or_a_saved_report(tmp_path: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = trace(tmp_path, "before.json", 200, 210, 205), trace(tmp_path, "after.json", 300, 310, 305)
    assert cli.main(["report", str(before), "--format", "json"]) == 0
    saved = tmp_path / "saved@main.json"
    saved.write_text(capsys.readouterr().out)
    told = [call(after, "--max", f"exposed_comm=+10%@{baseline}") for baseline in (before, saved)]
    assert [code for code, _, _ in told] == [1, 1]
    assert [out.replace(str(saved), str(before)) for _, out, _ in told] == [told[0][1]] * 2
    assert "205 ns in " in told[0][1]
    assert "it changed by +48.8 % (95 %: +4" in told[0][1]
    assert call(saved, "--max", "exposed_comm=+10%@" + str(after))[0] == 0


def test_junit_tells_each_limit_as_a_test(tmp_path: Path, call: Call) -> None:
    run, file = trace(tmp_path, "run.json", 300), tmp_path / "limits.xml"
    limits = ("--max", "exposed_comm=1%", "--max", "memory=1GB", "--min", "compute=1%")
    assert call(run, *limits, "--junit", file)[0] == 1
    suite = ElementTree.parse(file).getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    cases = {case.get("name"): [outcome.tag for outcome in case] for case in suite}
    assert cases == {"max exposed_comm=1%": ["failure"], "max memory=1GB": ["error"], "min compute=1%": []}
    code, _, err = call(run, "--max", "idle=99%", "--junit", tmp_path / "no" / "such.xml")
    assert (code, len(err.splitlines())) == (2, 1)


def test_github_gets_an_annotation_for_what_is_not_kept(
    tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trace(tmp_path, "run.json", 300)
    limits = ("--max", "exposed_comm=1%", "--max", "memory=1GB", "--max", "compute=99%")
    assert "::" not in call(run, *limits)[1]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    commands = [line for line in call(run, *limits)[1].splitlines() if line.startswith("::")]
    assert commands == [
        "::error title=shardprof%3A exposed_comm exceeded::exposed_comm is 30.0 %25, at most 1.0 %25",
        "::error title=shardprof%3A memory unknown::memory: the run does not tell the most that torch reserved on a "
        "GPU; on CPUs resident memory",
    ]


def test_a_baselines_name_cannot_start_a_command_or_break_the_xml() -> None:
    hostile = 'b\n::error::x\r%"<&\x00\x1b'
    judgement = judged(f"step_time=+5%@{hostile}".replace("\n", ""), timed(106), timed(100))
    judgement = dataclasses.replace(judgement, limit=dataclasses.replace(judgement.limit, baseline=hostile))
    assert all(len(text.splitlines()) == 1 for text in (*lines([judgement]), *github_annotations([judgement])))
    (failure,) = ElementTree.fromstring(junit([judgement])).iter("failure")
    assert "\\x1b" in str(failure.get("message"))


def test_help_names_all_that_can_be_limited(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["check", "--help"])
    written = capsys.readouterr().out
    assert all(f"  {name} " in written for name in FIGURES)
