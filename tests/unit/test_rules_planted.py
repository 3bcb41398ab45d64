"""Rules whose symptom is planted in what a host and its GPU do, in several ranks, or in recorded settings.

Each has look-alikes: runs that show something close to it. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shardprof.analysis.result import Finding
from shardprof.trace.schema import CounterRecord, HostRecord, RunFolder, to_json, write_whole
from tests.conftest import BASE_NS, MAIN, WORKER, Trace, distributed_info
from tests.unit.planted_runs import COMPUTE, COPY_BACK, FSDP2, MB, US, Gpu, Plan, findings, on_gpu

STEPS, STEP = 5, 10_000
DDP: dict[str, Any] = {"strategy": "DDP"}


class Loop(Gpu):
    """A training loop whose host goes on while the GPU works, and is as far ahead of it as its own work lets it be."""

    def kernels(self, count: int, us: int, host_us: int) -> None:
        """Kernels, each launched after as much work of the host."""
        for _ in range(count):
            self.trace.event("aten::linear", self.now * US, (self.now + host_us) * US)
            self.now += host_us - 3
            self.launch("gemm", us)

    def load(self, us: int) -> None:
        """The DataLoader on the main thread."""
        self.trace.next_batch(self.now * US, (self.now + us) * US)
        self.now += us

    def python(self, us: int) -> None:
        """What no event tells of."""
        self.now += us

    def item(self) -> None:
        """`loss.item()`."""
        begin = self.now
        done = max(*self.free.values(), self.now) + 10
        self.launched += 1
        for name in ("aten::item", "aten::_local_scalar_dense"):
            self.trace.event(name, begin * US, (done + 8) * US)
        call = {"cat": "cuda_runtime", "correlation": self.launched}
        self.trace.event("cudaMemcpyAsync", (begin + 1) * US, (done + 3) * US, **call)
        copied = {"stream": COMPUTE, "cat": "gpu_memcpy", "correlation": self.launched}
        self.trace.kernel(COPY_BACK.format("Pageable"), (done - 2) * US, done * US, **copied)
        self.trace.event("cudaStreamSynchronize", (done + 4) * US, (done + 6) * US, cat="cuda_runtime")
        self.now = self.free[COMPUTE] = done + 8

    def comes(self) -> int:
        """When the GPU comes to the next collective."""
        return max(self.now + 3, self.free.get(COMPUTE, 0))

    def meet(self, until: int, mb: float) -> None:
        """An all-reduce from now on, for which the next kernels wait."""
        came = self.comes()
        self.free[COMPUTE] = self.communicate("all_reduce", until - came, mb, after=came)


def loop(step: Callable[[Loop], object], rank: int = 0, ranks: Sequence[int] = (0,), steps: int = STEPS) -> Trace:
    """Steps that begin when the host is done with the one before."""
    made = Loop(rank, ranks)
    made.python(10)
    for number in range(steps):
        begin = made.now
        step(made)
        made.trace.step(number, begin * US, made.now * US)
    return made.trace


def job(
    step: Callable[[Loop, int], object],
    ranks: int = 4,
    *,
    after: Callable[[Loop], object] | None = None,
    meetings: int = 1,
    us: int = 200,
    mb: float = 4,
) -> list[Trace]:
    """The same with an all-reduce at the end of each step, or of each part, `us` from when the last rank has come."""
    made = [Loop(rank, range(ranks)) for rank in range(ranks)]
    for one in made:
        one.python(10)
    for number in range(STEPS):
        begins = [one.now for one in made]
        for _ in range(meetings):
            for rank, one in enumerate(made):
                step(one, rank)
            until = max(one.comes() for one in made) + us
            for one in made:
                one.meet(until, mb)
        for one, begin in zip(made, begins, strict=True):
            if after:
                after(one)
            one.trace.step(number, begin * US, one.now * US)
    return [one.trace for one in made]


# R13: 100 kernels a step of 20 us that take the host 40 us each: the GPU idles half of the time.


def small_kernels(made: Loop) -> None:
    made.kernels(100, 20, 40)


def test_a_gpu_that_waits_for_each_launch(tmp_path: Path) -> None:
    found = findings(tmp_path, [loop(small_kernels)], "DDP", DDP)
    assert list(found) == ["R13"]
    assert found["R13"].cost_ns_per_step == pytest.approx(100 * 20 * US, rel=0.05)
    _, longest = found["R13"].evidence
    assert longest.step in range(STEPS)
    assert (longest.end_ns or 0) - (longest.begin_ns or 0) == pytest.approx(20 * US, rel=0.2)


def test_a_loss_that_is_read_where_the_host_is_late_anyway(tmp_path: Path) -> None:
    found = findings(tmp_path, [loop(lambda made: (small_kernels(made), made.item()))], "DDP", DDP)
    assert found["R13"].cost_ns_per_step == pytest.approx(100 * 20 * US, rel=0.05)


def ahead(made: Loop) -> None:
    """The host is always ahead: kernels are long."""
    made.kernels(100, 40, 20)


def synchronized(made: Loop) -> None:
    """It would be ahead, but waits at each step's end, and then has to do something else before it launches."""
    made.kernels(100, 40, 20)
    made.item()
    made.python(1500)


