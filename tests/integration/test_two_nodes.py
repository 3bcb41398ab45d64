"""Two nodes behind shaped links, recorded by one `shardprof record` on each: the links' own counters are the truth."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytestmark = pytest.mark.integration

TOOL = Path(os.environ.get("SHARDPROF_TOOLS", Path(__file__).parents[3] / "shared" / "tools")) / "two_hosts.sh"
CAPTURED_STEPS = 4
TOLERANCE = 0.05
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    "TWO_HOSTS_PREFIX": f"t{os.getpid() % 10000}",
}


def two_hosts(*words: str) -> list[str]:
    return ["bash", str(TOOL), *words]


@pytest.fixture
def shaped_links() -> Iterator[None]:
    if os.geteuid() != 0 or not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("network namespaces need root and iproute2")
    if not TOOL.exists():
        pytest.skip(f"{TOOL} is not there (SHARDPROF_TOOLS names its folder)")
    subprocess.run(two_hosts("up", "--rate", "200mbit"), env=ENVIRONMENT, check=True, timeout=60)
    yield
    subprocess.run(two_hosts("down"), env=ENVIRONMENT, check=True, timeout=60)


def node(rank: int, run: Path) -> subprocess.Popen[bytes]:
    job = [
        "torchrun", "--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1", "--master-addr", "10.77.0.1",
        "--master-port", "29400", "-m", "shardprof.study.workloads.vit", "--data", "digits", "--strategy", "fsdp2-full",
        "--steps", str(CAPTURED_STEPS + 3), "--width", "256", "--batch-size", "8", "--threads", "1",
    ]  # fmt: skip
    record = [
        sys.executable,
        "-m",
        "shardprof",
        "record",
        "--out",
        str(run),
        "--steps",
        f"2:{2 + CAPTURED_STEPS}",
        "--",
    ]
    return subprocess.Popen(two_hosts("exec", str(rank), *record, *job), env=ENVIRONMENT, stderr=subprocess.PIPE)


def reported(run: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "shardprof", "report", str(run), "--format", "json"]
    return json.loads(subprocess.run(command, check=True, timeout=60, capture_output=True).stdout)


@pytest.mark.usefixtures("shaped_links")
def test_two_nodes_join_one_run_and_their_links_carried_the_reported_bytes(tmp_path: Path) -> None:
    nodes = [node(rank, tmp_path / "run") for rank in range(2)]
    for process in nodes:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors.decode()

    result = reported(tmp_path / "run")

    assert [len(rank["steps"]) for rank in result["ranks"]] == [CAPTURED_STEPS, CAPTURED_STEPS]
    hosts = result["source"]["hosts"]
    assert sorted(rank for host in hosts for rank in host["ranks"]) == [0, 1]
    assert len({host["name"] for host in hosts}) == 2
    assert {row["kind"] for row in result["collectives"]} == {"all_gather", "reduce_scatter"}
    wire_bytes = sum(row["wire_bytes"] for row in result["collectives"])
    for host in hosts:
        assert host["link_tx_bytes"]["eth0"] == pytest.approx(wire_bytes, rel=TOLERANCE)
        assert host["link_rx_bytes"]["eth0"] == pytest.approx(wire_bytes, rel=TOLERANCE)
