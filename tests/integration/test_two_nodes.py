"""Two nodes behind shaped links, recorded by one `shardprof record` on each: the links' own counters are the truth."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.integration

TOOL = Path(os.environ.get("SHARDPROF_TOOLS", Path(__file__).parents[3] / "shared" / "tools")) / "two_hosts.sh"
CAPTURED_STEPS = 4
TOLERANCE = 0.05
PREFIX = {"TWO_HOSTS_PREFIX": f"t{os.getpid() % 10000}"}


def two_hosts(*words: str) -> list[str]:
    return ["bash", str(TOOL), *words]


@pytest.fixture
def shaped_links(request: pytest.FixtureRequest) -> Iterator[None]:
    """As many hosts as the test asks for (two), each with a link of 200 Mbit/s."""
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("network namespaces need root and iproute2")
    if not TOOL.exists():
        pytest.skip(f"{TOOL} is not there (SHARDPROF_TOOLS names its folder)")
    environment = {**os.environ, **PREFIX}
    hosts = str(getattr(request, "param", 2))
    subprocess.run(two_hosts("up", "--hosts", hosts, "--rate", "200mbit"), env=environment, check=True, timeout=60)
    yield
    subprocess.run(two_hosts("down"), env=environment, check=True, timeout=60)


def training(rank: int) -> list[str]:
    return [
        "torchrun", "--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1", "--master-addr", "10.77.0.1",
        "--master-port", "29400", "-m", "shardprof.study.workloads.vit", "--data", "digits", "--strategy", "fsdp2-full",
        "--steps", str(CAPTURED_STEPS + 3), "--width", "256", "--batch-size", "8", "--threads", "1",
    ]  # fmt: skip


@pytest.mark.usefixtures("shaped_links")
def test_two_nodes_join_one_run_and_their_links_carried_the_reported_bytes(
    tmp_path: Path, report_of: Any, record_command: Any, job_environment: Any
) -> None:
    steps = ("--steps", f"2:{2 + CAPTURED_STEPS}")
    commands = [record_command(*training(rank), out=tmp_path / "run", options=steps) for rank in range(2)]
    nodes = [
        subprocess.Popen(two_hosts("exec", str(rank), *command), env=job_environment(PREFIX), stderr=subprocess.PIPE)
        for rank, command in enumerate(commands)
    ]
    for process in nodes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()

    result = report_of(tmp_path / "run")

    assert [len(rank["steps"]) for rank in result["ranks"]] == [CAPTURED_STEPS, CAPTURED_STEPS]
    hosts = result["source"]["hosts"]
    assert sorted(rank for host in hosts for rank in host["ranks"]) == [0, 1]
    assert len({host["name"] for host in hosts}) == 2
    assert {row["kind"] for row in result["collectives"]} == {"all_gather", "reduce_scatter"}
    wire_bytes = sum(row["wire_bytes"] for row in result["collectives"])
    for host in hosts:
        assert host["link_tx_bytes"]["eth0"] == pytest.approx(wire_bytes, rel=TOLERANCE)
        assert host["link_rx_bytes"]["eth0"] == pytest.approx(wire_bytes, rel=TOLERANCE)


ALL_REDUCING = """
import torch, time, torch.distributed as dist
dist.init_process_group("gloo"); torch.set_num_threads(1)
model = torch.nn.Sequential(*[torch.nn.Linear(256, 256) for _ in range(6)])
model = torch.nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(14):
    model(torch.randn(8, 256)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
dist.barrier(); time.sleep(0.3)
dist.destroy_process_group()
"""
SLOW_NODE = 1


@pytest.mark.parametrize("shaped_links", [3], indirect=True)
@pytest.mark.usefixtures("shaped_links")
def test_a_node_with_a_slow_link_is_named(
    tmp_path: Path, report_of: Any, record_command: Any, job_environment: Any
) -> None:
    slower = [
        "tc",
        "qdisc",
        "replace",
        "dev",
        "eth0",
        "root",
        "tbf",
        "rate",
        "40mbit",
        "burst",
        "64kb",
        "latency",
        "50ms",
    ]
    host = f"{PREFIX['TWO_HOSTS_PREFIX']}h{SLOW_NODE}"
    subprocess.run(["ip", "netns", "exec", host, *slower], check=True, timeout=60)
    (tmp_path / "train.py").write_text(ALL_REDUCING)
    nodes = []
    for node in range(3):
        address = ("--master-addr", "10.77.0.1", "--master-port", "29400")
        job = ("torchrun", "--nnodes", "3", "--node-rank", str(node), "--nproc-per-node", "1", *address, "train.py")
        command = two_hosts("exec", str(node), *record_command(*job, out=tmp_path / "run", options=("--steps", "4:10")))
        environment = job_environment(PREFIX)
        nodes.append(subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE))
    for process in nodes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()

    result = report_of(tmp_path / "run")

    first = result["stragglers"][0]
    assert (first["rank"], first["cause"]) == (SLOW_NODE, "link"), "torchrun numbers ranks as it was told to"
    assert [clock["offset_ns"] for clock in result["clock"]] == [0, 0, 0], "containers of one machine share its clock"
