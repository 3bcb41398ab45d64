"""What can be told only where there is a GPU: `make gpu-check`. Without one it says so and fails.

Records the workload on CUDA, one rank and then two ranks that share one GPU, and holds what shardprof says of them
against torch itself. Of the two ranks a small run is kept in traces/, with its README and its expected report.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "gpu-check"
KEPT = ROOT / "traces" / "fsdp2-vit-2ranks-cuda"
VIT = ("-m", "shardprof.study.workloads.vit", "--data", "digits", "--batch-size", "32", "--steps", "16")
# Two ranks on one GPU: NCCL refuses that on one host, so each says that it is another one, and they talk by sockets.
ONE_GPU = (
    "export NCCL_HOSTID=host$RANK NCCL_IB_DISABLE=1 NCCL_SOCKET_IFNAME=lo LOCAL_RANK=0 LOCAL_WORLD_SIZE=1; "
    f"exec {sys.executable} {' '.join(VIT)} --strategy fsdp2-full"
)

OWN_TABLES = """
import json, sys, torch
from torch.profiler import ProfilerActivity, profile
model = torch.nn.Sequential(*[torch.nn.Linear(512, 512) for _ in range(4)]).cuda()
optimizer = torch.optim.AdamW(model.parameters())
def step():
    model(torch.randn(64, 512, device="cuda")).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
step()
with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
    for _ in range(5):
        step(); profiler.step()
    torch.cuda.synchronize()
profiler.export_chrome_trace(sys.argv[1])
rows = [row for row in profiler.key_averages() if row.device_type == torch.autograd.DeviceType.CUDA]
rows = [row for row in rows if not row.key.startswith("ProfilerStep")]
print(json.dumps({"time_us": sum(row.self_device_time_total for row in rows), "count": sum(row.count for row in rows)}))
"""


def main() -> int:
    if not torch.cuda.is_available():
        print("there is no GPU here: nothing was checked")
        return 1
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    checks: list[Callable[[], None]] = [tables_agree, one_rank, two_ranks, nccl_tells_the_same, nccl_costs]
    failed = 0
    for check in checks:
        try:
            check()
            print(f"ok      {check.__name__.replace('_', ' ')}")
        except (AssertionError, subprocess.CalledProcessError) as error:
            failed += 1
            print(f"FAILED  {check.__name__.replace('_', ' ')}: {error!r}")
            if isinstance(error, subprocess.CalledProcessError):
                print(error.stderr)
    return 1 if failed else 0


def tables_agree() -> None:
    """Every GPU activity of torch.profiler's own table, its time, and the launch that it came from."""
    import shardprof

    trace = WORK / "own.json"
    own = json.loads(run(sys.executable, "-c", OWN_TABLES, str(trace)).splitlines()[-1])
    events = shardprof.load([trace]).events()
    activities = events.filter(events["category"].cast(str).is_in(["kernel", "gpu_memcpy", "gpu_memset"]))
    time_us = (activities["end_rel_ns"] - activities["begin_rel_ns"]).sum() / 1000
    expect("GPU activities", activities.height, own["count"])
    expect("their time in us", round(time_us), round(own["time_us"]), tolerance=0.001)
    launches = set(events.filter(events["category"].cast(str).is_in(["cuda_runtime", "cuda_driver"]))["correlation"])
    without = [c for c in activities["correlation"] if c not in launches]
    expect("activities without a launch", len(without), 0)


def one_rank() -> None:
    """Classes, the GPU's counters, and what the allocator held."""
    folder = WORK / "one"
    run(*record(folder, "--memory"), sys.executable, *VIT, "--strategy", "none")
    (rank,) = report(folder)["ranks"]
    expect("device", rank["device"], "cuda")
    for step in rank["steps"]:
        expect("sum of the partition", sum(step["partition_ns"].values()), step["wall_ns"])
        assert step["partition_ns"]["compute"] > 0, step
    have_gpu_counters(folder, rank)
    last = json.loads((folder / "ranks/00000/steps.jsonl").read_text().splitlines()[-1])
    assert last["cuda_memory"]["peak_allocated_bytes"] >= last["cuda_memory"]["allocated_bytes"] > 0, last
    with (folder / "ranks/00000/memory.pickle").open("rb") as file:
        snapshot = pickle.load(file)  # our own, of a moment ago
    assert snapshot["segments"], "the snapshot is empty"
    assert snapshot["device_traces"], "the snapshot has no history"


