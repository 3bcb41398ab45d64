"""What the host does to the steps: planted in traces, found by the report, at the cost that was planted.

Times of planted traces are in microseconds; each has STEPS steps of STEP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from shardprof.trace.schema import CapturePlan, RankRecord, RunFolder, RunRecord, StepRecord, to_json, write_whole
from tests.conftest import BASE_NS, COMM, WORKER, Trace
from tests.unit.planted_runs import COPY_BACK, COPY_OVER, STEP, STEPS, US, Plant, Planted, planted

MS = 1_000_000
Report = Callable[..., dict[str, Any]]


def recorded(
    root: Path, trace: Trace, *, settings: Mapping[str, Any] | None = None, framework: str = "FSDP2",
    environment: Mapping[str, str] | None = None, steps: Sequence[StepRecord] = (),
) -> Path:  # fmt: skip
    """A run folder of one rank with a GPU."""
    folder = RunFolder(root).rank(0)
    trace.write(folder / "trace.json.gz")
    record = RankRecord(
        rank=0, world_size=1, local_rank=0, host="node", pid=1, device="cuda", started_ns=0, versions={},
        framework=framework, settings=dict(settings or {}),
    )  # fmt: skip
    write_whole(folder / "rank.json", record)
    (folder / "steps.jsonl").write_text("".join(to_json(step) + "\n" for step in steps))
    run = RunRecord(
        command=("python", "train.py"), launcher="", started_ns=0, plan=CapturePlan(), versions={},
        environment=dict(environment or {}),
    )  # fmt: skip
    write_whole(root / "run.json", run)
    return root


@pytest.fixture
def found(tmp_path: Path, report: Report) -> Callable[..., list[dict[str, Any]]]:
    """The findings of one rule in a trace, or in a run recorded with it."""

    def findings(rule: str, trace: Trace, **parts: Any) -> list[dict[str, Any]]:
        made = recorded(tmp_path / "run", trace, **parts) if parts else trace.write(tmp_path / "trace.json")
        return [finding for finding in report(made)["findings"] if finding["rule"] == rule]

    return findings


Found = Callable[..., list[dict[str, Any]]]


def busy(trace: Planted, begin: int) -> object:
    """A step whose GPU always has work."""
    return trace.run(begin + 20, begin + 9_990, launch=begin + 10).cpu(begin + 20, begin + 9_000)


# R29: the host waits 6 ms in each step. With 2 ms of other work until the next launch, the GPU idles for as long.


def synchronized(trace: Planted, begin: int, *, late: int = 2_000) -> Planted:
    trace.run(begin + 20, begin + 6_010, launch=begin + 10).item(begin + 20, begin + 6_040)
    launch = begin + 6_040 + late
    return trace.cpu(begin + 6_040, launch).run(launch + 10, begin + 9_990, launch=launch)


def test_a_wait_costs_what_the_gpu_then_idles(found: Found) -> None:
    (finding,) = found("R29", planted(synchronized), settings={"strategy": "full shard"})
    assert finding["cost_ns_per_step"] == pytest.approx(2.05 * MS, rel=0.03)
    assert finding["title"].startswith("The host waits for the GPU 6.01 ms a step")
    whole, longest = finding["evidence"]
    assert "aten::item 1x" in whole["message"]
    assert longest["step"] in range(7, 7 + STEPS)
    begin_us = (longest["begin_ns"] - BASE_NS) / US
    assert begin_us % STEP == 22
    assert (longest["end_ns"] - longest["begin_ns"]) / US == 8_050 - 22
    assert "item()" in finding["knob"]


def test_a_wait_for_the_device_is_named_by_its_call(found: Found) -> None:
    def plant(trace: Planted, begin: int) -> object:
        trace.run(begin + 20, begin + 6_010, launch=begin + 10).api("cudaDeviceSynchronize", begin + 20, begin + 6_015)
        return trace.cpu(begin + 6_020, begin + 8_000).run(begin + 8_010, begin + 9_990, launch=begin + 8_000)

    (finding,) = found("R29", planted(plant))
    assert "cudaDeviceSynchronize 1x" in finding["evidence"][0]["message"]
    assert finding["cost_ns_per_step"] == pytest.approx(2.03 * MS, rel=0.03)


def at_the_end(trace: Planted, begin: int) -> object:
    """As frameworks do: wait when all is launched."""
    return trace.run(begin + 20, begin + 9_960, launch=begin + 10).item(begin + 20, begin + 9_985)


def now_and_then(trace: Planted, begin: int) -> object:
    return synchronized(trace, begin) if begin == STEP else busy(trace, begin)


def after_the_last_launch(trace: Planted, begin: int) -> object:
    """The host synchronizes when it has launched all of a step, and does other things before it launches again."""
    trace.cpu(begin, begin + 2_000).run(begin + 2_020, begin + 9_900, launch=begin + 2_000)
    return trace.api("cudaDeviceSynchronize", begin + 2_010, begin + 9_950)


def test_a_wait_at_each_steps_end_is_found_though_the_last_may_be_the_profilers(found: Found) -> None:
    (finding,) = found("R29", planted(after_the_last_launch))
    assert finding["title"].startswith("The host waits for the GPU 7.94 ms a step")
    assert "cudaDeviceSynchronize 1x" in finding["evidence"][0]["message"]
    assert finding["cost_ns_per_step"] == pytest.approx(2.07 * MS, rel=0.2)
    assert found("R29", planted(after_the_last_launch, steps=2)) == [], "once is not always"


def of_a_watchdog(trace: Planted, begin: int) -> object:
    trace.run(begin + 20, begin + 6_010, launch=begin + 10).cpu(begin + 20, begin + 8_000)
    trace.api("cudaEventSynchronize", begin + 20, begin + 6_020, tid=WORKER)
    return trace.run(begin + 8_010, begin + 9_990, launch=begin + 8_000)


def pinned_copy_back(trace: Planted, begin: int) -> object:
    trace.run(begin + 20, begin + 6_010, launch=begin + 10).cpu(begin + 30, begin + 8_000)
    call = ("cudaMemcpyAsync", begin + 30, begin + 6_035)
    trace.running(COPY_BACK.format("Pinned"), begin + 6_012, begin + 6_030, call=call)
    return trace.run(begin + 8_010, begin + 9_990, launch=begin + 8_000)


def operators_alone(trace: Planted, begin: int) -> object:
    return (
        trace.cpu(begin, begin + 6_000).cpu(begin + 6_000, begin + 8_000, "aten::item").cpu(begin + 8_000, begin + STEP)
    )


@pytest.mark.parametrize("plant", [busy, at_the_end, now_and_then, of_a_watchdog, pinned_copy_back, operators_alone])
def test_what_is_no_wait_or_costs_nothing(plant: Plant, found: Found) -> None:
    assert found("R29", planted(plant)) == []


def before_all(trace: Planted, begin: int) -> object:
    trace.api("cudaDeviceSynchronize", begin, begin + 5_000)
    return trace.run(begin + 5_020, begin + 9_990, launch=begin + 5_010)


def after_all(trace: Planted, begin: int) -> object:
    trace.run(begin + 3_010, begin + 9_990, launch=begin + 3_000)
    return trace.api("cudaDeviceSynchronize", begin + 3_010, begin + 9_995)


@pytest.mark.parametrize("plant", [before_all, after_all])
def test_the_profiler_waits_on_its_own_account(plant: Plant, found: Found) -> None:
    assert found("R29", planted(plant, steps=1)) == []


def test_little_idleness_is_none(found: Found) -> None:
    assert found("R29", planted(lambda trace, begin: synchronized(trace, begin, late=20))) == []


@pytest.mark.parametrize("name", ["CUDA_LAUNCH_BLOCKING", "TORCH_NCCL_BLOCKING_WAIT", "NCCL_BLOCKING_WAIT"])
def test_settings_that_make_the_host_wait(name: str, found: Found) -> None:
    (finding,) = found("R29", planted(busy), environment={name: "1"})
    assert finding["title"] == f"{name}=1 is set"
    assert finding["cost_ns_per_step"] is None
    assert finding["knob"] == f"unset {name}"


@pytest.mark.parametrize(
    ("plant", "environment"),
    [(busy, {"CUDA_LAUNCH_BLOCKING": "0", "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1"}),
     (operators_alone, {"CUDA_LAUNCH_BLOCKING": "1", "TORCH_NCCL_BLOCKING_WAIT": "1"})],
)  # fmt: skip
def test_settings_that_do_not(plant: Plant, environment: dict[str, str], found: Found) -> None:
    assert found("R29", planted(plant), environment=environment) == []


# R09: the limiter holds the host for 4 ms; the next kernel is launched 1 ms after that, when the GPU has long idled.


def limited(trace: Planted, begin: int, *, until: int = 4_020, late: int = 1_000) -> object:
    trace.run(begin + 20, begin + 4_010, launch=begin + 10)
    trace.range("FullyShardedDataParallel.rate_limiter", begin + 20, begin + until)
    trace.api("cudaEventSynchronize", begin + 22, begin + until - 2)
    launch = begin + until + late
    return (
        trace.cpu(begin + until, launch).run(launch + 10, begin + 8_000, launch=launch).cpu(launch + 4, begin + 9_000)
    )


def test_a_limiter_that_holds_the_host_costs_no_more_than_what_is_not_computed(found: Found) -> None:
    (finding,) = found("R09", planted(limited), settings={"strategy": "full shard"}, framework="FSDP1")
    computed = (4_010 - 20) + (8_000 - 5_030)
    assert finding["cost_ns_per_step"] == pytest.approx((STEP - computed) * US, rel=0.01)
    assert "4 ms a step" in finding["title"]
    assert "limit_all_gathers=False" in finding["knob"]
    assert finding["evidence"][1]["end_ns"] - finding["evidence"][1]["begin_ns"] == 4_000 * US


def test_a_limiter_is_not_found_again_as_a_wait(found: Found) -> None:
    assert found("R29", planted(limited)) == []


def ahead(trace: Planted, begin: int) -> object:
    """The limiter holds a host that is ahead: the GPU always computes."""
    trace.run(begin + 20, begin + 9_990, launch=begin + 10)
    return trace.range("FullyShardedDataParallel.rate_limiter", begin + 20, begin + 9_000)


def passing(trace: Planted, begin: int) -> object:
    return limited(trace, begin, until=400, late=4_620)


@pytest.mark.parametrize("plant", [ahead, passing])
def test_a_limiter_that_costs_nothing(plant: Plant, found: Found) -> None:
    assert found("R09", planted(plant)) == []


# R15: a copy of 2 ms at the begin of each step, for which both the host and the GPU wait.


def copied(trace: Planted, begin: int, *, took: int = 2_000, memory: str = "Pageable") -> object:
    end = begin + 15 + took
    trace.cpu(begin + 5, end + 15, "aten::to")
    trace.running(COPY_OVER.format(memory), begin + 15, end, call=("cudaMemcpyAsync", begin + 10, end + 5))
    trace.api("cudaStreamSynchronize", end + 6, end + 10)
    return trace.run(end + 30, begin + 9_990, launch=end + 20).cpu(end + 24, begin + 9_000)


def test_copies_from_memory_that_is_not_pinned(found: Found) -> None:
    (finding,) = found("R15", planted(copied))
    assert finding["cost_ns_per_step"] == pytest.approx(2 * MS, rel=0.03)
    assert finding["title"].startswith("1 copy a step to the GPU")
    assert "aten::to 1x" in finding["evidence"][0]["message"]
    assert "pin_memory=True" in finding["knob"]


def test_a_copy_is_not_found_again_as_a_wait(found: Found) -> None:
    assert found("R29", planted(copied)) == []


def held_by_a_tiny_copy(trace: Planted, begin: int) -> object:
    """The copy itself takes 2 us, but waits 5 ms for its stream, and the GPU then 2 ms for the host."""
    trace.run(begin + 20, begin + 6_000, launch=begin + 10).cpu(begin + 20, begin + 6_020, "aten::index")
    trace.running(
        COPY_OVER.format("Pageable"), begin + 6_001, begin + 6_003, call=("cudaMemcpyAsync", begin + 30, begin + 40)
    )
    trace.api("cudaStreamSynchronize", begin + 41, begin + 6_010).cpu(begin + 6_020, begin + 8_000)
    return trace.run(begin + 8_010, begin + 9_990, launch=begin + 8_000)


def test_a_tiny_copy_that_holds_the_host(found: Found) -> None:
    (finding,) = found("R15", planted(held_by_a_tiny_copy))
    assert finding["cost_ns_per_step"] == pytest.approx(2.05 * MS, rel=0.03)
    assert "aten::index 1x" in finding["evidence"][0]["message"]
    assert found("R29", planted(held_by_a_tiny_copy)) == []


def under_compute(trace: Planted, begin: int) -> object:
    trace.run(begin + 20, begin + 9_000, launch=begin + 10)
    call = ("cudaMemcpyAsync", begin + 90, begin + 2_110)
    trace.running(COPY_OVER.format("Pageable"), begin + 100, begin + 2_100, call=call, stream=20)
    return trace.run(begin + 9_005, begin + 9_990, launch=begin + 2_120)


@pytest.mark.parametrize(
    "plant",
    [under_compute, lambda trace, begin: copied(trace, begin, took=50),
     lambda trace, begin: copied(trace, begin, memory="Pinned")],
)  # fmt: skip
def test_copies_that_cost_nothing_or_are_pinned(plant: Plant, found: Found) -> None:
    assert found("R15", planted(plant)) == []


# R10, R11: each step frees and allocates memory while the GPU idles; or records tell that memory ran short.


def allocating(trace: Planted, begin: int) -> object:
    trace.run(begin + 20, begin + 6_010, launch=begin + 10).api("cudaFree", begin + 30, begin + 6_020)
    trace.api("cudaMalloc", begin + 6_020, begin + 7_020)
    return trace.run(begin + 7_040, begin + 9_990, launch=begin + 7_030).cpu(begin + 7_034, begin + 9_500)


def only_at_first(trace: Planted, begin: int) -> object:
    return allocating(trace, begin) if begin < 2 * STEP else busy(trace, begin)


def beside_the_gpu(trace: Planted, begin: int) -> object:
    busy(trace, begin)
    return trace.api("cudaMalloc", begin + 2_000, begin + 3_000)


def stream_ordered(trace: Planted, begin: int) -> object:
    """The other allocator of torch calls CUDA's own each time."""
    allocating(trace, begin)
    for event in trace.events:
        event["name"] = {"cudaFree": "cudaFreeAsync", "cudaMalloc": "cudaMallocAsync"}.get(event["name"], event["name"])
    return trace


