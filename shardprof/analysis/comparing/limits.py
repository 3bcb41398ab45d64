"""Whether a run keeps within limits: absolute ones, or ones relative to another run.

A limit is written NAME=VALUE, as in exposed_comm=20%, step_time=120ms, comm_bytes=2GB, findings=0; or, with a sign,
NAME=+VALUE@BASELINE: what a figure may be more (or, with a minus, has to be less) than in the BASELINE, in percent of
it or in its unit. A figure that steps differ in exceeds a relative limit only by more than chance: where the whole 95 %
interval of the change is beyond the limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from shardprof.analysis.comparing.comparison import Interval
from shardprof.analysis.comparing.measured import Measured, full_steps
from shardprof.analysis.comparing.resampling import Sample, Statistic, change_interval, mean, median_low
from shardprof.analysis.result import GROUPS, Step, sum_if_all_known
from shardprof.errors import ShardprofError

TIME, SIZE, SHARE, COUNT = "time", "size", "share", "count"

_UNITS: Mapping[str, tuple[str, float]] = {
    "": (COUNT, 1), "%": (SHARE, 0.01),
    "ns": (TIME, 1), "us": (TIME, 1e3), "µs": (TIME, 1e3), "ms": (TIME, 1e6), "s": (TIME, 1e9),
    "B": (SIZE, 1), "kB": (SIZE, 1e3), "MB": (SIZE, 1e6), "GB": (SIZE, 1e9),
    "KiB": (SIZE, 2**10), "MiB": (SIZE, 2**20), "GiB": (SIZE, 2**30),
}  # fmt: skip
_LIMIT = re.compile(
    r"(?P<name>\w+)=(?P<sign>[+-]?)(?P<number>\d+(?:\.\d+)?) ?(?P<unit>[a-zA-Zµ%]*)(?:@(?P<baseline>.+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit as it was asked for: at most (or at least) `value` of `dimension`; with a `baseline`, more than there."""

    text: str
    name: str
    at_most: bool
    value: float
    dimension: str
    baseline: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What became of a limit. `value` and `bound` are nanoseconds, bytes, shares of 1 or counts, by `dimension`.

    `exceeded` is None where the figure was not measured, and `why` says what is missing. `before` is the baseline's
    figure, `change_interval` where the relative change lies; `by_chance` is a limit that the figure is beyond, but not
    all of that interval.
    """

    limit: Limit
    exceeded: bool | None
    dimension: str
    value: float | None = None
    bound: float | None = None
    before: float | None = None
    change_interval: Interval | None = None
    by_chance: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Figure:
    """What a name stands for: a statistic of a value of steps, or a single value of a run."""

    says: str
    dimension: str
    of_run: Callable[[Measured], float | None]
    of_step: Callable[[Step], float] | None = None
    statistic: Statistic = mean

    def value(self, run: Measured) -> float | None:
        """The figure of a run, in nanoseconds, bytes, a share or a count."""
        return self.of_run(run) if self.of_step is None else _sample(run, self.of_step).figure(self.statistic)


def _sample(run: Measured, of_step: Callable[[Step], float]) -> Sample:
    return Sample([[[of_step(step) for step in ranks] for ranks in full_steps(run.result)]])


def _not_of_run(_run: Measured) -> float | None:
    return None


def _group(says: str, name: str) -> _Figure:
    classes = GROUPS[name]
    return _Figure(says, TIME, _not_of_run, lambda step: sum(step.partition_ns.get(part, 0) for part in classes))


def _recorded_ns(run: Measured) -> float | None:
    times = [rank.always_on.wall_ns for rank in run.result.ranks if rank.always_on]
    return median(times) if times else None


def _overlap(run: Measured) -> float | None:
    summary = run.result.summary
    return summary.steps.overlapped_share if summary and summary.steps and summary.steps.comm_ns else None


def _payload_bytes(run: Measured) -> float | None:
    steps = [step for ranks in full_steps(run.result) for step in ranks]
    total = sum_if_all_known([size for step in steps for size in step.comm_bytes.values()])
    return total / len(steps) if steps and total is not None else None


def _memory_bytes(run: Measured) -> float | None:
    return next((run.memory_bytes[n] for n in ("peak_reserved_bytes", "rss_bytes") if n in run.memory_bytes), None)


def _findings(run: Measured) -> float | None:
    return None if run.result.findings is None else len(run.result.findings)


FIGURES: Mapping[str, _Figure] = {
    "step_time": _Figure("median captured step", TIME, _not_of_run, lambda step: step.wall_ns, median_low),
    "recorded_step_time": _Figure("median step by the records, without the profiler", TIME, _recorded_ns),
    "compute": _group("time a step computes, or its share", "compute"),
    "exposed_comm": _group("time a step waits for communication, or its share", "communication"),
    "copies": _group("time a step only copies or sets memory, or its share", "copies"),
    "data_loading": _group("time a step waits for the DataLoader, or its share", "data_loading"),
    "launch_bound": _group("time the GPU waits for launches, or its share", "launch_bound"),
    "idle": _group("time nothing runs, or its share", "idle"),
    "overlap": _Figure("share of communication that runs under compute", SHARE, _overlap),
    "comm_bytes": _Figure("payload of a step's communication, a rank", SIZE, _payload_bytes),
    "memory": _Figure("most that torch reserved on a GPU; on CPUs resident memory", SIZE, _memory_bytes),
    "findings": _Figure("number of findings", COUNT, _findings),
    "notices": _Figure("number of notices", COUNT, lambda run: len(run.result.notices)),
}
"""What can be limited, by name."""


def parse_limit(text: str, *, at_most: bool) -> Limit:
    """The limit that a text asks for. Raises ShardprofError for what is none."""
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ShardprofError(f"{text!r} is no limit", "write it like exposed_comm=20% or step_time=+5%@BASELINE")
    name, sign, unit, baseline = match["name"], match["sign"], match["unit"], match["baseline"]
    if name not in FIGURES:
        raise ShardprofError(f"{name!r} is nothing that can be limited", f"one of {', '.join(FIGURES)}")
    if unit not in _UNITS:
        raise ShardprofError(f"{text!r} has no known unit", f"one of {', '.join(filter(None, _UNITS))}")
    if bool(sign) != bool(baseline):
        missing = "a sign, as in +5%@BASELINE" if baseline else "what it is relative to, as in +5%@BASELINE"
        raise ShardprofError(f"{text!r} lacks {missing}", "without a sign and a baseline a limit is absolute")
    dimension, factor = _UNITS[unit]
    if dimension not in _dimensions(name, relative=bool(baseline)):
        raise ShardprofError(f"{text!r} limits a {FIGURES[name].dimension} by a {dimension}", _example(name))
    value = float(match["number"]) * factor * (-1 if sign == "-" else 1)
    return Limit(text=text, name=name, at_most=at_most, value=value, dimension=dimension, baseline=baseline)


def _dimensions(name: str, *, relative: bool) -> set[str]:
    """In what a figure may be limited: relative to a baseline also in percent of it, a class of steps in its share."""
    is_class = FIGURES[name].of_step is not None and name != "step_time"
    return {FIGURES[name].dimension, *((SHARE,) if relative or is_class else ())}


def _example(name: str) -> str:
    value = {TIME: "10ms", SIZE: "100MB", SHARE: "20%", COUNT: "0"}[FIGURES[name].dimension]
    return f"write it like {name}={value}"


def judge(limit: Limit, run: Measured, baseline: Measured | None) -> Judgement:
    """Whether `run` keeps the limit; `baseline` is what the limit names as such."""
    return _against(limit, run, baseline) if baseline is not None else _absolute(limit, run)


def _absolute(limit: Limit, run: Measured) -> Judgement:
    figure = FIGURES[limit.name]
    value = figure.value(run)
    if value is not None and limit.dimension == SHARE and figure.dimension == TIME:
        wall_ns = _sample(run, lambda step: step.wall_ns).figure(mean)
        value = value / wall_ns if wall_ns else None
    if value is None:
        return _unknown(limit, "the run")
    beyond = value > limit.value if limit.at_most else value < limit.value
    return Judgement(limit=limit, exceeded=beyond, dimension=limit.dimension, value=value, bound=limit.value)


def _against(limit: Limit, run: Measured, baseline: Measured) -> Judgement:
    figure = FIGURES[limit.name]
    value, before = figure.value(run), figure.value(baseline)
    if value is None or before is None:
        return _unknown(limit, "the run" if value is None else "the baseline")
    is_share = limit.dimension == SHARE and figure.dimension != SHARE
    bound = before * (1 + limit.value) if is_share else before + limit.value
    beyond = value > bound if limit.at_most else value < bound
    lies = None
    if figure.of_step is not None:
        lies = change_interval(_sample(baseline, figure.of_step), _sample(run, figure.of_step), figure.statistic)
    by_chance = beyond and lies is not None and _reaches(lies, before, bound, limit)
    return Judgement(
        limit=limit,
        exceeded=beyond and not by_chance,
        dimension=figure.dimension,
        value=value,
        bound=bound,
        before=before,
        change_interval=lies,
        by_chance=by_chance,
    )


def _reaches(lies: Interval, before: float, bound: float, limit: Limit) -> bool:
    """Whether a change that lies there may end within the bound."""
    return before * (1 + lies.low) <= bound if limit.at_most else before * (1 + lies.high) >= bound


def _unknown(limit: Limit, of: str) -> Judgement:
    why = f"{of} does not tell the {FIGURES[limit.name].says}"
    return Judgement(limit=limit, exceeded=None, dimension=limit.dimension, why=why)
