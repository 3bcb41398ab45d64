"""What keeps two runs from being compared: other hardware, precision, batch; or from being compared well: few steps."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from shardprof.analysis.comparing.comparison import Caveat
from shardprof.analysis.comparing.measured import Measured, full_steps
from shardprof.trace.schema import CapturePlan
from shardprof.words import numbers, plural

NOT_COMPARABLE = "not comparable"
MIND = "mind"

_FEW_STEPS = 5
_WARM_STEP = 10
_TOLD_OTHERWISE = re.compile(
    "batch|accum|^module$|nproc|nnodes|num-(gpus|nodes|accelerators)|node-rank|standalone|rdzv|master-|hostfile"
    "|(key|token|secret|password|credentials|auth)$"
)
"""Options whose meaning is among the facts, that only tell a launcher how to start ranks, or that hold a secret."""
_LOW_PRECISIONS = {"bf16", "fp16"}

Group = Sequence[Measured]
_Fact = tuple[str, str, Callable[[Measured], Any]]


def caveats(a: Group, b: Group) -> tuple[Caveat, ...]:
    """What the sides differ in beside what they are compared for, what is not comparable first."""
    found = [
        *_differing(a, b),
        *_maybe_unlike(a, b),
        *_named_settings("versions", [run.result.source.versions for run in a], [r.result.source.versions for r in b]),
        *_environments(a, b),
        *_arguments(a, b),
        *_of_precision(a, b),
        *_of_side("A", a),
        *_of_side("B", b),
        *_of_sampling(a, b),
    ]
    return tuple(sorted(found, key=lambda caveat: caveat.severity != NOT_COMPARABLE))


def _setting(name: str) -> Callable[[Measured], Any]:
    return lambda run: run.result.source.settings.get(name)


def _window(run: Measured) -> str | None:
    summary = run.result.summary
    return None if summary is None else "a step" if summary.window == "step" else "the whole trace"


def _processor(run: Measured) -> str | None:
    if run.result.summary is not None and run.result.summary.only_cpu_side:
        return "only the CPU's side of GPUs"
    devices = {rank.device for rank in run.result.ranks if rank.device}
    return " and ".join({"cuda": "GPUs", "cpu": "CPUs"}.get(device, device) for device in sorted(devices)) or None


def _updated_weights(run: Measured) -> str | None:
    """The precision of the weights that the optimizer updates: of a copy of them, always fp32, else of the model's."""
    settings = run.result.source.settings
    elements = settings.get("elements_by_dtype")
    stored = sorted(str(dtype) for dtype, number in elements.items() if number) if isinstance(elements, dict) else []
    return "fp32" if settings.get("master_weights") else "+".join(stored) or None


def _parameters(run: Measured) -> str | None:
    """In four digits: some frameworks count what they fill up."""
    parameters = run.result.source.settings.get("parameters")
    return f"{float(f'{parameters:.4g}'):,.0f}" if isinstance(parameters, int) else None


def _batch(run: Measured) -> str | None:
    return _of_setting_or_argument(run, "micro_batch_size", "batch")


def _accumulation(run: Measured) -> str | None:
    return _of_setting_or_argument(run, "gradient_accumulation_steps", "accum")


def _of_setting_or_argument(run: Measured, setting: str, fragment: str) -> str | None:
    """What the framework told, else the only argument of the command whose name holds the fragment."""
    told = run.result.source.settings.get(setting)
    values = [value for name, value in _flags(run).items() if fragment in name]
    return str(told) if told is not None else values[0] if len(values) == 1 else None