def starved(made: Loop) -> None:
    """Long kernels that the host waits for, and then short ones: waiting took its lead."""
    made.kernels(100, 20, 40)
    made.kernels(60, 100, 10)
    made.item()


def loading(made: Loop) -> None:
    made.load(4000)
    made.kernels(100, 20, 15)


def loading_took_the_lead(made: Loop) -> None:
    """The host loads while the GPU works, and is late for the short kernels at the step's begin."""
    made.load(4000)
    made.kernels(100, 20, 40)
    made.kernels(50, 100, 10)


def a_barrier_of_gloo(made: Loop) -> None:
    """The host meets the others before it launches what follows."""
    begin = made.now
    made.python(4000)
    made.trace.event("c10d::monitored_barrier_", begin * US, made.now * US)
    made.kernels(100, 20, 15)


def allocating(made: Loop) -> None:
    """The host is ahead but for the memory that it asks the GPU for."""
    begin = made.now
    made.python(4000)
    made.trace.event("cudaMalloc", begin * US, made.now * US, cat="cuda_runtime")
    made.kernels(100, 20, 15)


def compiling(made: Loop) -> None:
    begin = made.now
    made.python(4000)
    made.trace.event("_compile.compile_inner (dynamo_timed)", begin * US, made.now * US)
    made.kernels(100, 20, 15)


def test_a_barrier_that_holds_the_host_costs_what_the_gpu_then_lacks(tmp_path: Path) -> None:
    """The host launches for 1500 us while the GPU works 2000 us, and waits 4000 us."""
    found = findings(tmp_path, [loop(a_barrier_of_gloo)], "DDP", DDP)
    assert found["R34"].title == "Ranks meet in torch.distributed.barrier once a step"
    assert found["R34"].cost_ns_per_step == pytest.approx(3500 * US, rel=0.05)
    _, longest = found["R34"].evidence
    assert (longest.end_ns or 0) - (longest.begin_ns or 0) == 4000 * US


def a_barrier_beside_the_gpu(made: Loop) -> None:
    begin = made.now
    made.python(1000)
    made.trace.event("c10d::monitored_barrier_", begin * US, made.now * US)
    made.kernels(100, 60, 20)


def test_a_barrier_that_the_gpu_hides(tmp_path: Path) -> None:
    assert findings(tmp_path, [loop(a_barrier_beside_the_gpu)], "DDP", DDP) == {}


def first_of_all(made: Loop) -> None:
    """The trace's first step begins with what CUDA does once."""
    made.python(0 if made.launched else 8000)
    made.kernels(100, 40, 20)


@pytest.mark.parametrize(
    ("step", "instead"),
    [
        (ahead, ()),
        (synchronized, ("R29",)),
        (starved, ("R29",)),
        (loading, ("R14",)),
        (loading_took_the_lead, ("R14",)),
        (a_barrier_of_gloo, ("R34",)),
        (allocating, ("R10",)),
        (compiling, ("R30",)),
        (first_of_all, ("R30",)),
    ],
)
def test_idleness_that_is_not_for_launching(
    tmp_path: Path, step: Callable[[Loop], object], instead: tuple[str, ...]
) -> None:
    found = findings(tmp_path, [loop(step)], "DDP", DDP)
    assert tuple(found) == instead


