"""An answer as words and a table, for the outputs that people read: which lines, in which order. No layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardprof.render._tables import Table
from shardprof.render._words import percent
from shardprof.study.advice.answer import FABRIC, MEMORY, Advice, Threshold
from shardprof.study.advice.outlook import Outlook
from shardprof.study.advice.question import COMPUTE_EFFICIENCY, NETWORK_EFFICIENCY, OVERLAP, Question, Range
from shardprof.study.bench.cells import AS_SHIPPED, TUNED
from shardprof.study.bench.fit import CONTEXT_BYTES, DOES_NOT_FIT, FITS, TIGHT
from shardprof.study.bench.tuning import tuned
from shardprof.words import Scale, duration, enumeration, gibibytes, size, time_scale

_ONE_NODE = "shardprof bench run benchmarks/studies/single-node.toml"
_SEVERAL = "shardprof bench run benchmarks/studies/poster.toml"
_S = 1e9

_NAMES = {
    "ddp": "DDP",
    "fsdp2-full": "FSDP full shard",
    "fsdp2-grad-op": "FSDP grad-op",
    "fsdp2-hybrid": "FSDP hybrid shard",
    **{f"zero{stage}": f"ZeRO-{stage}" for stage in range(4)},
}
_HOW = {
    "ddp": "DistributedDataParallel(model)",
    "fsdp2-full": "fully_shard(block) for each block, then fully_shard(model)",
    "fsdp2-grad-op": "fully_shard(block, reshard_after_forward=False) for each block, then on the model",
    "fsdp2-hybrid": "fully_shard(block, mesh=mesh) for each block, then on the model, with"
    " mesh = init_device_mesh('cuda', ({nodes}, {gpus}), mesh_dim_names=('replicate', 'shard'))",
    **{f"zero{stage}": f'"zero_optimization": {{"stage": {stage}}}' for stage in range(4)},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AdviceView:
    """The answer from top to bottom; `remarks` are labels with their texts, `next_commands` have their purpose."""

    title: str
    about: tuple[str, ...]
    answer: str
    sure: str
    table: Table
    remarks: tuple[tuple[str, tuple[str, ...]], ...]
    next_commands: tuple[tuple[str, str], ...]


def view(advice: Advice) -> AdviceView:
    """What is said."""
    question = advice.question
    return AdviceView(
        title=f"shardprof advise  {_count(question.parameters)} parameters, {question.precision}",
        about=tuple(_about(question)),
        answer=_answer(advice),
        sure=_sure(advice),
        table=_table(advice),
        remarks=(
            ("set", tuple(_how(advice))),
            ("other answers", tuple(_changes(advice))),
            ("study", question.calibration.notes),
            ("assumed", tuple(_assumptions(question))),
        ),
        next_commands=((_study(question), "measure it"),) if advice.first else (),
    )


def _study(question: Question) -> str:
    """What measures it."""
    return _ONE_NODE if question.nodes == 1 else _SEVERAL


def _about(question: Question) -> Iterator[str]:
    on = f"{question.nodes} nodes of " if question.nodes > 1 else ""
    yield f"{on}{question.gpus_per_node} GPUs with {gibibytes(question.memory_bytes)}"
    if question.nodes > 1 and question.fabric_bytes_per_s:
        yield f"{size(question.fabric_bytes_per_s)}/s out of a node"
    if question.link_bytes_per_s:
        yield f"{size(question.link_bytes_per_s)}/s between GPUs of a node"
    if question.computes_s:
        yield f"{question.tokens:,} tokens a rank and step, {_range(question.computes_s)} of compute"


def _answer(advice: Advice) -> str:
    first, other = advice.first, advice.best_of_the_other
    if first is None:
        nearest = advice.ranking[0]
        return (
            f"None fits: {name(nearest)} comes nearest, and takes {gibibytes(nearest.fit.peak_bytes)} of the "
            f"{gibibytes(advice.question.memory_bytes)} of a GPU. It needs more GPUs, or states offloaded to the host."
        )
    framework = "DeepSpeed" if first.is_deepspeed else "PyTorch"
    tied = advice.ranking[1 : advice.tied]
    if any(each.is_deepspeed != first.is_deepspeed for each in tied):
        lead = f"FSDP or DeepSpeed cannot be told apart here; {name(first)} ({framework}) is the first to try"
    else:
        lead = f"{name(first)} ({framework})"
    rival = "PyTorch" if first.is_deepspeed else "DeepSpeed"
    than = f"; with the best of {rival}, {name(other)}, {_does(other)}" if other else ""
    tight = " It fits only while memory is little fragmented." if first.fit.verdict == TIGHT else ""
    return f"{lead}: {_does(first)}{than}.{_matters_until(first)}{tight}"


def _matters_until(outlook: Outlook) -> str:
    """Where nobody told how long a step computes: from when on the network is no matter."""
    if outlook.step_s is not None or not outlook.can_hide:
        return ""
    compute = duration(_S * outlook.hides_from_s)
    return f" From {compute} of compute a step on that is hidden, and the network hardly matters."


def _does(outlook: Outlook) -> str:
    if outlook.step_s is not None:
        return f"a step takes {_range(outlook.step_s)}"
    return f"the network takes {_range(outlook.network_s)} a step, {percent(outlook.can_hide)} of which can hide"


def _sure(advice: Advice) -> str:
    if advice.first is None:
        return ""
    tied = advice.ranking[1 : advice.tied]
    if not tied:
        return "How sure: it is ahead of all others that fit wherever in their ranges the assumptions lie."
    names = enumeration([name(each) for each in tied])
    study = _study(advice.question)
    return f"How sure: {names} may be as fast, and cannot be told apart from it without measuring: {study}"


def _table(advice: Advice) -> Table:
    """A row a strategy; the last column is its step or, if nobody knows how long one computes, what compute hides."""
    question, rows = advice.question, advice.ranking
    network = time_scale(_S * each.network_s.high for each in rows)
    lasts = [each.step_s or Range(each.hides_from_s, each.hides_from_s) for each in rows]
    last = time_scale(_S * each.high for each in lasts)
    told: dict[str, list[str]] = {
        "   strategy": [
            f"{_place(place, advice)}  {_named(each.strategy, each.knobs)}" for place, each in enumerate(rows)
        ],
        "fits": [_fits(each) for each in rows],
        "GiB": [f"{each.fit.peak_bytes / 2**30:.1f}" for each in rows],
        "tokens": [f"{each.most_tokens:,}" for each in rows],
        "inside": [size(each.inside_bytes) for each in rows],
        **({"between": [size(each.between_bytes) for each in rows]} if question.nodes > 1 else {}),
        f"network ({network.unit})": [_ends(each.network_s, network) for each in rows],
        "can hide": [percent(each.can_hide) for each in rows],
    }
    if question.computes_s is not None:
        told[f"step ({last.unit})"] = [_ends(step, last) for step in lasts]
    else:
        shown = zip(rows, lasts, strict=True)
        told[f"hidden at ({last.unit})"] = [last.figure(_S * at.low) if row.can_hide else "never" for row, at in shown]
    return Table(
        columns=tuple(told),
        rows=tuple(zip(*told.values(), strict=True)),
        words=frozenset({"   strategy", "fits"}),
        notes=tuple(_notes(advice)),
        spare=("tokens", "inside", "can hide", "GiB", f"network ({network.unit})"),
    )


def _place(place: int, advice: Advice) -> str:
    """From 1; those that cannot be told apart share it."""
    if advice.ranking[place].fit.verdict == DOES_NOT_FIT:
        return " -"
    return f"{1 if place < advice.tied else place + 1:>2}"


def _fits(outlook: Outlook) -> str:
    told = {FITS: "yes", TIGHT: "tight", DOES_NOT_FIT: "no"}[outlook.fit.verdict]
    return f"{told}, ckpt" if outlook.checkpointing else told


def _ends(seconds: Range, scale: Scale) -> str:
    return f"{scale.figure(_S * seconds.low)}-{scale.figure(_S * seconds.high)}"


def _notes(advice: Advice) -> Iterator[str]:
    question = advice.question
    yield "strategies with one number cannot be told apart" if advice.tied > 1 else "in order of preference"
    if any(each.checkpointing for each in advice.ranking):
        yield "ckpt: with each block checkpointed, not without"
    yield f"GiB: of {gibibytes(question.memory_bytes)} at most" + ("" if question.tokens else ", without activations")
    yield "tokens: most of a rank and step that fit"
    yield "inside: what a rank sends a step inside its node"
    if question.nodes > 1:
        yield "between: what it sends to other nodes"
    yield "can hide: the share of both that can run under compute as shipped"
    if question.computes_s is None:
        yield "hidden at: from so much compute a step on that share is hidden"


def _how(advice: Advice) -> Iterator[str]:
    first = advice.first
    if first is None:
        return
    how = _HOW[first.strategy].replace("{nodes}", str(advice.question.nodes))
    how = how.replace("{gpus}", str(advice.question.gpus_per_node))
    if first.knobs == TUNED:
        bucket = tuned(first.strategy, advice.question.parameters, accumulation=1).reduce_bucket_elements
        how = how.removesuffix("}") + f', "reduce_bucket_size": {bucket}, "overlap_comm": true}}'
    yield how + (", and checkpoint each block" if first.checkpointing else "")


def _changes(advice: Advice) -> Iterator[str]:
    for threshold in advice.thresholds:
        yield f"{_at(threshold)}: {_then(threshold)}"
    if not advice.thresholds:
        yield "none within a factor of 1,000 in memory, size or network"


def _at(threshold: Threshold) -> str:
    if threshold.axis == MEMORY:
        return f"with {'more' if threshold.upwards else 'less'} than {gibibytes(threshold.value)} a GPU"
    if threshold.axis == FABRIC:
        return f"{'above' if threshold.upwards else 'below'} {size(threshold.value)}/s out of a node"
    return f"with {'more' if threshold.upwards else 'fewer'} than {_count(threshold.value)} parameters"


def _then(threshold: Threshold) -> str:
    if threshold.strategy is None:
        return "nothing fits"
    return f"{_named(threshold.strategy, threshold.knobs)} comes first"


def _assumptions(question: Question) -> Iterator[str]:
    yield f"large collectives reach {_share(NETWORK_EFFICIENCY)} of a link, as rings; nothing else uses it"
    if question.link_bytes_per_s is None:
        low, high = map(size, question.link.ends)
        yield f"a GPU sends {low}/s to {high}/s inside a node (--gpu-link tells)"
    if question.computes_s is not None:
        yield f"compute reaches {_share(COMPUTE_EFFICIENCY)} of the GPU's peak"
    else:
        yield "a step computes a quarter of what the slowest strategy's network takes to as much (--gpu, --tokens tell)"
    overlap, of_zero = OVERLAP["torch"], OVERLAP["zero"]
    yield f"of what can hide {_share(overlap)} does, with ZeRO-1 and ZeRO-2 {_share(of_zero)}"
    yield "a usual transformer with AdamW; gradients are reduced in the precision that is computed in, DDP's in fp32"
    yield f"{gibibytes(CONTEXT_BYTES)} for CUDA and NCCL; latency, launching and the optimizer's time are left out"


def name(outlook: Outlook) -> str:
    """The strategy with what it needs."""
    return _named(outlook.strategy, outlook.knobs) + (", checkpointed" if outlook.checkpointing else "")


def _named(strategy: str, knobs: str) -> str:
    return _NAMES[strategy] + ("" if knobs == AS_SHIPPED else f" {knobs}")


def _range(seconds: Range) -> str:
    scale = time_scale([_S * seconds.high])
    return f"{scale.figure(_S * seconds.low)} to {scale.figure(_S * seconds.high)} {scale.unit}"


def _share(shares: Range) -> str:
    return f"{100 * shares.low:.0f} to {percent(shares.high)}"


def _count(number: float) -> str:
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g}{suffix}"
    return f"{number:.0f}"