def two_ranks() -> None:
    """The collectives of FSDP2, each with its group and size, and the run that is kept."""
    folder = WORK / "two"
    run(*record(folder, "--steps", "7:9"), "torchrun", "--standalone", "--nproc-per-node", "2", "--no-python", "bash",
        "-c", ONE_GPU)  # fmt: skip
    told = report(folder)
    expect("ranks", [rank["rank"] for rank in told["ranks"]], [0, 1])
    expect("kinds", sorted(row["kind"] for row in told["collectives"]), ["all_gather", "reduce_scatter"])
    for row in told["collectives"]:
        assert row["payload_bytes"], row
        expect("group", row["ranks"], [0, 1])
    for rank in told["ranks"]:
        have_gpu_counters(folder, rank)
    keep(folder)


def nccl_tells_the_same() -> None:
    """Each captured collective is found in NCCL's own account too, and lasts as long by both."""
    import shardprof

    run_ = shardprof.load([WORK / "two"])
    setup = json.loads((WORK / "two/ranks/00000/rank.json").read_text())["nccl_setup"]
    expect("why not the plugin", setup["why"], "")
    captured, told = run_.collectives(), run_.nccl()
    expect("collectives that NCCL does not tell of", captured["algorithm"].null_count(), 0)
    expect("events that were lost", run_.result.nccl.lost if run_.result.nccl else None, {})
    for rank in (0, 1):
        kernels = captured.filter(captured["rank"] == rank)
        first, last = kernels["begin_ns"].min(), kernels["end_ns"].max()
        own = told.filter((told["rank"] == rank) & (told["end_ns"] > first) & (told["begin_ns"] < last))
        lasted = (kernels["end_ns"] - kernels["begin_ns"]).median(), (own["end_ns"] - own["begin_ns"]).median()
        print(f"        rank {rank}: {len(kernels)} kernels and {len(own)} operations, {lasted} ns in the median")
        expect("median time of an operation", lasted[1], lasted[0], tolerance=0.05)


def nccl_costs() -> None:
    """What the plugin costs a step: the same training with it and without, by turns."""
    job = ("torchrun", "--standalone", "--nproc-per-node", "2", "--no-python", "bash", "-c", ONE_GPU)
    steps: dict[str, list[float]] = {"plugin": [], "off": []}
    for turn in range(6):
        mode = ("plugin", "off")[turn % 2]
        folder = WORK / f"cost-{turn}"
        run(*record(folder, "--mode", "light", "--nccl", mode), *job)
        lines = [json.loads(line) for line in (folder / "ranks/00000/steps.jsonl").read_text().splitlines()]
        steps[mode] += [(line["end_ns"] - line["begin_ns"]) / 1e6 for line in lines[5:]]
    medians = {mode: statistics.median(times) for mode, times in steps.items()}
    print(f"        median step: {medians['plugin']:.2f} ms with the plugin, {medians['off']:.2f} ms without")


def have_gpu_counters(folder: Path, rank: dict[str, Any]) -> None:
    steps = [step["counters"] for step in rank["steps"]]
    for name in ("gpu_sm_clock_mhz", "gpu_power_w", "gpu_memory_used_bytes"):
        assert all(step.get(name, 0) > 0 for step in steps), (name, steps)
    costs = json.loads((folder / "run.json").read_text())["counter_costs"]
    for cost in costs:
        print(f"        {cost['source']}: {cost['cost_ns'] / max(cost['samples'], 1) / 1000:.0f} us a sample, every "
              f"{cost['interval_ns'] / 1e6:.0f} ms")  # fmt: skip


def keep(folder: Path) -> None:
    """The run as one of traces/, which the golden tests check from then on."""
    shutil.rmtree(KEPT, ignore_errors=True)
    shutil.copytree(folder, KEPT, ignore=shutil.ignore_patterns("bootstrap", ".shardprof-cache", "claim.*"))
    device = torch.cuda.get_device_name()
    (KEPT / "README.md").write_text(
        f"# FSDP2 full shard of a small Vision Transformer, two ranks that share one {device}\n\n"
        "Recorded by `make gpu-check`, which says how: NCCL by sockets, since both ranks are on one GPU. So times of\n"
        "communication are those of two processes that take turns, not those of two GPUs. `expected.json` is\n"
        f"`shardprof report {KEPT.relative_to(ROOT)} --format json`.\n"
    )
    expected = run(sys.executable, "-m", "shardprof", "report", str(KEPT.relative_to(ROOT)), "--format", "json")
    (KEPT / "expected.json").write_text(expected)


def record(folder: Path, *options: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "shardprof", "record", "--out", str(folder), *options, "--")


def report(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(run(sys.executable, "-m", "shardprof", "report", str(folder), "--format", "json"))
    return told


def run(*command: str) -> str:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SHARDPROF_CACHE": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True, timeout=300)
    return done.stdout


def expect(what: str, found: Any, expected: Any, tolerance: float = 0.0) -> None:
    is_close = abs(found - expected) <= tolerance * expected if tolerance else found == expected
    assert is_close, f"{what}: {found}, not {expected}"


if __name__ == "__main__":
    sys.exit(main())