# R16 to R19: rank 1 keeps three others waiting.


def pauses(made: Loop, rank: int) -> None:
    made.python(3000 if rank == 1 else 0)
    made.kernels(100, 30, 20)


def launches_slowly(made: Loop, rank: int) -> None:
    made.kernels(100, 30, 60 if rank == 1 else 20)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("step", [pauses, launches_slowly])
def test_a_rank_whose_host_is_late(tmp_path: Path, step: Callable[[Loop, int], object], ranks: int) -> None:
    found = findings(tmp_path, job(step, ranks, after=Loop.item), "DDP", DDP)
    assert found["R17"].cost_ns_per_step == pytest.approx(3000 * US, rel=0.05)
    assert found["R17"].title.startswith("Rank 1 ")
    assert "R13" not in found


def test_a_rank_whose_host_is_late_while_the_others_run_ahead(tmp_path: Path) -> None:
    found = findings(tmp_path, job(launches_slowly), "DDP", DDP)
    assert found["R17"].cost_ns_per_step == pytest.approx(3000 * US, rel=0.1)
    assert "R13" not in found


def computes_slowly(made: Loop, rank: int) -> None:
    made.kernels(50, 100 if rank == 1 else 60, 20)


def has_more_to_compute(made: Loop, rank: int) -> None:
    made.kernels(100 if rank == 1 else 60, 50, 20)


@pytest.mark.parametrize("after", [None, Loop.item])
@pytest.mark.parametrize(
    ("step", "rule", "title"),
    [(computes_slowly, "R16", "Rank 1 is slower at the same work"),
     (has_more_to_compute, "R16", "Rank 1 has more work than the others")],
)  # fmt: skip
def test_a_rank_that_computes_for_longer(
    tmp_path: Path, step: Callable[[Loop, int], object], rule: str, title: str, after: Callable[[Loop], object] | None
) -> None:
    found = findings(tmp_path, job(step, after=after), "DDP", DDP)
    assert list(found) == [rule]
    assert found[rule].title.startswith(title)
    assert found[rule].cost_ns_per_step == pytest.approx(2000 * US, rel=0.05)


def loads_slowly(made: Loop, rank: int) -> None:
    made.load(3000 if rank == 1 else 20)
    made.kernels(100, 30, 20)


def test_a_rank_that_waits_for_its_data(tmp_path: Path) -> None:
    found = findings(tmp_path, job(loads_slowly, after=Loop.item), "DDP", DDP)
    assert found["R18"].cost_ns_per_step == pytest.approx(3000 * US, rel=0.05)
    assert "R13" not in found


def loads_ahead(made: Loop, rank: int) -> None:
    """It loads for longer than the others while its GPU still works."""
    made.kernels(100, 60, 20)
    made.load(3000 if rank == 1 else 20)


def takes_turns(made: Loop, rank: int) -> None:
    """Another rank is late in each step."""
    turn = made.launched // 101 % 4
    made.python(3000 if rank == turn else 0)
    made.kernels(100, 30, 20)


def all_pause(made: Loop, rank: int) -> None:
    made.python(3000)
    made.kernels(100, 30, 20)


@pytest.mark.parametrize("step", [loads_ahead, takes_turns, all_pause])
def test_ranks_that_keep_nobody_waiting(tmp_path: Path, step: Callable[[Loop, int], object]) -> None:
    found = findings(tmp_path, job(step), "DDP", DDP)
    assert not {"R16", "R17", "R18", "R19"} & set(found)


def with_gloo(late: str) -> list[Trace]:
    """Four ranks on CPUs that compute 2000 us and all-reduce; before that rank 1 does something for 1500 us more."""
    traces = []
    for rank in range(4):
        trace = Trace(distributed_info(rank, [0, 1, 2, 3]))
        for number in range(STEPS):
            at = begin = number * STEP
            trace.next_batch(at * US, (at + 10) * US)
            at += 20
            if rank == 1 and late == "loads":
                trace.next_batch(at * US, (at + 1500) * US)
            if rank == 1 and late in ("loads", "pauses"):
                at += 1500
            times = 1.75 if rank == 1 and late == "computes" else 1
            each = round(500 * times)
            for _ in range(4):
                trace.event("aten::addmm", at * US, (at + each) * US)
                at += each
            until = begin + 20 + 2000 + 1500 + 500
            trace.call("allreduce_", at * US, [MB])
            trace.transfer("all_reduce", (at + 5) * US, until * US, MB)
            trace.event("aten::mul_", until * US, (until + 100) * US)
            trace.step(number, begin * US, (until + 110) * US)
        traces.append(trace)
    return traces