def remembered(count: int, memory: Callable[[int], dict[str, int]], wall_us: Callable[[int], int]) -> list[StepRecord]:
    """Records of steps before the trace."""
    begin_ns = BASE_NS - 1_000 * MS * count
    return [
        StepRecord(step=i, begin_ns=begin_ns + i * 1_000 * MS, end_ns=begin_ns + i * 1_000 * MS + wall_us(i) * US,
                   cuda_memory=memory(i))
        for i in range(count)
    ]  # fmt: skip


def ran_short(every: int, count: int = 40) -> list[StepRecord]:
    """Memory runs short in some steps, which take 4 ms longer."""
    return remembered(
        count, lambda i: {"alloc_retries": i // every}, lambda i: STEP + 4_000 * (i > 0 and i % every == 0)
    )


GB = 1_000_000_000
DEVICE = {"deviceProperties": [{"id": 0, "name": "H100", "totalGlobalMem": 80 * GB}]}


def held(reserved: float, peak_active: float) -> list[StepRecord]:
    memory = {"active_bytes": 5 * GB, "reserved_bytes": round(reserved * GB)}
    return remembered(30, lambda i: memory | {"peak_active_bytes": round(peak_active * GB) - i}, lambda _: STEP)


def test_memory_that_is_allocated_in_steps(found: Found) -> None:
    (finding,) = found("R10", planted(allocating))
    assert finding["cost_ns_per_step"] == pytest.approx(1.1 * MS, rel=0.1)
    assert finding["knob"].startswith("PYTORCH_ALLOC_CONF=expandable_segments:True")
    assert "2 times a step" in finding["evidence"][0]["message"]
    assert finding["evidence"][1]["end_ns"] - finding["evidence"][1]["begin_ns"] == 5_990 * US


@pytest.mark.parametrize("plant", [only_at_first, beside_the_gpu, stream_ordered, busy])
def test_allocations_that_are_usual(plant: Plant, found: Found) -> None:
    assert found("R10", planted(plant)) == []


def test_memory_that_runs_short_costs_what_those_steps_take_longer(found: Found) -> None:
    (finding,) = found("R10", planted(busy), steps=ran_short(4))
    assert finding["cost_ns_per_step"] == pytest.approx(4 * MS * 9 / 38, rel=0.01)
    assert "9 of 38 steps" in finding["evidence"][0]["message"]


@pytest.mark.parametrize("steps", [ran_short(4, 12), ran_short(1000), held(40, 39)], ids=["twice", "never", "not told"])
def test_memory_that_hardly_ran_short(steps: list[StepRecord], found: Found) -> None:
    assert found("R10", planted(busy), steps=steps) == []


def test_segments_that_grow_already_are_not_advised(found: Found) -> None:
    environment = {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512,expandable_segments:True"}
    (finding,) = found("R10", planted(busy), steps=ran_short(4), environment=environment, framework="FSDP1")
    assert "expandable" not in finding["knob"]
    assert "limit_all_gathers=True" in finding["knob"]


def test_memory_that_nothing_fits_into(found: Found) -> None:
    (finding,) = found("R11", planted(busy, header=DEVICE), steps=held(70, 50))
    assert finding["title"] == "20.0 GB of the GPU's memory are reserved and of no use: 25 % of it"
    assert finding["cost_ns_per_step"] is None
    assert "expandable_segments" in finding["knob"]


@pytest.mark.parametrize(
    ("steps", "header"),
    [(held(70, 60), DEVICE), (held(70, 50), {}), ([], DEVICE)],
    ids=["less", "no size", "no record"],
)
def test_memory_that_is_in_use_or_not_told(steps: list[StepRecord], header: dict[str, Any], found: Found) -> None:
    assert found("R11", planted(busy, header=header), steps=steps) == []


# R30: a compilation of 6 ms in two of the steps, beside which nothing runs; memory that grows; first steps.


def compiling(trace: Planted, begin: int, *, name: str = "_compile.compile_inner (dynamo_timed)") -> object:
    if begin not in (STEP, 2 * STEP):
        return busy(trace, begin)
    trace.cpu(begin + 20, begin + 6_020, name).cpu(begin + 30, begin + 5_000, "compile_fx_inner (dynamo_timed)")
    return trace.run(begin + 6_030, begin + 9_990, launch=begin + 6_025).cpu(begin + 6_030, begin + 9_000)


def compiling_beside_the_gpu(trace: Planted, begin: int) -> object:
    """As with a GPU that has much work: nobody waits for the compiler."""
    return busy(trace, begin), trace.cpu(begin + 20, begin + 6_020, "_compile.compile_inner (dynamo_timed)")


def looking_up(trace: Planted, begin: int) -> object:
    return compiling(trace, begin, name="TorchDynamo Cache Lookup")


@pytest.mark.parametrize("name", ["_compile.compile_inner (dynamo_timed)", "backward._backward_impl (dynamo_timed)"])
def test_steps_that_compile(name: str, found: Found) -> None:
    trace = planted(lambda trace, begin: compiling(trace, begin, name=name))
    (finding,) = found("R30", trace, framework="DeepSpeed")
    assert finding["title"] == "torch.compile compiles in 2 of 4 captured steps"
    assert finding["cost_ns_per_step"] == pytest.approx(3 * MS, rel=0.02)
    assert "engine.compile" in finding["knob"]
    assert finding["evidence"][1]["step"] in (8, 9)


def test_steps_that_compile_on_cpus(found: Found) -> None:
    def plant(trace: Planted, begin: int) -> object:
        name = "_compile.compile_inner (dynamo_timed)"
        return trace.cpu(begin + 10, begin + 4_010, name).cpu(begin + 4_010, begin + 9_990, "aten::mm")

    (finding,) = found("R30", planted(plant))
    assert finding["cost_ns_per_step"] == pytest.approx(4 * MS, rel=0.01)


@pytest.mark.parametrize("plant", [compiling_beside_the_gpu, looking_up])
def test_steps_that_do_not_compile_or_not_at_a_price(plant: Plant, found: Found) -> None:
    assert found("R30", planted(plant)) == []


def test_what_the_first_steps_compile_is_no_change(found: Found) -> None:
    def plant(trace: Planted, begin: int) -> object:
        return compiling(trace, begin) if begin == STEP else busy(trace, begin)

    assert found("R30", planted(plant, first=0)) == []


def allocated(*parts_mb: Callable[[int], float]) -> list[StepRecord]:
    return remembered(
        60, lambda i: {"allocated_bytes": 2 * GB + round(sum(part(i) for part in parts_mb) * 1e6)}, lambda _: STEP
    )


def batches(i: int) -> float:
    """Batches of all sizes."""
    return [0, 900, 300, 500][i % 4]


def test_memory_that_grows(found: Found) -> None:
    (finding,) = found("R30", planted(busy), steps=allocated(batches, lambda i: 3 * i))
    assert finding["title"] == "Allocated GPU memory grows by 3.1 MB a step"
    assert finding["cost_ns_per_step"] is None
    assert "2.012 GB" in finding["evidence"][0]["message"]
    assert "58 steps" in finding["evidence"][0]["message"]


@pytest.mark.parametrize(
    "steps",
    [allocated(batches), allocated(lambda i: 10 * min(i, 30)), allocated(lambda i: 10 * min(i, 30) + i),
     allocated(lambda i: 3 * (i % 30)),
     allocated(lambda i: 0.01 * i), allocated(lambda i: 30 * i)[:18], allocated(lambda i: 500 * (i > 0))],
    ids=["batches", "a cache that fills", "one that is nearly full", "given back", "hardly any", "few steps",
         "optimizer states"],
)  # fmt: skip
def test_memory_that_does_not_grow(steps: list[StepRecord], found: Found) -> None:
    assert found("R30", planted(busy), steps=steps) == []


def warming_up(first_wall: int, *, last: int = 4) -> Planted:
    """Steps from 0 on, of which the first takes longer."""
    made = Planted().step(0, 0, first_wall * US)
    assert isinstance(made, Planted)
    busy(made, first_wall - STEP)
    for number in range(1, last + 1):
        begin = first_wall + (number - 1) * STEP
        made.step(number, begin * US, (begin + STEP) * US)
        busy(made, begin)
    return made


def test_first_steps_that_count(found: Found) -> None:
    (finding,) = found("R30", warming_up(3 * STEP))
    assert finding["title"] == "Warm-up is among the captured steps: step 0 takes 3x the median of later ones"
    assert "torch.profiler.schedule" in finding["knob"]
    (finding,) = found("R30", warming_up(3 * STEP), settings={})
    assert "--steps 7:12" in finding["knob"]


def test_a_slow_step_that_is_no_first_one_is_no_warm_up(found: Found) -> None:
    later = warming_up(3 * STEP)
    for event in later.events:
        event["name"] = event["name"].replace("ProfilerStep#", "ProfilerStep#10")
    assert found("R30", later) == []
    assert found("R30", warming_up(STEP + STEP // 2)) == []
    assert found("R30", warming_up(3 * STEP, last=3)) == []


# R34: in each step ranks exchange an object, which takes two collectives of 1 ms that nothing runs beside.


def transfer(trace: Planted, name: str, begin: int, elements: int, kind: str) -> Planted:
    """A call of gloo and its transfer of 1 ms, for which the main thread stands still."""
    call = {"all_gather": "allgather_", "broadcast": "broadcast_"}.get(name, f"{name}_")
    trace.event(f"c10d::{call}", begin * US, (begin + 10) * US, Input_Dims=[[elements]])
    told = {"Input_Dims": [[elements]], "Input_type": [kind]}
    trace.event(f"gloo:{name}", (begin + 20) * US, (begin + 1_020) * US, tid=COMM, **told)
    return trace


def exchanged(names: Sequence[str], types: Sequence[str] = ("long int", "unsigned char")) -> Plant:
    def plant(trace: Planted, begin: int) -> object:
        trace.cpu(begin, begin + 5_000, "aten::mm")
        transfer(trace, names[0], begin + 5_000, 1, types[0]).cpu(begin + 6_030, begin + 6_040, "aten::item")
        transfer(trace, names[1], begin + 6_040, 41, types[1])
        return trace.cpu(begin + 7_070, begin + 10_000, "aten::mm")

    return plant


@pytest.mark.parametrize(
    ("names", "called"),
    [(("all_gather", "all_gather"), "all_gather_object"), (("all_gather", "gather"), "gather_object"),
     (("broadcast", "broadcast"), "broadcast_object_list"), (("broadcast", "scatter"), "scatter_object_list")],
)  # fmt: skip
def test_objects_that_ranks_exchange(names: Sequence[str], called: str, found: Found) -> None:
    (finding,) = found("R34", planted(exchanged(names)))
    assert finding["title"] == f"Ranks meet in torch.distributed.{called} once a step"
    assert finding["cost_ns_per_step"] == pytest.approx(2 * MS, rel=0.03)
    assert "all_reduce" in finding["knob"]


def met(trace: Planted, begin: int) -> object:
    """A barrier of 2 ms on CPUs."""
    trace.cpu(begin, begin + 5_000, "aten::mm").cpu(begin + 5_000, begin + 5_010, "c10d::barrier")
    trace.event("gloo:barrier", (begin + 5_020) * US, (begin + 7_020) * US, tid=COMM)
    return trace.cpu(begin + 7_030, begin + 10_000, "aten::mm")


def met_on_gpus(trace: Planted, begin: int) -> object:
    """With NCCL a barrier is an all-reduce of one number, for which the host waits."""
    trace.run(begin + 20, begin + 4_000, launch=begin + 10).cpu(begin + 30, begin + 6_020, "c10d::barrier")
    call = ("cudaLaunchKernel", begin + 40, begin + 44)
    trace.running("ncclDevKernel_AllReduce_Sum_f32_RING_LL", begin + 4_010, begin + 6_000, call=call, stream=20)
    trace.api("cudaStreamSynchronize", begin + 50, begin + 6_010).cpu(begin + 6_030, begin + 6_500)
    return trace.run(begin + 6_510, begin + 9_990, launch=begin + 6_500).cpu(begin + 6_510, begin + 9_000)


@pytest.mark.parametrize(("plant", "cost_us"), [(met, 2_000), (met_on_gpus, 1_990 + 540)])
def test_a_barrier_in_the_loop(plant: Plant, cost_us: int, found: Found) -> None:
    (finding,) = found("R34", planted(plant))
    assert finding["title"] == "Ranks meet in torch.distributed.barrier once a step"
    assert finding["cost_ns_per_step"] == pytest.approx(cost_us * US, rel=0.03)
    assert "barrier()" in finding["knob"]
    assert finding["evidence"][1]["step"] in range(7, 7 + STEPS)
    assert found("R29", planted(plant)) == []


def object_on_gpus(trace: Planted, begin: int, groups: Sequence[str] = ("0", "0")) -> object:
    """The lengths, which the host reads; the bytes, which it unpickles."""
    trace.run(begin + 20, begin + 4_000, launch=begin + 10)
    for at, kind, group in ((4_010, "Long", groups[0]), (5_040, "Byte", groups[1])):
        told = {"Collective_name": "all_gather", "dtype": kind, "In_msg_nelems": 1, "Out_msg_nelems": 2}
        told |= {"Process_Group_Name": group, "Group_size": 2, "Process_Group_Ranks": "[0, 1]"}
        trace.api("cudaLaunchKernel", begin + at - 15, begin + at - 11, len(trace.events))
        span = (begin + at) * US, (begin + at + 1_000) * US
        trace.kernel("ncclDevKernel_AllGather", *span, stream=20, correlation=len(trace.events) - 1, **told)
        trace.api("cudaStreamSynchronize", begin + at, begin + at + 1_003)
    trace.cpu(begin + 6_050, begin + 6_500)
    return trace.run(begin + 6_510, begin + 9_990, launch=begin + 6_500).cpu(begin + 6_510, begin + 9_000)


def test_objects_on_gpus_cost_what_the_gpu_waits_for_them(found: Found) -> None:
    (finding,) = found("R34", planted(object_on_gpus))
    assert finding["title"] == "Ranks meet in torch.distributed.all_gather_object once a step"
    assert finding["cost_ns_per_step"] == pytest.approx(2_000 * US, rel=0.05)  # the host is as late then
    assert found("R29", planted(object_on_gpus)) == []


def test_lengths_and_bytes_in_two_groups_are_no_object(found: Found) -> None:
    assert found("R34", planted(lambda trace, begin: object_on_gpus(trace, begin, ("0", "1")))) == []


def at_a_checkpoint(trace: Planted, begin: int) -> object:
    return met(trace, begin) if begin == 0 else trace.cpu(begin, begin + 9_990, "aten::mm")


def under_an_operator(trace: Planted, begin: int) -> object:
    trace.cpu(begin + 30, begin + 10_000, "aten::mm").cpu(begin, begin + 10, "c10d::barrier")
    return trace.event("gloo:barrier", (begin + 20) * US, (begin + 7_020) * US, tid=COMM)


@pytest.mark.parametrize(
    "plant",
    [exchanged(("all_gather", "all_gather"), ("float", "unsigned char")),
     exchanged(("all_gather", "all_gather"), ("unsigned char", "unsigned char")),
     exchanged(("all_gather", "all_gather"), ("long int", "float")),
     exchanged(("all_gather", "broadcast")), at_a_checkpoint, under_an_operator],
    ids=["a sharded unit in bytes", "bytes", "counts and tokens", "two that are not one", "checkpoint", "hidden"],
)  # fmt: skip
def test_exchanges_that_are_none_or_cost_nothing(plant: Plant, found: Found) -> None:
    assert found("R34", planted(plant)) == []
