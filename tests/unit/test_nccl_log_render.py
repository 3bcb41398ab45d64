"""`shardprof nccl-log` as people and programs read it.

The texts in tests/golden/nccl_log are `COLUMNS=<width> shardprof nccl-log <log>.log > <log>.<width>.txt`, reviewed.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from shardprof.cli import main

GOLDEN = Path(__file__).parents[1] / "golden" / "nccl_log"
LOGS = sorted(GOLDEN.glob("*.log"))


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.txt")), ids=lambda path: path.stem)
def test_logs_read_as_reviewed(
    golden: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, _, width = golden.stem.rpartition(".")
    monkeypatch.setenv("COLUMNS", width)
    assert main(["nccl-log", str(GOLDEN / f"{name}.log")]) == 0
    assert capsys.readouterr().out == golden.read_text()


def test_every_log_has_its_text() -> None:
    assert [log.name for log in LOGS if not (GOLDEN / f"{log.stem}.80.txt").exists()] == []


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("log", LOGS, ids=lambda path: path.stem)
def test_lines_fit(log: Path, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    main(["nccl-log", str(log)])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= width


def test_the_json_has_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nccl-log", str(GOLDEN / "nccl-2.28-two-nodes.log"), "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "shardprof.nccl-log/1"
    assert (told["ranks"], told["nodes"], told["versions"]) == (2, 2, ["2.28.9"])
    assert told["networks"] == {"IB": ["0"]}
    assert told["warnings"][0]["code"] == "ib_completion"
    assert told["warnings"][0]["weight"] == "failure"
    assert told["communicators"][0]["topology"]["links"][0]["kind"] == "IB"
    assert {"function": "AllReduce", "size_bytes": 2097152, "calls": 1}.items() <= told["choices"][1].items()


def test_several_files_are_one_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (GOLDEN / "nccl-2.4-two-nodes.log").read_text().splitlines(keepends=True)
    for host in ("alpha", "beta"):
        (tmp_path / host).write_text("".join(line for line in lines if line.startswith(host)))
    main(["nccl-log", str(tmp_path / "alpha"), str(tmp_path / "beta")])
    assert capsys.readouterr().out.startswith("2 ranks on 2 nodes over NET/Socket without GDR, NCCL of an unknown")


def test_the_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"h:1:1 [0] NCCL INFO Using network IB\n")))
    assert main(["nccl-log", "-"]) == 0
    assert "IB (h:1)" in capsys.readouterr().out


def test_a_log_of_something_else_is_an_error_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.log").write_text("epoch 1\n")
    assert main(["nccl-log", str(tmp_path / "train.log")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no line of NCCL" in said
    assert "NCCL_DEBUG=INFO" in said
    assert main(["nccl-log", str(tmp_path / "nowhere.log")]) == 2
    assert "nowhere.log" in capsys.readouterr().err


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "a.cc:1 NCCL WARN [bold]no[/bold] \x07\x1b]0;title\x07 \u202e\n"
    (tmp_path / "log").write_text(f"h:1:1 [0] {hostile}h:1:1 [0] NCCL INFO Using network \x08\n")
    for how in ("terminal", "json"):
        assert main(["nccl-log", str(tmp_path / "log"), "--format", how]) == 0
        said = capsys.readouterr().out
        assert not {"\x07", "\x1b", "\x08", "\u202e"} & set(said)
        assert "[bold]no[/bold]" in said