@pytest.mark.parametrize(("late", "rule"), [("pauses", "R17"), ("loads", "R18"), ("computes", "R16")])
def test_a_rank_that_is_late_on_a_cpu(tmp_path: Path, late: str, rule: str) -> None:
    found = findings(tmp_path / "late", with_gloo(late), "DDP", DDP, device="cpu")
    assert found[rule].cost_ns_per_step == pytest.approx(1500 * US, rel=0.05)
    assert len({"R16", "R17", "R18", "R19"} & set(found)) == 1
    assert findings(tmp_path / "alike", with_gloo("nothing"), "DDP", DDP, device="cpu") == {}


def sends(root: Path, mb_s: Sequence[float], busy: float = 0.4) -> list[str]:
    """Nodes of one rank each that send at this rate for that share of the time; returns their names."""
    names = [f"node-{rank}" for rank in range(len(mb_s))]
    for rank, name in enumerate(names):
        folder = RunFolder(root).host(name)
        folder.mkdir(parents=True)
        record = HostRecord(name=name, identity=name, launcher_pid=1, cpu_count=2, memory_bytes=1)
        write_whole(folder / "host.json", record)
        samples = []
        for time_us in range(-1000, STEPS * STEP, 500):
            busy_s = busy * (time_us + 1000) / 1e6
            told = {"tcp_busy_s": busy_s, "tcp_sent_bytes": mb_s[rank] * MB * busy_s}
            time_ns = BASE_NS + time_us * US
            samples.append(to_json(CounterRecord(time_ns=time_ns, source="tcp", values={f"rank {rank}": told})))
        (folder / "counters.jsonl").write_text("".join(sample + "\n" for sample in samples))
    return names


@pytest.mark.parametrize("after", [None, Loop.item])
def test_a_rank_with_a_slow_link(tmp_path: Path, after: Callable[[Loop], object] | None) -> None:
    def step(made: Loop, _: int) -> None:
        made.kernels(100, 30, 20)

    def slow(name: str, mb_s: Sequence[float], busy: float = 0.4) -> Finding | None:
        hosts = sends(tmp_path / name, mb_s, busy)
        return findings(tmp_path / name, job(step, after=after), "DDP", DDP, hosts).get("R19")

    found = slow("slow", [100, 25, 100, 90])
    assert found is not None
    step_us = 3200 if after else 2020
    assert found.cost_ns_per_step == pytest.approx(0.4 * 0.75 * step_us * US, rel=0.05)
    assert found.title == "Rank 1 has a slow link, and the others wait for it"
    assert slow("alike", [100, 70, 100, 90]) is None
    assert slow("hardly sends", [100, 25, 100, 90], busy=0.05) is None


# R14: data that the host, or one of them, waits for.


def loaded_on_cpu(load: int, *, worker: bool = False) -> Trace:
    """Steps of a CPU that compute 4000 us."""
    trace = Trace()
    for number in range(STEPS):
        begin = number * STEP
        trace.next_batch((begin + 10) * US, (begin + 10 + load) * US, tid=WORKER if worker else MAIN)
        computing = begin + 20 + (0 if worker else load)
        for i in range(8):
            trace.event("aten::addmm", (computing + i * 500) * US, (computing + i * 500 + 500) * US)
        trace.step(number, begin * US, (computing + 4010) * US)
    return trace


def test_a_cpu_that_waits_for_data(tmp_path: Path) -> None:
    found = findings(tmp_path / "loads", [loaded_on_cpu(1000)], "DDP", DDP, device="cpu")
    assert list(found) == ["R14"]
    assert found["R14"].cost_ns_per_step == pytest.approx(1000 * US, rel=0.02)
    assert findings(tmp_path / "little", [loaded_on_cpu(150)], "DDP", DDP, device="cpu") == {}
    assert findings(tmp_path / "a worker", [loaded_on_cpu(1000, worker=True)], "DDP", DDP, device="cpu") == {}


