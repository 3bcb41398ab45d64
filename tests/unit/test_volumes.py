"""What each strategy needs and is known to move and to hold, against figures measured with real collectives.

Volumes are in units of the model's size times (N-1)/N, as papers give them, of a step on N = 4 ranks; memory is in
bytes a parameter, as AdamW leaves it.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from shardprof.analysis.result import Result, Volumes
from shardprof.analysis.volumes.model_states import expected_states
from shardprof.analysis.volumes.strategy_traffic import Passes, expected, theory
from shardprof.analysis.volumes.training_settings import TrainingSettings, UnknownError
from shardprof.analysis.volumes.volumes import volumes
from shardprof.render import markdown, terminal
from shardprof.render._volume import volume_words

from .builders import collective, rank, result, step

PSI = 1_000_000
ROOT = 12_000
PERSISTENT = 6_300
RANKS = 4
WIDTHS = {"fp32": 4, "bf16": 2}
Settings = dict[str, Any]


def trained(strategy: str, *, stored: str = "fp32", moved: str = "fp32", ranks: int = RANKS) -> Settings:
    """What every framework tells of PSI parameters that are kept in one precision and moved in another."""
    return {
        "strategy": strategy,
        "mesh": [ranks],
        "parameters": PSI,
        "elements_by_dtype": {stored: PSI},
        "reduce_dtype": moved,
        "parameter_bytes": PSI * WIDTHS[moved],
        "gradient_bytes": PSI * WIDTHS[moved],
        "reduce_bytes": PSI * WIDTHS[moved],
        "optimizer": "AdamW",
        "optimizer_bytes_per_element": 8,
        "master_weights": False,
    }


def ddp(**changes: Any) -> Settings:
    return trained("DDP") | {"gradient_as_bucket_view": False} | changes


def fsdp(strategy: str = "full shard", *, again: int = PSI - ROOT, ranks: int = RANKS, **changes: Any) -> Settings:
    sizes = {"gather_bytes": 4 * PSI, "gather_again_bytes": 4 * again}
    units = {"units": 7, "units_gathered_again": 6 if again else 0, "units_reduced": 7}
    return trained(strategy, ranks=ranks) | sizes | units | changes


def zero(stage: int, *, precision: str = "fp32", ranks: int = RANKS, persistent: int = 0, **changes: Any) -> Settings:
    width = WIDTHS[precision]
    sizes: Settings = {"gather_bytes": PSI * width} if stage in (1, 2) else {}
    if stage == 3:
        sizes = {
            "persistent_parameters": persistent,
            "gather_bytes": (PSI - persistent) * width,
            "persistent_bytes": persistent * width,
        }
    knobs = {
        "zero_stage": stage,
        "gradient_accumulation_steps": 1,
        "reduce_bucket_elements": 500_000_000,
        "overlap_comm": False,
        "use_multi_rank_bucket_allreduce": True,
        "reduce_scatter": True,
        "contiguous_gradients": True,
        "stage3_prefetch_bucket_elements": 50_000_000,
        "stage3_max_live_parameters": 1_000_000_000,
        "stage3_max_reuse_distance": 1_000_000_000,
        "master_weights": stage in (1, 2) or precision != "fp32",
    }
    told = trained(f"ZeRO-{stage}", stored=precision, moved=precision, ranks=ranks)
    return told | sizes | knobs | changes


NO_REUSE = {"stage3_max_reuse_distance": 0, "stage3_max_live_parameters": 0, "stage3_prefetch_bucket_elements": 0}

TABLE = {
    "DDP": (ddp(), (1, 1), 2, 2),
    "DDP, 4 micro-batches": (ddp(), (4, 4), 8, 2),
    "DDP, 4 micro-batches, no_sync": (ddp(), (4, 1), 2, 2),
    "NO_SHARD": (fsdp("NO_SHARD"), (1, 1), 2, 2),
    "SHARD_GRAD_OP": (fsdp("SHARD_GRAD_OP", again=0), (1, 1), 2, 2),
    "full shard": (fsdp(), (1, 1), 2.988, 3),
    "full shard, 4 micro-batches": (fsdp(), (4, 4), 11.952, 12),
    "full shard, 4 micro-batches, no_sync": (fsdp(), (4, 1), 8.952, 12),
    "ZeRO-0, 4 micro-batches": (zero(0), (4, 1), 2, 2),
    "ZeRO-1": (zero(1), (1, 1), 3, 2),
    "ZeRO-1, 4 micro-batches": (zero(1), (4, 1), 3, 2),
    "ZeRO-2": (zero(2), (1, 1), 3, 2),
    "ZeRO-2, 4 micro-batches": (zero(2), (4, 4), 9, 5),
    "ZeRO-2, reduced to owners": (zero(2, use_multi_rank_bucket_allreduce=False), (1, 1), 1 + 4 / 3, 2),
    "ZeRO-2, reduce_scatter false": (zero(2, reduce_scatter=False), (1, 1), 3, 2),
    "ZeRO-3": (zero(3, persistent=PERSISTENT), (1, 1), 2, 3),
    "ZeRO-3, 2 micro-batches": (zero(3, persistent=PERSISTENT), (2, 2), 3.994, 6),
    "ZeRO-3, all small, 4 micro-batches": (zero(3, persistent=PSI), (4, 4), 5, 12),
    "ZeRO-3, no reuse": (zero(3, persistent=PERSISTENT, **NO_REUSE), (1, 1), 2.994, 3),
    "ZeRO-3, no reuse, none small": (zero(3, **NO_REUSE), (1, 1), 3, 3),
    "ZeRO-3, no reuse, 2 micro-batches": (zero(3, persistent=PERSISTENT, **NO_REUSE), (2, 2), 5.981, 6),
    "ZeRO-3, half in reach": (zero(3, **(NO_REUSE | {"stage3_max_reuse_distance": PSI})), (1, 1), 2.5, 3),
}


@pytest.mark.parametrize("row", TABLE)
def test_wire_bytes_of_each_strategy(row: str) -> None:
    told, (micro_batches, reductions), moved, needed = TABLE[row]
    settings = TrainingSettings(told)
    unit = 4 * PSI * (RANKS - 1) / RANKS
    known = expected(settings, Passes(micro_batches=micro_batches, reductions=reductions), "reduce_scatter")
    assert sum(known.values()) / unit == pytest.approx(moved, abs=6e-4)
    assert sum(theory(settings, micro_batches).values()) / unit == pytest.approx(needed)


def test_a_hybrid_mesh_shards_inside_and_replicates_outside() -> None:
    shards, replicas = 4, 3
    settings = TrainingSettings(fsdp("hybrid shard", mesh=[replicas, shards]))
    needed, known = theory(settings, 2), expected(settings, Passes(micro_batches=2, reductions=2), "reduce_scatter")
    within, between = 4 * PSI * (shards - 1) / shards, 4 * PSI * 2 * (replicas - 1) / replicas / shards
    assert needed == pytest.approx({"all_gather": 4 * within, "reduce_scatter": 2 * within, "all_reduce": between})
    assert known["all_gather"] == pytest.approx(2 * (2 - ROOT / PSI) * within)
    assert known["all_reduce"] == pytest.approx(2 * between)


def test_resharding_to_a_part_of_the_ranks_gathers_again_inside_it() -> None:
    settings = TrainingSettings(fsdp(ranks=8, gather_again_ranks=2))
    known = expected(settings, Passes(micro_batches=1, reductions=1), "reduce_scatter")
    assert known["all_gather"] == pytest.approx(4 * PSI * 7 / 8 + 4 * (PSI - ROOT) / 2)
    assert theory(settings, 1)["all_gather"] == pytest.approx(4 * PSI * (7 / 8 + 1 / 2))


def test_precision_of_what_is_reduced_may_be_another_one() -> None:
    told = trained("full shard", moved="bf16") | {"gradient_bytes": 4 * PSI, "reduce_dtype": "fp32"}
    assert sum(theory(TrainingSettings(told), 1).values()) == pytest.approx((2 * 2 + 4) * PSI * (RANKS - 1) / RANKS)


@pytest.mark.parametrize("told", [{"quantized_gradients": True}, {"hpz_partition_size": 2}, {"has_moe_layers": True}])
def test_variants_of_zero_that_are_not_followed(told: Settings) -> None:
    with pytest.raises(UnknownError):
        expected(TrainingSettings(zero(3) | told), Passes(micro_batches=1, reductions=1), "reduce_scatter")


def test_what_prefetching_keeps_is_not_followed() -> None:
    told = zero(3, stage3_max_reuse_distance=PSI)
    with pytest.raises(UnknownError):
        expected(TrainingSettings(told), Passes(micro_batches=1, reductions=1), "reduce_scatter")


MEMORY = {
    "DDP": (ddp(), 4, 4, 8, 4 * PSI),
    "DDP, gradients in buckets": (ddp(gradient_as_bucket_view=True), 4, 4, 8, 0),
    "FSDP": (fsdp(ranks=8), 0.5, 0.5, 1, 0),
    "ZeRO-0 bf16": (zero(0, precision="bf16", ranks=8), 2, 2, 12, 0),
    "ZeRO-1 bf16": (zero(1, precision="bf16", ranks=8), 2, 0.25, 1.5, 1_000_000_000),
    "ZeRO-2 bf16": (zero(2, precision="bf16", ranks=64), 2, 2 / 64, 0.1875, 1_000_000_000),
    "ZeRO-2 bf16, overlap_comm": (zero(2, precision="bf16", overlap_comm=True), 2, 0.5, 3, 2_000_000_000),
    "ZeRO-2 fp32": (zero(2, ranks=8), 4, 0.5, 1.5, 2_000_000_000),
    "ZeRO-3 bf16": (zero(3, precision="bf16", ranks=8), 0.25, 0.25, 1.5, 1_000_000_000),
    "ZeRO-3 fp32, some small": (zero(3, ranks=8, persistent=PSI // 10), 0.9, 0.5, 1, 2_000_000_000),
}


@pytest.mark.parametrize("row", MEMORY)
def test_memory_of_model_states(row: str) -> None:
    told, parameters, gradients, optimizer, buckets = MEMORY[row]
    states = {part: size for part, size in expected_states(TrainingSettings(told)).items() if size is not None}
    assert states.pop("buckets") == buckets
    per_parameter = {"parameters": parameters, "gradients": gradients, "optimizer": optimizer}
    assert {part: size / PSI for part, size in states.items()} == pytest.approx(per_parameter, abs=1e-6)


def reported(settings: Settings, *, world_size: int = RANKS, gloo: bool = False, **moved: tuple[int, int]) -> Result:
    """A step on every rank in which each kind made so many calls of so many bytes altogether."""
    wire = {"all_reduce": 1.5, "all_gather": 0.75, "reduce_scatter": 1.5 if gloo else 0.75, "other_comm": 1.0}
    one = replace(
        step(compute=1, **dict.fromkeys(moved, 1)),
        comm_calls={kind: calls for kind, (calls, _) in moved.items()},
        comm_bytes={kind: size for kind, (_, size) in moved.items()},
    )
    rows = tuple(
        collective(kind, "all", range(RANKS), payload_bytes=size, wire_bytes=round(wire[kind] * size), calls=calls)
        for kind, (calls, size) in moved.items()
    )
    source = {
        "settings": settings,
        "world_size": world_size,
        "framework": "DeepSpeed" if "zero_stage" in settings else "",
    }
    made = result(*(rank(number, one) for number in range(world_size)), source=source, collectives=rows)
    return replace(made, volumes=volumes(made))


def told_of(made: Result) -> Volumes:
    assert made.volumes is not None
    return made.volumes


def test_zero_2_as_it_ships_moves_half_as_much_again() -> None:
    made = reported(zero(2), all_reduce=(2, 4 * PSI + 4), all_gather=(1, 4 * PSI))
    told = told_of(made)
    assert told.total.measured_per_theory == pytest.approx(1.5, abs=1e-3)
    assert told.total.measured_per_expected == pytest.approx(1, abs=1e-3)
    by_kind = {row.kind: (row.theory_bytes, row.expected_bytes, row.measured_bytes) for row in told.kinds}
    assert by_kind["reduce_scatter"] == (3 * PSI, 0, 0)
    assert by_kind["all_reduce"] == (0, 6 * PSI, 6 * PSI + 6)
    assert "use_multi_rank_bucket_allreduce" in told.reasons[0]
    moved, held = volume_words(made)
    assert moved.startswith(
        "moves 1.50x what DeepSpeed ZeRO-2 needs (9.00 MB a rank and step instead of 6.00 MB): every"
    )
    assert (
        held == "model states on a rank: parameters 4.00 MB, gradients 1.00 MB, optimizer 3.00 MB and buckets 2.00 GB"
    )


@pytest.mark.parametrize(
    ("output", "line"), [(terminal, "  volume  moves 1.50x what"), (markdown, "- volume: moves 1.50x what")]
)
def test_volumes_stand_below_the_tables(output: Any, line: str) -> None:
    printed = io.StringIO()
    output.render(reported(zero(2), all_reduce=(2, 4 * PSI), all_gather=(1, 4 * PSI)), printed)
    assert line in printed.getvalue()


def test_a_strategy_that_moves_what_it_needs() -> None:
    moved, held = volume_words(reported(ddp(gradient_as_bucket_view=True), all_reduce=(1, 4 * PSI)))
    assert moved == "moves what DDP needs, 6.00 MB a rank and step"
    assert held == "model states on a rank: parameters 4.00 MB, gradients 4.00 MB and optimizer 8.00 MB"


def test_micro_batches_of_fsdp_are_counted_by_its_units() -> None:
    gathered = 3 * 4 * (2 * PSI - ROOT)
    synced = told_of(reported(fsdp(), all_gather=(39, gathered), reduce_scatter=(21, 3 * 4 * PSI)))
    assert (synced.micro_batches, synced.reductions, synced.reasons) == (3, 3, ())
    assert synced.total.measured_per_expected == pytest.approx(1)
    held_back = told_of(reported(fsdp(), all_gather=(39, gathered), reduce_scatter=(7, 4 * PSI)))
    assert (held_back.micro_batches, held_back.reductions) == (3, 1)
    assert held_back.reasons == ("gradients are reduced in 1 of 3 micro-batches (no_sync)",)


def test_calls_that_are_no_whole_number_of_micro_batches_tell_none() -> None:
    told = told_of(reported(fsdp(), all_gather=(20, 8 * PSI), reduce_scatter=(7, 4 * PSI)))
    assert told.micro_batches is None
    assert (told.total.theory_bytes, told.total.expected_bytes) == (None, None)
    assert told.total.measured_bytes == 9 * PSI


def test_micro_batches_of_ddp_are_told_by_its_bytes() -> None:
    made = reported(ddp(), all_reduce=(4, 8 * PSI))
    assert (told_of(made).reductions, told_of(made).total.measured_per_theory) == (2, 2)
    assert told_of(made).reasons == ("gradients are reduced after each of 2 micro-batches (no_sync)",)


def test_zero_below_2_accumulates_before_it_reduces() -> None:
    told = told_of(reported(zero(1, gradient_accumulation_steps=4), all_reduce=(2, 4 * PSI), all_gather=(1, 4 * PSI)))
    assert (told.micro_batches, told.reductions) == (4, 1)
    assert told.total.measured_per_expected == pytest.approx(1)


def test_groups_of_several_sizes_count_by_their_ranks() -> None:
    sizes = {(0, 1, 2, 3): 300, (0, 1): 200, (2, 3): 200}
    rows = tuple(collective("all_gather", str(g), g, payload_bytes=400, wire_bytes=wire) for g, wire in sizes.items())
    one = replace(step(compute=1, all_gather=1), comm_calls={"all_gather": 2}, comm_bytes={"all_gather": 800})
    source = {"settings": fsdp(), "world_size": RANKS}
    told = volumes(result(*(rank(number, one) for number in range(RANKS)), source=source, collectives=rows))
    assert told is not None
    assert told.total.measured_bytes == 300 + 200


def test_gloo_sends_a_reduce_scatter_as_an_all_reduce() -> None:
    told = told_of(
        reported(fsdp("SHARD_GRAD_OP", again=0), gloo=True, all_gather=(7, 4 * PSI), reduce_scatter=(7, 4 * PSI))
    )
    assert told.total.measured_per_theory == pytest.approx(1.5)
    assert told.total.measured_per_expected == pytest.approx(1)
    assert told.reasons == ("gloo sends a reduce-scatter as an all-reduce",)


def test_what_nobody_knows_of_is_told() -> None:
    told = told_of(reported(zero(1), all_reduce=(2, 8 * PSI), all_gather=(1, 4 * PSI)))
    assert told.reasons[-1] == "that is 1.67x what this configuration is known to move"


def test_zero_3_that_keeps_parameters_moves_less() -> None:
    told = told_of(reported(zero(3, persistent=PSI // 2), all_gather=(9, 4 * PSI), reduce_scatter=(1, 4 * PSI)))
    assert told.total.measured_per_theory == pytest.approx(2 / 3)
    assert [reason.partition("(")[2] for reason in told.reasons] == [
        "stage3_param_persistence_threshold)", "stage3_max_reuse_distance)"
    ]  # fmt: skip


def test_padding_is_told() -> None:
    padded = fsdp("SHARD_GRAD_OP", again=0) | {"gather_bytes": 5 * PSI, "reduce_bytes": 5 * PSI}
    told = told_of(reported(padded, all_gather=(7, 5 * PSI), reduce_scatter=(7, 5 * PSI)))
    assert told.reasons == ("padding to 4 ranks makes the parameters 25 % larger",)
    assert told.total.measured_per_theory == pytest.approx(1.25)


def test_other_dimensions_of_parallelism_leave_the_measured_volume_open() -> None:
    told = told_of(reported(zero(2), world_size=8, all_reduce=(30, 9 * PSI), all_gather=(1, 4 * PSI)))
    assert (told.total.theory_bytes, told.total.measured_bytes) == (6 * PSI, None)
    assert told.total.measured_per_theory is None


def test_no_step_captured_leaves_the_formulas() -> None:
    made = result(rank(), source={"settings": zero(2), "world_size": RANKS})
    told = volumes(made)
    assert told is not None
    assert (told.total.expected_bytes, told.total.measured_bytes) == (9 * PSI, None)


@pytest.mark.parametrize("told", [{}, {"strategy": "full shard", "mesh": [2], "parameters": PSI}, ddp(mesh=[1])])
def test_runs_that_tell_no_volumes(told: Settings) -> None:
    assert volumes(result(rank(), source={"settings": told})) is None


@pytest.mark.parametrize("damage", ["x", None, -1, [], [[]], {}, {"fp32": "x"}, float("nan"), float("inf"), 0])
@pytest.mark.parametrize("told", [ddp(), fsdp(), zero(2), zero(3)], ids=lambda told: told["strategy"])
def test_damaged_settings_are_unknown_ones(told: Settings, damage: Any) -> None:
    for name in told:
        made = reported(told | {name: damage}, all_gather=(13, 8 * PSI), reduce_scatter=(7, 4 * PSI))
        assert made.volumes is None or made.volumes.total.measured_bytes == 9 * PSI
        volume_words(made)
