"""Which rank a process is by its launcher's word, and whether it may take the place of the one that was it before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from shardprof.recording import claim, identity, launched
from shardprof.recording.claim import Claim, RankTakenError
from shardprof.recording.launched import Position
from shardprof.trace.schema import RankRecord

OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
BATCH = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}
GONE = f"{identity.of_node()}/1/0"


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_", "PMI_", "TORCHELASTIC_"))]:
        monkeypatch.delenv(name)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "position"),
    [
        ({}, Position(0, 1, 0)),
        ({"RANK": "2", "WORLD_SIZE": "8", "LOCAL_RANK": "2"}, Position(2, 8, 2)),
        ({"RANK": "2"}, Position(2, 1, 0)),
        (OPEN_MPI, Position(3, 4, 1)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1"}, Position(1, 2, 1)),
        ({**BATCH, "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4"}, Position(3, 4, 1)),
        (BATCH, Position(0, 1, 0)),
        ({**BATCH, "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Position(5, 8, 1)),
        ({**BATCH, "SLURM_STEP_NUM_TASKS": "1", **OPEN_MPI}, Position(3, 4, 1)),
    ],
)
def test_the_launcher_says_the_rank(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], position: Position
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched.position() == position


def taken(*, process: str = GONE, restarts: int = 0, launches: tuple[str, ...] = ()) -> Claim:
    return Claim(host="a", pid=1, process=process, restarts=restarts, launches=launches)


@pytest.mark.parametrize(
    ("earlier", "later", "may"),
    [
        (taken(), taken(), False),
        (taken(restarts=0), taken(restarts=1), True),
        (taken(launches=("agent", "run")), taken(launches=("agent",)), True),
        (taken(launches=("agent", "run")), taken(launches=("other agent", "run")), True),
        (taken(launches=("agent",)), taken(launches=("other agent",)), False),
        (taken(restarts=1, launches=("agent",)), taken(launches=("other agent",)), False),
        (taken(process="other node/kernel/1/1/0", restarts=0), taken(restarts=1), True),
        (taken(process=identity.of_process(os.getpid())), taken(restarts=1), False),
    ],
)
def test_only_a_restarted_rank_succeeds_one_that_is_gone(earlier: Claim, later: Claim, *, may: bool) -> None:
    assert later.may_succeed(earlier) is may


def test_a_process_is_alive_until_it_has_ended() -> None:
    child = subprocess.Popen(["sleep", "60"])
    named = identity.of_process(child.pid)
    assert identity.is_alive(named)
    assert not identity.is_alive(named.replace(f"/{child.pid}/", f"/{os.getpid()}/")), "that pid began at another time"
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.is_alive(named), "a zombie"
    child.wait()
    assert not identity.is_alive(named)


def take(run: Path, node: str | None = None) -> tuple[Path, RankRecord]:
    return claim.claim({"run": str(run), "host": "recorder", "node": node or identity.of_node()})


def test_attempts_follow_each_other_whatever_their_restart_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    code = (
        "import sys; from pathlib import Path; from shardprof.recording import claim, identity\n"
        "folder, _ = claim.claim({'run': sys.argv[1], 'host': 'recorder', 'node': identity.of_node()})\n"
        "(folder / 'steps.jsonl').write_text(sys.argv[2])"
    )
    for attempt in ("0", "1"):
        subprocess.run([sys.executable, "-c", code, str(tmp_path), attempt], check=True, timeout=60)
    folder, _ = take(tmp_path)
    assert [(folder / f"attempt-{n}" / "steps.jsonl").read_text() for n in (0, 1)] == ["0", "1"]
    assert not (folder / "steps.jsonl").exists()
    with pytest.raises(RankTakenError, match=f"rank 0 is another process's \\(recorder {os.getpid()}\\)"):
        take(tmp_path)


def test_a_claim_that_is_being_written_counts(tmp_path: Path) -> None:
    (tmp_path / "ranks" / "00000").mkdir(parents=True)
    (tmp_path / "ranks" / "00000" / "claim.0").touch()
    with pytest.raises(RankTakenError, match="host and pid unknown"):
        take(tmp_path)


def test_a_rank_on_a_node_without_a_recorder_has_that_nodes_name(tmp_path: Path) -> None:
    assert take(tmp_path / "here")[1].host == "recorder"
    assert take(tmp_path / "there", node="other node/kernel/1")[1].host == os.uname().nodename.split(".")[0]