def test_data_costs_a_host_what_it_is_later_than_its_gpu(tmp_path: Path) -> None:
    """Loading takes 4000 us and launching 1500 us, while the GPU works 2000 us."""
    found = findings(tmp_path / "alone", [loop(loading)], "DDP", DDP)
    assert found["R14"].cost_ns_per_step == pytest.approx(3500 * US, rel=0.05)
    found = findings(tmp_path / "hidden", [loop(loading_took_the_lead)], "DDP", DDP)
    assert found["R14"].cost_ns_per_step == pytest.approx(1500 * US, rel=0.05)


def all_but_one_load_slowly(made: Loop, rank: int) -> None:
    """So that none of them is a straggler."""
    made.load(3000 if rank else 20)
    made.kernels(100, 30, 20)


def test_data_that_only_some_ranks_wait_for(tmp_path: Path) -> None:
    """The others wait for them: their steps are as long."""
    found = findings(tmp_path, job(all_but_one_load_slowly, after=Loop.item), "DDP", DDP)
    step_us = 3000 + 100 * 30 + 200
    share = round(100 * 3000 / step_us)
    assert any(found["R14"].title == f"Steps wait for data on ranks 1-3, {near} % of their time"
               for near in range(share - 1, share + 2)), found["R14"].title  # fmt: skip
    assert found["R14"].cost_ns_per_step == pytest.approx(3000 * US, rel=0.02)
    whole, longest = found["R14"].evidence
    assert "for 3 ms of a step" in whole.message
    assert longest.rank in (1, 2, 3)


def test_data_that_one_rank_waits_for_is_found_once(tmp_path: Path) -> None:
    found = findings(tmp_path, job(loads_slowly, after=Loop.item), "DDP", DDP)
    assert "R18" in found
    assert "R14" not in found


def loading_beside_the_gpu(made: Loop) -> None:
    made.load(2000)
    made.kernels(100, 60, 30)


def loading_instead_of_waiting(made: Loop) -> None:
    """The host would wait for the GPU at the step's end if it did not load meanwhile."""
    made.kernels(100, 60, 20)
    made.load(2000)
    made.item()
    made.python(800)


@pytest.mark.parametrize("step", [loading_beside_the_gpu, loading_instead_of_waiting])
def test_loading_that_the_gpu_hides(tmp_path: Path, step: Callable[[Loop], object]) -> None:
    found = findings(tmp_path, [loop(step)], "DDP", DDP)
    assert not {"R13", "R14"} & set(found)


# R05, R04, R28, R21: gradients that are communicated after backward, by more than is needed, too often.

BUCKETS: dict[str, Any] = {
    "strategy": "ZeRO-2", "zero_stage": 2, "mesh": [2], "precision": "fp32", "reduce_dtype": "fp32",
    "parameters": 20 * MB, "parameter_bytes": 80 * MB, "gradient_bytes": 80 * MB, "gather_bytes": 80 * MB,
    "reduce_bytes": 80 * MB, "gradient_accumulation_steps": 1, "reduce_scatter": True, "contiguous_gradients": True,
    "use_multi_rank_bucket_allreduce": True, "overlap_comm": True, "reduce_bucket_elements": 24 * MB,
    "elements_by_dtype": {"fp32": 20 * MB}, "optimizer_bytes_per_element": 8, "master_weights": False,
}  # fmt: skip
AFTER = Plan(gather=0, gathers_again=False, reduce=600, reduce_kind="all_reduce", after_step=100)


def test_gradients_that_wait_for_a_bucket_that_never_fills(tmp_path: Path) -> None:
    found = findings(tmp_path, [on_gpu(AFTER)], "DeepSpeed", BUCKETS)
    assert list(found) == ["R05", "R04"]
    assert found["R05"].cost_ns_per_step == pytest.approx(600 * US, rel=0.05)
    assert '"reduce_bucket_size": 2000000' in found["R05"].knob
    assert found["R04"].title == "ZeRO-2 moves 1.50x the bytes that it needs"
    assert found["R04"].cost_ns_per_step == pytest.approx(300 * US, rel=0.05)


