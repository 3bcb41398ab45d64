"""What is said of FSDP and DeepSpeed, held against the figures of a study: it holds, does not, or cannot be told.

Each hypothesis is a few claims that cases decide, a case being a cell or a pair of cells. Where the study lacks what a
hypothesis `needs`, its figures may agree with it, but refute nothing. Cells on one rank say nothing of communication,
and have no sizes of model states.
"""

from __future__ import annotations

from collections.abc import Sequence

from shardprof.study.conclusions.cases import (
    Case,
    all_reduces,
    bucket_exceeds_states,
    counterparts,
    deepspeed_is_slower,
    has_one_bucket,
    is_more,
    is_shipped,
    overlaps_nothing,
    reports_of,
    sends_half_more,
    takes_more_than_with_small_buckets,
    verdicts,
)
from shardprof.study.conclusions.groups import DDP, DEEPSPEED, FSDP, CellTrials, family
from shardprof.study.conclusions.study import Study
from shardprof.study.conclusions.study_report import DOES_NOT_HOLD, HOLDS, UNKNOWN, Claim, Hypothesis


def hypotheses(study: Study) -> tuple[Hypothesis, ...]:
    """All of them, in the order in which they are asked."""
    on_gpu = runs_on_gpu(study)
    return (
        _overlap(study, on_gpu=on_gpu),
        _reduce_scatter(study),
        _bucket(study, on_gpu=on_gpu),
        _memory_for_traffic(study, on_gpu=on_gpu),
    )


def runs_on_gpu(study: Study) -> bool | None:
    """Whether trials ran on GPUs; None where no report tells."""
    reports = [report for cell in study.cells for report in reports_of(cell)]
    devices = {rank.device for report in reports for rank in report.ranks if rank.device}
    return "cuda" in devices if devices else None


def _communicating(study: Study) -> list[CellTrials]:
    return [cell for cell in study.compared if cell.finished and cell.situation.ranks > 1]


def _overlap(study: Study, *, on_gpu: bool | None) -> Hypothesis:
    cells = _communicating(study)
    late = [cell for cell in cells if is_shipped(cell, DEEPSPEED) and has_one_bucket(cell)]
    others = [cell for cell in cells if family(cell.cell.strategy) in (FSDP, DDP)]
    one_node = dict.fromkeys(cell.situation for cell in cells if cell.situation.nodes == 1)
    return _hypothesis(
        "DeepSpeed's default buckets overlap no gradient communication on small models, which makes FSDP and DDP "
        "faster on one node",
        (
            _claim(
                "with a bucket that holds all gradients, DeepSpeed reduces them under no compute",
                [overlaps_nothing(study, cell) for cell in late],
            ),
            _claim(
                "FSDP and DDP reduce gradients under compute",
                [overlaps_nothing(study, cell).reversed() for cell in others],
            ),
            _claim(
                "on one node, the fastest DeepSpeed has longer steps than the fastest of FSDP and DDP, as shipped",
                [case for situation in one_node for case in deepspeed_is_slower(study, situation)],
            ),
        ),
        ["a node with several GPUs and NCCL: on a CPU DeepSpeed waits inside each call whatever its bucket, and "
         "gloo's transfers take cores from compute"] * (not on_gpu)
        + ["cells on several ranks of one node"] * (not one_node),
    )  # fmt: skip


def _reduce_scatter(study: Study) -> Hypothesis:
    cells = [cell for cell in _communicating(study) if cell.cell.strategy in ("zero1", "zero2")]
    whole = [cell for cell in cells if cell.cell.accumulation == 1]
    return _hypothesis(
        "ZeRO-1 and ZeRO-2 all-reduce gradients where a reduce-scatter is needed, and so send 1.5 times the bytes",
        (
            _claim(
                "their gradients are all-reduced where a rank needs its part only",
                [all_reduces(study, cell) for cell in cells],
            ),
            _claim(
                "without accumulation they send 1.5 times the bytes that the strategy needs",
                [sends_half_more(study, cell) for cell in whole],
            ),
        ),
        ["cells of zero1 and zero2 on several ranks without accumulation"] * (not whole),
    )


def _bucket(study: Study, *, on_gpu: bool | None) -> Hypothesis:
    shipped = [cell for cell in study.compared if is_shipped(cell, DEEPSPEED) and has_one_bucket(cell)]
    smaller = [case for cell in shipped for case in takes_more_than_with_small_buckets(study, cell)]
    sharding = [cell for cell in shipped if cell.cell.strategy != "zero0" and cell.situation.ranks > 1]
    return _hypothesis(
        "DeepSpeed's bucket of 5e8 elements takes more memory than a small model",
        (
            _claim(
                "the bucket is larger than parameters, gradients and optimizer states of a rank together",
                [bucket_exceeds_states(study, cell) for cell in sharding],
            ),
            _claim("as shipped, a strategy takes more memory than with a small bucket", smaller),
        ),
        ["GPUs: on a CPU only the part of a buffer that was written to is resident"] * (not on_gpu)
        + ["the same strategies with a smaller reduce_bucket_elements among their knobs"] * (not smaller),
    )


def _memory_for_traffic(study: Study, *, on_gpu: bool | None) -> Hypothesis:
    several = [situation for situation in study.situations if situation.nodes > 1]
    pairs = [pair for situation in several for pair in counterparts(study, situation)]
    return _hypothesis(
        "On several nodes DeepSpeed takes less memory than FSDP, at the cost of more network traffic",
        (
            _claim(
                "ZeRO-2 and ZeRO-3 take less memory than the FSDP that shards the same",
                [is_more(study, fsdp, zero, study.memory_ratio, "the memory") for zero, fsdp in pairs],
            ),
            _claim(
                "ZeRO-2 and ZeRO-3 send more bytes than the FSDP that shards the same",
                [is_more(study, zero, fsdp, study.wire_ratio, "the bytes sent") for zero, fsdp in pairs],
            ),
        ),
        ["several nodes with cells of zero2, zero3 and the FSDP that shards the same"] * (not pairs)
        + ["GPUs: the resident memory of a process holds much that is no tensor"] * (not on_gpu),
    )


def _claim(text: str, cases: Sequence[Case]) -> Claim:
    """It holds where all cases speak for it, and does not where one speaks against it, which is then told first."""
    pro, contra = verdicts(cases)
    verdict = DOES_NOT_HOLD if contra else HOLDS if pro and pro == len(cases) else UNKNOWN
    told_first = sorted(cases, key=lambda case: case.speaks_for is not False)
    evidence = tuple(case.words for case in told_first)
    return Claim(text=text, verdict=verdict, speak_for=pro, speak_against=contra, cases=len(cases), evidence=evidence)


def _hypothesis(text: str, claims: tuple[Claim, ...], needs: Sequence[str]) -> Hypothesis:
    verdicts_found = {claim.verdict for claim in claims}
    refuted = DOES_NOT_HOLD in verdicts_found
    verdict = HOLDS if verdicts_found == {HOLDS} else DOES_NOT_HOLD if refuted and not needs else UNKNOWN
    return Hypothesis(text=text, verdict=verdict, claims=claims, needs="; ".join(needs))