_FACTS: tuple[_Fact, ...] = (
    ("window", NOT_COMPARABLE, _window),
    ("processors", NOT_COMPARABLE, _processor),
    ("GPU", NOT_COMPARABLE, lambda run: run.result.source.device_name),
    ("ranks", NOT_COMPARABLE, lambda run: run.result.source.world_size),
    ("precision", NOT_COMPARABLE, _setting("precision")),
    ("master weights", NOT_COMPARABLE, _updated_weights),
    ("reduce type", NOT_COMPARABLE, _setting("reduce_dtype")),
    ("parameters", NOT_COMPARABLE, _parameters),
    ("batch of a rank", NOT_COMPARABLE, _batch),
    ("gradient accumulation", NOT_COMPARABLE, _accumulation),
    ("backend", MIND, _setting("backend")),
    ("optimizer", MIND, _setting("optimizer")),
    ("nodes", MIND, lambda run: len(run.result.source.hosts) or None),
    ("optimizer offload", MIND, lambda run: run.result.source.settings.get("offload_optimizer") or None),
    ("step source", MIND, lambda run: run.result.step_source),
    ("captured steps", MIND, lambda run: numbers(ranks[0].step for ranks in full_steps(run.result)) or "none"),
    ("profiled detail", MIND, lambda run: _detail(run.plan)),
)
_UNKNOWN_MATTERS = {"precision", "batch of a rank", "ranks"}
_UNKNOWN_OF_BOTH_MATTERS = {"batch of a rank"}


def _detail(plan: CapturePlan | None) -> str | None:
    if plan is None:
        return None
    return ", ".join(name for name in ("shapes", "stack", "memory") if getattr(plan, name)) or "the least"


def _differing(a: Group, b: Group) -> Iterator[Caveat]:
    for subject, severity, fact in _FACTS:
        of_a, of_b = ({str(value) for run in side if (value := fact(run)) is not None} for side in (a, b))
        if of_a and of_b and (of_a != of_b or len(of_a) > 1):
            yield Caveat(severity=severity, subject=subject, message=f"{_either(of_a)} in A, {_either(of_b)} in B")
        elif bool(of_a) != bool(of_b) and subject in _UNKNOWN_MATTERS:
            known, value, other = ("A", of_a, "B") if of_a else ("B", of_b, "A")
            yield Caveat(severity=MIND, subject=subject, message=f"{_either(value)} in {known}, not told of {other}")
        elif not of_a and not of_b and subject in _UNKNOWN_OF_BOTH_MATTERS:
            yield Caveat(severity=MIND, subject=subject, message="not told of either: see that it is the same")


def _maybe_unlike(a: Group, b: Group) -> Iterator[Caveat]:
    """What the first runs show of knobs that are different by design."""
    for side, run in (("A", a[0]), ("B", b[0])):
        settings = run.result.source.settings
        bucket, parameters = settings.get("reduce_bucket_elements"), settings.get("parameters")
        if isinstance(bucket, int) and isinstance(parameters, int) and bucket > parameters:
            message = (
                f"the bucket of {bucket:,} elements in {side} holds all gradients ({parameters:,}): it is sent after "
                "backward, overlapped by nothing, and takes memory that the strategy does not need"
            )
            yield Caveat(severity=MIND, subject="buckets", message=message)


def _of_precision(a: Group, b: Group) -> Iterator[Caveat]:
    sources = [run.result.source for run in (*a, *b)]
    precisions = {str(source.settings.get("precision")) for source in sources}
    told = all(_updated_weights(run) and run.result.source.settings.get("reduce_dtype") for run in (*a, *b))
    if not told and len({source.framework for source in sources}) > 1 and precisions & _LOW_PRECISIONS:
        message = (
            "DeepSpeed keeps fp32 master weights and reduces gradients in the training's precision; FSDP does the first"
            " only where parameters are loaded in fp32, and reduces in its policy's reduce_dtype"
        )
        yield Caveat(severity=MIND, subject="master weights, reduce type", message=message)
    if "fp16" in precisions:
        message = "fp16 skips the optimizer in steps whose gradients overflow, often the first ones"
        yield Caveat(severity=MIND, subject="skipped steps", message=message)


def _environments(a: Group, b: Group) -> Iterator[Caveat]:
    known = [[run.environment for run in side if run.environment is not None] for side in (a, b)]
    if all(known):
        yield from _named_settings("environment", *known)