def test_no_more_is_hidden_than_backward_computes(tmp_path: Path) -> None:
    found = findings(tmp_path, [on_gpu(replace(AFTER, reduce=3000))], "DeepSpeed", BUCKETS)
    assert found["R05"].cost_ns_per_step == pytest.approx(1600 * US, rel=0.05)


def test_a_host_that_is_ahead_and_one_that_is_late(tmp_path: Path) -> None:
    """Steps of 200 kernels of 20 us, then of an all-reduce of 1000 us. A host that needs 8 us a kernel is ahead of the
    GPU; one that needs 30 us has not launched what comes next when the gradients are there."""

    def after_backward(made: Loop, host_us: int) -> None:
        made.operators()
        made.kernels(100, 20, host_us)
        backward = made.now
        for _ in range(100):
            made.python(host_us - 3)
            made.launch("gemm", 20)
        reduced = made.communicate("all_reduce", 1000, 80, after=made.free[COMPUTE])
        made.backward(backward)
        made.free[COMPUTE] = made.launch("adam", 100, after=reduced)

    ahead = findings(tmp_path / "ahead", [loop(lambda made: after_backward(made, 8))], "DeepSpeed", BUCKETS)
    assert list(ahead) == ["R05"]
    assert ahead["R05"].cost_ns_per_step == pytest.approx(1000 * US, rel=0.05)
    late = findings(tmp_path / "late", [loop(lambda made: after_backward(made, 30))], "DeepSpeed", BUCKETS)
    assert list(late) == ["R13"]
    idle_us = 200 * 10 - 1100 * (STEPS - 1) / STEPS  # under all all-reduces but the last the host launches
    assert late["R13"].cost_ns_per_step == pytest.approx(idle_us * US, rel=0.05)


def test_a_bucket_is_large_for_the_gradients_that_there_are(tmp_path: Path) -> None:
    """Of an adapter's 2 million."""
    adapter = {**BUCKETS, "gradient_bytes": 8 * MB, "reduce_bytes": 8 * MB, "reduce_bucket_elements": 4 * MB}
    found = findings(tmp_path, [on_gpu(AFTER)], "DeepSpeed", adapter)
    assert '"reduce_bucket_size": 200000' in found["R05"].knob


def in_backward(reductions: int, us: int, mb: float, *, kind: str = "all_reduce", compute: int = 400) -> Trace:
    """Steps with a reduction after each part of backward, while the next one computes."""
    made = Gpu()
    for number in range(3):
        begin = made.now
        made.operators()
        made.compute(1600)
        backward, computed = made.now, made.free[COMPUTE]
        for _ in range(reductions):
            computed = made.compute(compute, after=computed)
            made.communicate(kind, us, mb, after=computed)
        made.backward(backward)
        optimizer = made.now
        adam = made.launch("adam", 100, after=max(made.free.values()))
        made.communicate("all_gather", 50, 80, after=adam)
        made.optimizer(optimizer)
        made.end_step(number, begin)
    return made.trace


def test_gradients_that_backward_hides(tmp_path: Path) -> None:
    small = {**BUCKETS, "reduce_bucket_elements": 2 * MB}
    assert findings(tmp_path / "small", [in_backward(10, 100, 8)], "DeepSpeed", small) == {}
    found = findings(tmp_path / "late", [on_gpu(AFTER)], "DeepSpeed", small)
    assert list(found) == ["R04"], "another reason than the bucket"
    quick = replace(AFTER, reduce=50)
    assert findings(tmp_path / "quick", [on_gpu(quick)], "DeepSpeed", BUCKETS) == {}
    assert findings(tmp_path / "DDP", [on_gpu(AFTER)], "DDP", DDP) == {}


def test_gradients_that_are_reduced_to_their_owners(tmp_path: Path) -> None:
    owners = {**BUCKETS, "use_multi_rank_bucket_allreduce": False}
    assert list(findings(tmp_path / "owners", [on_gpu(AFTER)], "DeepSpeed", owners)) == ["R05"]
    found = findings(tmp_path / "whole", [on_gpu(AFTER)], "DeepSpeed", {**owners, "reduce_scatter": False})
    assert '"reduce_scatter": true, "use_multi_rank_bucket_allreduce": false' in found["R04"].knob


