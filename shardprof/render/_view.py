"""What the terminal and Markdown show, as words: which tables, which lines, in which order. No layout, no escapes.

Everything in a View may hold text from an untrusted trace; an output escapes what it writes.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from shardprof.analysis.result import GROUPS, Notice, Result, StepsSummary, Straggler, Summary
from shardprof.render._findings import FindingText, all_findings, placed, step_begins, top_findings
from shardprof.render._lateness import lateness_table, lateness_verdict
from shardprof.render._nccl import lost_words, nccl_table, unfinished_words
from shardprof.render._tables import SHORT_NAMES, Table, communication_table, rank_table, recorded_table
from shardprof.render._verdict import verdict
from shardprof.render._volume import strategy_words, volume_words
from shardprof.render._words import percent
from shardprof.trace.classes import class_name
from shardprof.trace.schema import CapturePlan
from shardprof.words import duration, numbers, plural, size

GROUP_NAMES = {"communication": "exposed communication"}
_WORTH_A_COLUMN = 0.005
_WORTH_A_FIGURE = 0.01
_MOST_DOUBTS = 8
_MOST_CAUSES = 3
_MOST_LATE = 3
_CAUSES = {
    "compute": "slower at the same work",
    "imbalance": "its share of the work is larger",
    "launch": "its CPU is late",
    "data_loading": "its data comes late",
    "link": "its link is slow",
    "unknown": "the traces do not tell why",
}
AS_PAGE = "charts, as one page"
"""What the command is for that a page itself need not name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The report from top to bottom; what there is nothing to say about is empty.

    `figures` are the key figures, `groups` the groups of classes that occur and so need a legend, `next_commands` are
    commands with what they are good for.
    """

    title: str
    about: tuple[str, ...]
    verdict: str
    figures: tuple[str, ...]
    groups: tuple[str, ...]
    ranks: Table | None
    communication: Table | None
    nccl: Table | None
    recorded: Table | None
    lateness: Table | None
    slowest: str
    findings: tuple[FindingText, ...]
    late: tuple[str, ...]
    volume: tuple[str, ...]
    links: tuple[str, ...]
    notices: tuple[str, ...]
    doubts: tuple[str, ...]
    next_commands: tuple[tuple[str, str], ...]

    @property
    def tables(self) -> tuple[Table | None, ...]:
        """Those without bars."""
        return self.communication, self.nccl, self.lateness, self.recorded


def short_names(groups: Collection[str]) -> list[str]:
    """What the columns of groups of classes mean, of those whose short name is not the whole one."""
    names = {SHORT_NAMES[group]: GROUP_NAMES.get(group, class_name(group)) for group in groups}
    return [f"{short}: {whole}" for short, whole in names.items() if short != whole]


def view(result: Result) -> View:
    """The words for a Result. ValueError where it has no summary."""
    summary = result.summary
    if summary is None:
        raise ValueError("a report is summarised before it is shown")
    steps = summary.steps
    groups = tuple(group for group in GROUPS if _worth_a_column(group, summary))
    roles = {rank.rank: rank.role for rank in result.ranks}
    return View(
        title=_title(result),
        about=_about(result, summary),
        verdict=verdict(result, summary),
        figures=_figures(steps, summary) if steps else (),
        groups=groups,
        ranks=rank_table(summary, groups) if steps else None,
        communication=communication_table(steps, result.collectives, summary.window) if steps and steps.kinds else None,
        nccl=nccl_table(result.nccl) if result.nccl and result.nccl.calls else None,
        recorded=recorded_table(result.ranks),
        lateness=None,
        slowest=_slowest(steps, result) if steps and summary.window == "step" else "",
        findings=top_findings(result),
        late=tuple(_late(straggler, steps, roles) for straggler in (result.stragglers or ())[:_MOST_LATE] if steps),
        volume=volume_words(result),
        links=_links(result),
        notices=(*_unfinished(result), *(_noticed(notice) for notice in result.notices)),
        doubts=_doubts(result, summary),
        next_commands=_next_commands(result, summary),
    )


def _unfinished(result: Result) -> tuple[str, ...]:
    """What NCCL has not ended is news where the job did not end well either; else the end is only not told."""
    ended_well = result.source.exit_code == 0
    return unfinished_words(result.nccl) if result.nccl and not ended_well else ()


def _noticed(notice: Notice) -> str:
    if notice.steps is None:
        return notice.message
    first, last = notice.steps
    return f"{notice.message}, in step{'' if first == last else 's'} {numbers(range(first, last + 1))}"


def _worth_a_column(group: str, summary: Summary) -> bool:
    """Whether some rank has more than "<1" to show for it; compute is always worth showing where there is any."""
    least = 0.0 if group == "compute" else _WORTH_A_COLUMN
    return any(rank.share(group) > least for rank in summary.ranks)


def _title(result: Result) -> str:
    first, *others = result.source.paths
    name = Path(first).name or first
    for suffix in (".gz", ".json"):
        name = name.removesuffix(suffix)
    return name + (f" and {len(others)} more" if others else "")


def _about(result: Result, summary: Summary) -> tuple[str, ...]:
    source = result.source
    precision = source.settings.get("precision")
    training = ", ".join(part for part in (strategy_words(source), str(precision or "")) if part)
    device = _device_words(result, summary)
    return tuple(part for part in (training, _ranks_words(result), device, _steps_words(result, summary)) if part)


def _device_words(result: Result, summary: Summary) -> str:
    if summary.only_cpu_side:
        return "the CPU's side of a job on GPUs"
    return result.source.device_name or ("CPU" if any(rank.device == "cpu" for rank in result.ranks) else "")


def _ranks_words(result: Result) -> str:
    source, ranks = result.source, result.ranks
    here, world = len(ranks), source.world_size or len(ranks)
    if here == 1 and world > 1:
        words = f"rank {ranks[0].rank} of {world}"
    else:
        words = plural(here, "rank") if here >= world else f"{here} of {plural(world, 'rank')}"
    hosts = sorted({host.name for host in source.hosts} | {rank.host for rank in ranks if rank.host})
    return words + (f" on {hosts[0] if len(hosts) == 1 else plural(len(hosts), 'host')}" if hosts else "")


def _steps_words(result: Result, summary: Summary) -> str:
    if summary.window == "trace":
        return "no steps found, the whole trace is shown"
    captured = {step.step for rank in result.ranks for step in rank.steps if not step.empty}
    if not captured:
        return ""
    confidence = result.step_confidence
    sure = "" if confidence in (None, 1) else f", {100 * confidence:.0f} % sure"
    return f"{_named_steps(captured)} ({result.step_source}{sure})"


def _named_steps(steps: Collection[int]) -> str:
    return f"{'step' if len(steps) == 1 else 'steps'} {numbers(steps)}"


def _figures(steps: StepsSummary, summary: Summary) -> tuple[str, ...]:
    median, slowest = duration(steps.median.wall_ns), duration(steps.slowest.wall_ns)
    step = f"{summary.window} {median}" + (f" (median; slowest {slowest})" if slowest != median else "")
    told = [group for group in GROUPS if steps.share(group) >= _WORTH_A_FIGURE]
    times = [f"{GROUP_NAMES.get(g, class_name(g))} {duration(steps.groups_ns[g] / steps.count)}" for g in told]
    if steps.count > 1 and times:
        times[0] = f"on average: {times[0]}"
    return step, *times


def _slowest(steps: StepsSummary, result: Result) -> str:
    slowest, typical = steps.slowest, steps.median
    longer_ns = slowest.wall_ns - typical.wall_ns
    if not longer_ns:
        return ""
    among = "of the captured ones, " if any(rank.always_on for rank in result.ranks) else ""
    times = f"{among}step {slowest.step} on rank {slowest.rank}, {duration(slowest.wall_ns)}"
    median = f"the median (step {typical.step} on rank {typical.rank}, {duration(typical.wall_ns)})"
    causes = ", ".join(_causes(steps.slower_ns))
    return f"{times}: {duration(longer_ns)} over {median}; {causes}"


def _causes(changes_ns: Mapping[str, int]) -> list[str]:
    """The classes that make most of a difference between two steps, longer or shorter."""
    least_ns = 0.1 * abs(sum(changes_ns.values()))
    large = sorted(
        (name for name in changes_ns if abs(changes_ns[name]) >= least_ns), key=lambda n: -abs(changes_ns[n])
    )
    signed = [(name, "+" if changes_ns[name] > 0 else "-") for name in large[:_MOST_CAUSES]]
    return [f"{class_name(name)} {sign}{duration(abs(changes_ns[name]))}" for name, sign in signed]


def focused_view(result: Result, focus: str) -> View:
    """The whole report, or its "stragglers" or "findings" only. ValueError where the result has no summary."""
    views = {"stragglers": _stragglers_view, "findings": _findings_view}
    return views.get(focus, view)(result)


def _stragglers_view(result: Result) -> View:
    """Who kept the others waiting, step by step."""
    whole = view(result)
    begins_ns = step_begins(result)
    places = [e for straggler in result.stragglers or () for e in straggler.evidence if e.step is not None]
    told = [placed(evidence, begins_ns) for evidence in places]
    return replace(
        whole,
        verdict=lateness_verdict(result),
        figures=(),
        groups=(),
        ranks=None,
        communication=None,
        nccl=None,
        recorded=None,
        lateness=lateness_table(result.ranks),
        slowest="",
        findings=(),
        late=(*whole.late, *told),
        links=(),
        notices=(),
    )


def _findings_view(result: Result) -> View:
    """All that is to be changed, with what shows it."""
    return replace(
        view(result),
        figures=() if result.findings else ("No rule found anything to change.",),
        groups=(),
        ranks=None,
        communication=None,
        nccl=None,
        recorded=None,
        slowest="",
        findings=all_findings(result),
        late=(),
        volume=(),
        links=(),
        notices=(),
    )


def _late(straggler: Straggler, steps: StepsSummary, roles: Mapping[int, str | None]) -> str:
    cost_ns = straggler.cost_ns_per_step
    share = percent(cost_ns * steps.count / sum(steps.groups_ns.values()))
    often = f"in {straggler.steps} of {plural(straggler.of_steps, 'step')}"
    first, *others = (evidence.message for evidence in straggler.evidence if evidence.step is None)
    cost = f"{duration(cost_ns)} a step ({share}), {often}"
    who = f"rank {straggler.rank}" + (f" ({role})" if (role := roles.get(straggler.rank)) else "")
    said = "; ".join([f"It {first}", *others])
    return f"{who} keeps the others waiting {cost}: {_CAUSES[straggler.cause]}. {said}"


def _links(result: Result) -> tuple[str, ...]:
    return tuple(
        f"{host.name} (ranks {numbers(host.ranks)}): {_link_words(host.link_tx_bytes, host.link_rx_bytes or {})}"
        for host in result.source.hosts
        if host.link_tx_bytes is not None
    )


def _link_words(sent: Mapping[str, int], received: Mapping[str, int]) -> str:
    used = [link for link in sorted(sent) if sent[link] or received.get(link)]
    words = [f"{link} sent {size(sent[link])}, received {size(received.get(link, 0))}" for link in used]
    return "; ".join(words) or "nothing was sent"


def _doubts(result: Result, summary: Summary) -> tuple[str, ...]:
    doubts = []
    if result.source.exit_code:
        doubts.append(f"the job ended with exit code {result.source.exit_code}")
    elif result.source.exit_code is None and result.source.command is not None:
        doubts.append("the job has not ended, or its recorder was killed before it did")
    if summary.empty_steps:
        doubts.append(f"{_named_steps(summary.empty_steps)} without work, left out of every figure")
    if result.nccl and (lost := lost_words(result.nccl)):
        doubts.append(lost)
    for doubt in result.quality:
        doubts.append(doubt.message + ("" if doubt.count is None else f" ({doubt.count:,} in all)"))
    hidden = len(doubts) - _MOST_DOUBTS
    return (*doubts[:_MOST_DOUBTS], *((f"{hidden:,} more, see --format json",) if hidden > 0 else ()))


def _next_commands(result: Result, summary: Summary) -> tuple[tuple[str, str], ...]:
    source = result.source
    paths = shlex.join(source.paths)
    report = f"shardprof report {paths}"
    recorded_steps = [rank.always_on.steps for rank in result.ranks if rank.always_on]
    commands = []
    if summary.steps is None and source.command and recorded_steps:
        end = max(recorded_steps)
        window = f"{max(0, end - CapturePlan().steps)}:{end}"
        commands.append((f"shardprof record --steps {window} -- {source.command}", "capture steps that it reaches"))
    elif summary.steps is None:
        commands.append(("shardprof doctor", "what can be recorded on this machine"))
    elif summary.window == "trace":
        commands.append(("shardprof record -- COMMAND", "marks the steps in the trace"))
    if source.kind == "traces" and (source.world_size or 0) > len(result.ranks):
        commands.append(("shardprof report FOLDER", "one that holds the traces of all ranks"))
    if result.findings:
        commands.append((f"{report} --findings", "what shows this, its price, and what would disprove it"))
    if summary.steps is not None:
        commands.append((f"shardprof open {paths}", "the timeline, in the browser"))
    commands.append((f"{report} --html report.html", AS_PAGE))
    return tuple(commands)