def _arguments(a: Group, b: Group) -> Iterator[Caveat]:
    """Options of the commands that differ."""
    if all(run.result.source.command for run in (*a, *b)):
        yield from _named_settings("arguments", [_own_flags(run) for run in a], [_own_flags(run) for run in b])


def _own_flags(run: Measured) -> dict[str, str]:
    return {name: value for name, value in _flags(run).items() if not _TOLD_OTHERWISE.search(name)}


def _flags(run: Measured) -> dict[str, str]:
    """The options of the command, without their dashes; "given" for one that has no value."""
    try:
        words = shlex.split(run.result.source.command or "")
    except ValueError:
        return {}
    flags = {}
    for word, following in zip(words, [*words[1:], "-"], strict=False):
        if word.startswith("--") and len(word) > 2:
            name, has_value, value = word[2:].partition("=")
            flags[name.replace("_", "-")] = value if has_value else "given" if following.startswith("-") else following
    return flags


def _named_settings(subject: str, a: Sequence[Mapping[str, str]], b: Sequence[Mapping[str, str]]) -> Iterator[Caveat]:
    """One line for all names whose values are not the same everywhere."""
    names = dict.fromkeys(name for run in (*a, *b) for name in run)
    unlike = [name for name in names if len({run.get(name) for run in (*a, *b)}) > 1]
    if unlike:
        words = [f"{n} is {_either(_values(a, n))} in A, {_either(_values(b, n))} in B" for n in sorted(unlike)]
        yield Caveat(severity=MIND, subject=subject, message="; ".join(words))


def _values(runs: Iterable[Mapping[str, str]], name: str) -> set[str]:
    return {run.get(name, "none") for run in runs}


def _either(values: Iterable[str]) -> str:
    return " or ".join(sorted(values))


def _of_side(side: str, runs: Group) -> Iterator[Caveat]:
    """What is doubtful about the runs of one side, by itself."""
    if not _captured(runs):
        yield Caveat(severity=NOT_COMPARABLE, subject="steps", message=f"no captured step of {side} holds work")
    for run in runs:
        world, seen = run.result.source.world_size, len(run.result.ranks)
        if world and seen < world:
            yield Caveat(
                severity=MIND, subject="ranks", message=f"{seen} of {plural(world, 'rank')} of {side} were read"
            )
        if run.result.source.exit_code:
            message = f"a job of {side} ended with exit code {run.result.source.exit_code}"
            yield Caveat(severity=MIND, subject="exit code", message=message)


def _of_sampling(a: Group, b: Group) -> Iterator[Caveat]:
    """What makes the interval of the change narrower than the truth."""
    few = [f"{plural(len(steps), 'step')} of {side}" for side, steps in _sides(a, b) if 0 < len(steps) < _FEW_STEPS]
    if few:
        message = f"{' and '.join(few)} were captured: an interval over so few is narrower than the truth"
        yield Caveat(severity=MIND, subject="few steps", message=message)
    cold = [f"{side} from step {min(steps)} on" for side, steps in _sides(a, b) if steps and min(steps) < _WARM_STEP]
    if cold and all(run.result.source.kind == "run" for run in (*a, *b)):
        message = f"captured were {' and '.join(cold)}; a training may take {_WARM_STEP} steps to settle"
        yield Caveat(severity=MIND, subject="warm-up", message=message)
    if len(a) == 1 or len(b) == 1:
        which = "each side" if len(a) == len(b) else "A" if len(a) == 1 else "B"
        message = f"one run of {which}: what differs from run to run is not in the interval"
        yield Caveat(severity=MIND, subject="runs", message=message)


def _sides(a: Group, b: Group) -> tuple[tuple[str, list[int]], ...]:
    return ("A", _captured(a)), ("B", _captured(b))


def _captured(runs: Group) -> list[int]:
    """The numbers of the captured steps that hold work, of all runs."""
    return [ranks[0].step for run in runs for ranks in full_steps(run.result)]