def waiting_job(plan: Plan, reduce_us: int, late_us: int) -> list[Trace]:
    """Rank 1 computes for longer before the gradients are reduced, and rank 0 waits for it."""
    usual = replace(plan, reduce=reduce_us + late_us)
    late = replace(plan, reduce=reduce_us, compute=plan.compute + late_us // (2 * plan.units))
    return [on_gpu(usual), on_gpu(late, rank=1)]


def test_what_waits_for_a_late_rank_would_not_be_won(tmp_path: Path) -> None:
    found = findings(tmp_path, waiting_job(AFTER, 20, 800), "DeepSpeed", BUCKETS)
    assert not {"R04", "R05"} & set(found)


HALF = {**FSDP2, "precision": "bf16", "reduce_dtype": "fp32"}
SCATTER = Plan(gather=0, gathers_again=False, reduce=600)


@pytest.mark.parametrize(
    ("framework", "kind", "knob"),
    [
        ("FSDP2", "reduce_scatter", "reduce_dtype=torch.bfloat16"),
        ("DDP", "all_reduce", "bf16_compress_hook"),
        ("DeepSpeed", "all_reduce", "communication_data_type"),
    ],
)
def test_gradients_in_full_precision(tmp_path: Path, framework: str, kind: str, knob: str) -> None:
    found = findings(tmp_path, [on_gpu(replace(SCATTER, reduce_kind=kind))], framework, HALF)
    assert list(found) == ["R28"]
    assert found["R28"].cost_ns_per_step == pytest.approx(300 * US, rel=0.05)
    assert knob in found["R28"].knob


def test_full_precision_that_costs_nothing(tmp_path: Path) -> None:
    both = {**HALF, "reduce_dtype": "bf16"}
    assert findings(tmp_path / "both", [on_gpu(SCATTER)], "FSDP2", both) == {}
    hidden = in_backward(10, 100, 8, kind="reduce_scatter")
    assert findings(tmp_path / "hidden", [hidden], "FSDP2", HALF) == {}
    waiting = findings(tmp_path / "waiting", waiting_job(SCATTER, 20, 800), "FSDP2", HALF)
    assert "R28" not in waiting
    tiny = in_backward(40, 60, 0.1, kind="reduce_scatter", compute=50)
    assert list(findings(tmp_path / "tiny", [tiny], "FSDP2", HALF)) == ["R06"]


def accumulating(batches: int, reductions: int, us: int = 400) -> Trace:
    """Micro-batches that compute 800 us each, the last of them reduce 80 MB of gradients afterwards."""
    made = Gpu()
    for number in range(3):
        begin = made.now
        for batch in range(batches):
            made.operators()
            computed = made.compute(400, after=max(made.free.values(), default=0))
            backward = made.now
            computed = made.compute(400, after=computed)
            if batch >= batches - reductions:
                made.communicate("all_reduce", us, 80, after=computed)
            made.backward(backward)
        optimizer = made.now
        made.launch("adam", 100, after=max(made.free.values()))
        made.optimizer(optimizer)
        made.end_step(number, begin)
    return made.trace


REPLICAS = {"strategy": "DDP", "mesh": [2], "gradient_bytes": 80 * MB, "reduce_bytes": 80 * MB}


def test_gradients_that_are_reduced_too_often(tmp_path: Path) -> None:
    found = findings(tmp_path / "4", [accumulating(4, 4)], "DDP", REPLICAS)
    assert list(found) == ["R21"]
    assert found["R21"].title == "Gradients are communicated 4 times a step, once would do"
    assert found["R21"].cost_ns_per_step == pytest.approx(1200 * US, rel=0.05)
    assert "no_sync" in found["R21"].knob
    assert findings(tmp_path / "1", [accumulating(4, 1)], "DDP", REPLICAS) == {}
    assert findings(tmp_path / "quick", [accumulating(4, 4, us=5)], "DDP", REPLICAS) == {}


@pytest.mark.parametrize(("stage", "times"), [(1, 0), (2, 1)])
def test_only_stages_that_reduce_each_micro_batch_can_do_so_less_often(tmp_path: Path, stage: int, times: int) -> None:
    settings = {
        **BUCKETS, "zero_stage": stage, "strategy": f"ZeRO-{stage}", "gradient_accumulation_steps": 4,
        "use_multi_rank_bucket_allreduce": False, "reduce_bucket_elements": MB,
    }  # fmt: skip
    found = findings(tmp_path, [accumulating(4, 4)], "DeepSpeed", settings)
    assert list(found).count("R21") == times


# R06: calls of so few bytes that their start takes the time.


def test_tiny_all_gathers(tmp_path: Path) -> None:
    tiny = Plan(units=20, gather=60, compute=50, unit_mb=0.05, late=("forward", "backward"))
    found = findings(tmp_path / "tiny", [on_gpu(tiny), on_gpu(tiny, rank=1)])
    assert list(found) == ["R06"]
    assert found["R06"].cost_ns_per_step == pytest.approx(40 * 60 * US, rel=0.05)
    assert found["R06"].title.startswith("40 all-gathers a step of 50 kB each")
    large = findings(tmp_path / "large", [on_gpu(replace(tiny, unit_mb=2))])
    assert "R06" not in large
    in_time = replace(tiny, gather=20, compute=100, late=())
    assert "R06" not in findings(tmp_path / "in time", [on_gpu(in_time)])


def test_tiny_calls_that_wait_for_a_late_rank(tmp_path: Path) -> None:
    def step(made: Loop, rank: int) -> None:
        made.kernels(10, 60 if rank == 1 else 20, 10)

    found = findings(tmp_path, job(step, meetings=10, us=5, mb=0.05), "FSDP2", FSDP2)
    assert list(found) == ["R16"]


# R12, R27: what a recorded run's settings say of its memory.


def test_a_bucket_larger_than_the_model(tmp_path: Path) -> None:
    large = {**BUCKETS, "reduce_bucket_elements": 500 * MB}
    found = findings(tmp_path, [on_gpu(Plan(gather=0, gathers_again=False))], "DeepSpeed", large)
    assert list(found) == ["R12"]
    assert found["R12"].title == "Buckets take 4.00 GB a rank, all model states 0.20 GB"
    assert found["R12"].cost_ns_per_step is None
    assert '"reduce_bucket_size": 2000000' in found["R12"].knob


@pytest.mark.parametrize(
    ("framework", "settings"),
    [
        ("DeepSpeed", {**BUCKETS, "reduce_bucket_elements": 20 * MB}),
        ("DeepSpeed", {**BUCKETS, "contiguous_gradients": False}),
        ("DeepSpeed", {**BUCKETS, "parameters": MB, "parameter_bytes": 4 * MB, "gradient_bytes": 4 * MB,
                       "elements_by_dtype": {"fp32": MB}, "reduce_bucket_elements": 12 * MB}),
        ("DDP", {**REPLICAS, "parameters": 20 * MB, "parameter_bytes": 80 * MB}),
    ],
    ids=["as large", "none", "of 96 MB", "another framework"],
)  # fmt: skip
def test_buckets_that_take_little(tmp_path: Path, framework: str, settings: dict[str, Any]) -> None:
    assert "R12" not in findings(tmp_path, [on_gpu(Plan(gather=0, gathers_again=False))], framework, settings)


ZERO3 = {
    "strategy": "ZeRO-3", "zero_stage": 3, "mesh": [2], "parameters": 20 * MB,
    "stage3_param_persistence_threshold": 100_000,
}  # fmt: skip


def test_parameters_that_stay_on_every_rank(tmp_path: Path) -> None:
    def kept(elements: float, stage: int = 3) -> list[str]:
        settings = {**ZERO3, "zero_stage": stage, "persistent_parameters": elements}
        found = findings(tmp_path / f"{elements} {stage}", [on_gpu(Plan())], "DeepSpeed", settings)
        return [finding.title for finding in found.values() if finding.rule == "R27"]

    assert kept(5 * MB) == ["ZeRO-3 keeps 25 % of the parameters on every rank"]
    assert kept(0.9 * MB) == []
    assert kept(5 * MB, stage=2) == []
