"""What fits: bytes a rank against what real trainings held, against hand-made models, and the verdicts."""

from __future__ import annotations

import math
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.study.bench.cells import AS_SHIPPED, Cell
from shardprof.study.bench.expected_settings import expected_settings
from shardprof.study.bench.fit import CONTEXT_BYTES, DOES_NOT_FIT, FITS, PROCESS_BYTES, TIGHT, UNKNOWN, fit
from shardprof.study.knobs import KNOBS_OF, Knobs
from shardprof.study.model_sizes import ModelFacts, usual_transformer

MB = 10**6
VIT_B = 85_806_346
STATES = ("parameters", "gradients", "optimizer", "buckets")


def cell(strategy: str, *, ranks: int = 8, precision: str = "bf16", batch_size: int = 0, nodes: int = 1) -> Cell:
    return Cell(
        strategy=strategy, knobs=AS_SHIPPED, precision=precision, checkpointing=False, batch_size=batch_size,
        accumulation=1, model="made", ranks=ranks, nodes=nodes,
    )  # fmt: skip


def made(blocks: int = 4, width: int = 64) -> ModelFacts:
    """Blocks of one square tensor, a root of one vector."""
    return ModelFacts(
        parameters=blocks * width * width + width,
        root_parameters=width,
        block_parameters=width * width,
        blocks=blocks,
        root_shapes=((width,),),
        block_shapes=((width, width),),
        tokens_per_sample=1,
        flops_per_sample=1,
        executed_flops_per_sample=1,
        activation_bytes_per_sample=1000,
    )


@pytest.mark.parametrize(
    ("strategy", "megabytes"),
    # The model states of ViT-B in bf16 on 8 ranks, 16 bytes a parameter altogether: (4+12) or 2 + 14/8 or 16/8.
    [("ddp", 16.0), ("zero1", 2 + 2 + 2 / 8 + 12 / 8), ("zero2", 2 + 14 / 8), ("zero3", 2.0), ("fsdp2-full", 2.0)],
)
def test_model_states_of_vit_b_on_eight_ranks(strategy: str, megabytes: float) -> None:
    parts = fit(
        cell(strategy), None, usual_transformer(VIT_B, precision="bf16", checkpointing=False), None, "cuda"
    ).parts
    states = sum(parts[part] for part in ("parameters", "gradients", "optimizer"))
    assert states == pytest.approx(megabytes * VIT_B, rel=0.02)


def test_the_bucket_of_deepspeed_is_a_gigabyte_whatever_the_model() -> None:
    facts = made()
    assert fit(cell("zero3"), None, facts, None, "cuda").parts["buckets"] == 1000 * MB
    assert fit(cell("zero2"), Knobs(overlap=True), facts, None, "cuda").parts["buckets"] == 2000 * MB
    small = Knobs(reduce_bucket_elements=1000)
    assert fit(cell("zero3"), small, facts, None, "cuda").parts["buckets"] == 1000 * 2
    assert (
        fit(cell("zero3"), None, facts, None, "cpu").parts["buckets"] == 2 * facts.parameters
    )  # the rest is untouched


def test_parts_of_a_model_made_by_hand() -> None:
    facts, elements = made(), 4 * 64 * 64 + 64
    held = fit(cell("fsdp2-full", ranks=4, precision="fp32", batch_size=3), None, facts, None, "cuda")
    assert held.parts == {
        "parameters": elements,
        "gradients": elements,
        "optimizer": 2 * elements,
        "buckets": 0,
        "gathered": (64 + 3 * 64 * 64) * 4,  # the root, two blocks, and the gradients of one
        "activations": 3000,
        "context": CONTEXT_BYTES,
    }
    assert held.peak_bytes == sum(held.parts.values())
    on_cpu = fit(cell("fsdp2-full", ranks=4, precision="fp32", batch_size=3), None, facts, None, "cpu")
    assert on_cpu.parts == {**held.parts, "context": PROCESS_BYTES}


def test_fsdp2_pads_the_first_dimension_of_each_tensor() -> None:
    facts = made(blocks=2, width=10)
    padded = expected_settings(cell("fsdp2-full", ranks=4, precision="fp32"), None, facts).number("gather_bytes")
    assert padded == (2 * 12 * 10 + 12) * 4
    flat = expected_settings(cell("fsdp1-full", ranks=4, precision="fp32"), None, facts).number("gather_bytes")
    assert flat == (2 * 100 + 12) * 4


def test_small_tensors_stay_on_every_rank_of_zero3() -> None:
    facts = made(blocks=3, width=10)
    told = expected_settings(cell("zero3", ranks=4), Knobs(persistence_threshold=10), facts)
    assert told.number("persistent_parameters") == 10
    assert told.number("persistent_bytes") == 12 * 2
    assert told.number("gather_bytes") == 3 * 100 * 2


def test_verdicts() -> None:
    facts = made()
    whole = fit(cell("ddp", batch_size=1), None, facts, None, "cuda")
    assert (whole.verdict, whole.room_bytes) == (UNKNOWN, None)

    def verdict(memory_bytes: float) -> str:
        return fit(cell("ddp", batch_size=1), None, facts, round(memory_bytes), "cuda").verdict

    of_torch = whole.peak_bytes - CONTEXT_BYTES
    assert verdict(CONTEXT_BYTES + 1.3 * of_torch) == FITS
    assert verdict(CONTEXT_BYTES + 1.1 * of_torch) == TIGHT
    assert verdict(whole.peak_bytes) == TIGHT
    assert verdict(whole.peak_bytes - 1) == DOES_NOT_FIT


def test_offloaded_states_are_not_on_the_gpu() -> None:
    kept = fit(cell("fsdp2-full"), Knobs(offload=True), made(), None, "cuda").parts
    assert (kept["parameters"], kept["gradients"], kept["optimizer"]) == (0, 0, 0)
    kept = fit(cell("zero2"), Knobs(offload=True), made(), None, "cuda").parts
    assert kept["parameters"] == 2 * made().parameters
    assert kept["optimizer"] == 0


@given(
    st.sampled_from(sorted(KNOBS_OF)), st.sampled_from([2, 4, 8, 64]), st.sampled_from(["fp32", "bf16"]),
    st.integers(10**6, 10**11), st.integers(0, 10**5),
)  # fmt: skip
def test_more_ranks_never_take_more_model_states_and_samples_add_up(
    strategy: str, ranks: int, precision: str, parameters: int, batch: int
) -> None:
    facts = usual_transformer(parameters, precision=precision, checkpointing=False)
    one, more = (
        fit(cell(strategy, ranks=n, precision=precision, batch_size=batch), None, facts, None, "cuda")
        for n in (ranks, 2 * ranks)
    )
    assert sum(more.parts[part] for part in STATES) <= 1.05 * sum(one.parts[part] for part in STATES)
    assert one.parts["activations"] == batch * facts.activation_bytes_per_sample
    assert min(one.parts.values()) >= 0


@given(st.integers(10**3, 10**13))
def test_a_usual_transformer_has_the_parameters_that_were_asked_for(parameters: int) -> None:
    facts = usual_transformer(parameters, precision="bf16", checkpointing=False)
    assert sum(map(math.prod, facts.shapes)) == parameters
    assert facts.root_parameters + facts.blocks * facts.block_parameters == parameters


def told_by_command(*arguments: str) -> ModelFacts:
    done = subprocess.run(
        [sys.executable, "-m", "shardprof.study.model_facts", *arguments], capture_output=True, timeout=120, check=True
    )
    return msgspec.json.decode(done.stdout, type=ModelFacts)


def test_facts_of_a_vision_transformer() -> None:
    pytest.importorskip("torch")
    plain, checkpointed = told_by_command("vit_small"), told_by_command("vit_small", "--checkpointing")
    assert (plain.blocks, plain.tokens_per_sample) == (6, 17)
    assert sum(map(math.prod, plain.shapes)) == plain.parameters == 1_218_186
    # Of a token and block: 24 w² for its matrices and 4 w T for attention in forward, twice that in backward; then the
    # patches (16 of 3x8x8 pixels, no gradient for them) and the head.
    width, tokens = 128, 17
    blocks = 3 * 6 * tokens * (24 * width**2 + 4 * width * tokens)
    edges = 2 * 2 * 16 * width * 3 * 8 * 8 + 3 * 2 * width * 10
    assert plain.flops_per_sample == blocks + edges
    assert plain.executed_flops_per_sample == plain.flops_per_sample == checkpointed.flops_per_sample
    assert 1.2 < checkpointed.executed_flops_per_sample / plain.flops_per_sample < 4 / 3
    # 34 w a token and block in 16 bits, by Korthikanti et al.
    assert plain.activation_bytes_per_sample == pytest.approx(2 * 34 * width * tokens * 6, rel=0.1)
    assert checkpointed.activation_bytes_per_sample < plain.activation_bytes_per_sample / 3
