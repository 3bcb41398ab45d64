"""The report in the terminal: real traces at several widths, real pseudo-terminals, and results made by hand.

The texts in tests/golden/terminal are `COLUMNS=<width> shardprof report <trace> > <trace>.<width>.txt`, run in the
folder of the public traces; that is also how they are renewed.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

from shardprof.analysis.report import analyse
from shardprof.analysis.result import Host, Result
from shardprof.errors import ShardprofError
from shardprof.render import terminal
from shardprof.render._view import view
from shardprof.trace.quality import Quality
from shardprof.trace.run import load

from .builders import MS, always_on, collective, rank, result, step

REPOSITORY = Path(__file__).parents[2]
TRACES = Path(os.environ.get("SHARDPROF_TRACES", REPOSITORY.parent / "shared" / "traces"))
GOLDEN = sorted((REPOSITORY / "tests" / "golden" / "terminal").glob("*.txt"))
SAMPLES = sorted(path.name for path in TRACES.glob("*") if path.is_dir())
COMMAND = (sys.executable, "-c", "import sys; from shardprof.cli import main; sys.exit(main())", "report")

needs_traces = pytest.mark.skipif(not SAMPLES, reason=f"the public traces are not in {TRACES}; set SHARDPROF_TRACES")


def _text(of: Result, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding=encoding)
    terminal.render(of, out)
    out.flush()
    return raw.getvalue().decode(encoding)


def _width(written: str) -> int:
    """The longest line's width, but for the commands at the end, which are never broken."""
    lines = written.splitlines()
    assert lines[-1].strip().startswith("shardprof report ")
    commands = [line for line in lines[1:] if "shardprof " in line]
    return max(cell_len(line) for line in lines if line not in commands)


def _on_a_terminal(columns: int, arguments: list[str], **environment: str) -> str:
    """What the command writes when its stdout is a terminal of that width."""
    controller, device = pty.openpty()
    fcntl.ioctl(device, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=device, env=kept | {"TERM": "xterm-256color"} | environment
    )
    os.close(device)
    written = b""
    try:
        while chunk := os.read(controller, 65536):
            written += chunk
    except OSError:
        pass  # how a pseudo-terminal says that its other side is closed
    os.close(controller)
    assert process.wait(timeout=60) == 0
    return written.decode()


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """A GPU trace whose process group and file name try to talk to the terminal."""
    group = {"pg_name": "0", "pg_desc": "[bold red]\x1b[31mred", "pg_size": 2, "ranks": [0, 1]}
    collective_args = {"Collective name": "allreduce", "In msg nelems": 4, "dtype": "Float", "Process Group Name": "0"}
    events = [
        {"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#3", "ts": 0, "dur": 100, "pid": 1, "tid": 1},
        {"ph": "X", "cat": "kernel", "name": "gemm", "ts": 0, "dur": 20, "pid": 0, "tid": 7, "args": {"stream": 7}},
        {
            **{"ph": "X", "cat": "kernel", "name": "ncclDevKernel_AllReduce", "ts": 30, "dur": 60, "pid": 0, "tid": 9},
            "args": {"stream": 9, "correlation": 1, "Group size": 2, **collective_args},
        },
        {
            **{"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": 5, "dur": 2, "pid": 1, "tid": 1},
            "args": {"correlation": 1},
        },
    ]
    content = {"distributedInfo": {"rank": 0, "world_size": 2, "pg_config": [group]}, "traceEvents": events}
    file = tmp_path / "a[bold]b\x1b[31mc.json"
    file.write_text(json.dumps(content))
    return file


@needs_traces
@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_real_traces_read_as_reviewed(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, _, width = golden.stem.rpartition(".")
    monkeypatch.chdir(TRACES)
    monkeypatch.setenv("COLUMNS", width)
    assert _text(analyse(load([Path(name)]))) == golden.read_text()


def test_there_are_reviewed_texts() -> None:
    assert len(GOLDEN) >= 3


@needs_traces
@pytest.mark.parametrize("name", SAMPLES)
def test_no_line_is_longer_than_the_terminal_is_wide(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = 0
    folder = TRACES / name
    for path in sorted(folder.glob("*.json.gz")) if name != "dlrm-8rank-v100" else [folder]:
        try:
            report = analyse(load([path]))
        except ShardprofError:
            continue
        reported += 1
        for width in (60, 80, 100, 160):
            monkeypatch.setenv("COLUMNS", str(width))
            lines = _text(report).splitlines()
            commands = {command for command, _ in view(report).next_commands}
            assert [line for line in lines if cell_len(line) > width and line.strip() not in commands] == []
            assert lines == [line.rstrip() for line in lines]
            assert "\x1b" not in "".join(lines)
    assert reported


def test_a_terminal_gets_its_width_and_colour(trace: Path) -> None:
    written = _on_a_terminal(72, [str(trace)])
    bar_line = next(line for line in written.splitlines() if "█" in line)
    assert "\x1b[36m█" in bar_line
    plain = _on_a_terminal(72, [str(trace)], TERM="dumb")
    assert _width(plain) == 72


def test_no_color_is_respected(trace: Path) -> None:
    written = _on_a_terminal(80, [str(trace)], NO_COLOR="1")
    assert "█" in written
    assert "\x1b[3" not in written.replace("\x1b[3m", "")


@pytest.mark.parametrize("columns", [None, "150"])
def test_a_pipe_is_100_columns_unless_told_otherwise(trace: Path, columns: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {"COLUMNS": columns} if columns else {}
    run = subprocess.run([*COMMAND, str(trace)], env=environment, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0
    assert run.stderr == ""
    assert _width(run.stdout) == int(columns or 100)


def test_traces_cannot_talk_to_the_terminal(trace: Path) -> None:
    for written in (
        _on_a_terminal(100, [str(trace)]),
        subprocess.run([*COMMAND, str(trace)], capture_output=True, text=True, timeout=60).stdout,
    ):
        assert "[bold red]" in written
        assert "a[bold]b" in written
        assert "\\x1b[31m" in written
        assert "\x1b[31m" not in written


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_other_encodings_get_ascii_glyphs(trace: Path, encoding: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": encoding, "LANG": "C"}
    run = subprocess.run([*COMMAND, str(trace)], env=environment, capture_output=True, timeout=60)
    assert run.returncode == 0
    assert b"%%%%" in run.stdout
    assert run.stdout.isascii()


@pytest.mark.parametrize("width", [60, 100])
def test_a_command_is_never_broken(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    path = "runs/" + "20260101-" * 12
    command = f"shardprof report {path} --html report.html"
    lines = _text(result(rank(0, step(compute=1)), source={"paths": (path,)})).splitlines()
    shown = [line for line in lines if "20260101" not in line or line in lines[:2]]
    assert max(map(cell_len, shown)) <= width
    assert lines[-2:] == ["        # charts, as one page", f"        {command}"]
    short = _text(result(rank(0, step(compute=1)), source={"paths": ("runs",)})).splitlines()
    assert short[-1] == (
        "        shardprof report runs --html report.html"
        if width < 70
        else "        shardprof report runs --html report.html   # charts, as one page"
    )


def test_names_beyond_the_encoding_do_not_fail() -> None:
    report = result(rank(0, step(compute=1, p2p=1)), collectives=(collective("p2p", "größe", [0, 1]),))
    assert "gr??e (2 ranks)" in _text(report, "ascii")


def test_the_recorded_steps_fit_into_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    recorded = always_on(120, data=3, forward=40, backward=60, optimizer=9)
    many = replace(recorded, steps=9_999, usual_steps=9_990, slowest_step=9_998)
    lines = _text(result(rank(0, device=None, always_on=many))).splitlines()
    row = next(line for line in lines if "9,990 of 9,999" in line)
    assert row.split()[-2:] == ["120", "9998"]


def test_the_bars_tell_the_classes_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parts = {"compute": 50, "all_gather": 20, "memcpy": 10, "data_loading": 10, "launch_bound": 5, "idle": 5}
    bar = next(line for line in _text(result(rank(0, step(**parts)))).splitlines() if "██" in line)
    drawn = [char for char in bar if char in "█▒▚▄╌·"]
    assert "".join(dict.fromkeys(drawn)) == "█▒▚▄╌·"
    assert drawn.count("█") == pytest.approx(len(drawn) / 2, abs=1)
    assert bar.split()[-6:] == ["50", "20", "10", "10", "5", "5"]


def test_classes_that_take_no_time_take_no_room() -> None:
    text = _text(result(rank(0, step(compute=90, idle=10))))
    for absent in ("exposed communication", "copies", "data loading", "launch", "comm"):
        assert absent not in text


def test_many_ranks_are_cut_to_those_that_stand_out() -> None:
    ranks = [rank(i, step(7, compute=60 + 0.01 * i, all_gather=40), host=f"node-{i // 8}.site") for i in range(1024)]
    ranks[300] = rank(300, step(7, compute=90, all_gather=13), host="node-37.site")
    text = _text(result(*ranks))
    assert "1,024 ranks on 128 hosts" in text
    assert "1,020 more ranks are not listed" in text
    row = next(line for line in text.splitlines() if line.split()[:1] == ["300"])
    assert row.split()[1] == "node-37"
    assert row.endswith("outlier")
    assert len(text.splitlines()) < 30


def test_a_run_without_a_capture_shows_its_records_and_how_to_capture() -> None:
    recorded = always_on(120, data=3, forward=40, backward=60)
    text = _text(
        result(
            *(rank(i, device=None, host="node-a", always_on=recorded) for i in range(2)),
            source={"kind": "run", "command": "torchrun train.py", "framework": "DeepSpeed", "exit_code": 1}
            | {"settings": {"strategy": "ZeRO-3", "precision": "bf16"}},
            step_source="none",
        )
    )
    assert "DeepSpeed ZeRO-3, bf16 · 2 ranks on node-a" in text
    assert ["1", "7", "of", "10", "120", "3", "40", "60", "120", "3"] in [line.split() for line in text.splitlines()]
    assert "optimizer" not in text
    assert "the job ended with exit code 1" in text
    assert "shardprof record --steps 5:10 -- torchrun train.py" in text


def test_of_many_recorded_ranks_three_are_shown() -> None:
    text = _text(result(*(rank(i, device=None, always_on=always_on(100 + i)) for i in range(33))))
    rows = [line.split() for line in text.splitlines() if " 7 of 10 " in line]
    assert [(row[0], row[4]) for row in rows] == [("32", "132"), ("16", "116"), ("0", "100")]


def test_communication_is_told_a_step_and_rank() -> None:
    one = replace(
        step(7, compute=60, all_gather=40),
        comm_calls={"all_gather": 3},
        comm_bytes={"all_gather": 3_000_000},
        comm_kind_ns={"all_gather": 80 * MS},
        overlapped_ns={"all_gather": 40 * MS},
    )
    other = replace(one, comm_calls={"all_gather": 2}, comm_bytes={"all_gather": 1_000_000})
    text = _text(result(rank(0, one), rank(1, other)))
    row = next(line for line in text.splitlines() if line.startswith("  all-gather"))
    assert row.split() == ["all-gather", "2.5", "2.00", "MB", "40.0", "ms", "40", "%", "50", "%"]


def test_equal_process_groups_are_counted() -> None:
    rows = (
        collective("all_reduce", "mesh_rep", [0, 2]),
        collective("all_reduce", "mesh_rep", [1, 3]),
        replace(collective("all_reduce", "2 ranks", [0, 1]), ranks=None),
        replace(collective("all_reduce", "unknown", []), ranks=None, group_size=None),
    )
    text = _text(result(rank(0, step(compute=1, all_reduce=1)), collectives=rows))
    assert "mesh_rep (2 x 2 ranks), 2 ranks\n" in text
    alone = (collective("all_reduce", "default_pg", [0]), replace(collective("all_reduce", "1 rank", [0]), ranks=None))
    assert "default_pg (1 rank), 1 rank\n" in _text(result(rank(0, step(compute=1, all_reduce=1)), collectives=alone))


def test_the_cpu_side_of_a_job_on_gpus_is_no_run_on_cpus() -> None:
    doubt = Quality(code="no_device_activities", message="rank0.json holds no GPU activities")
    text = _text(result(rank(0, step(compute=9), device="cpu"), quality=(doubt,)))
    assert "1 rank · the CPU's side of a job on GPUs" in text
    assert "doubtful  rank0.json holds no GPU activities" in text


def test_the_slowest_step_is_explained_by_its_classes() -> None:
    text = _text(result(rank(3, step(7, compute=50), step(8, compute=50), step(9, compute=52, all_gather=18))))
    assert "step 9 on rank 3, 70.0 ms: 20.0 ms over the median (step 7 on rank 3, 50.0 ms)" in text
    assert "all-gather +18.0 ms, compute +2.00 ms" in text


def test_the_slowest_of_the_recorded_steps_and_of_the_captured_ones_are_told_apart() -> None:
    steps = (step(7, compute=50), step(8, compute=50), step(9, compute=90))
    text = _text(result(rank(0, *steps, always_on=always_on(60, forward=20))))
    assert "slowest step  of the captured ones, step 9 on rank 0, 90.0 ms" in text
    assert any(line.split() == ["0", "7", "of", "10", "60.0", "20.0", "60.0", "3"] for line in text.splitlines())
    few = replace(always_on(60), usual_steps=2, slowest_step=None, slowest_wall_ns=None)
    text = _text(result(rank(0, step(7, compute=50), always_on=few)))
    assert "slowest" not in text
    assert "in step" not in text
    assert any(line.split() == ["0", "2", "of", "10", "60.0"] for line in text.splitlines())


def test_even_steps_have_no_slowest() -> None:
    assert "slowest" not in _text(result(rank(0, step(7, compute=50), step(8, compute=50))))


@pytest.mark.parametrize(("exit_code", "doubt"), [(0, ""), (None, "the job has not ended"), (137, "exit code 137")])
def test_a_run_that_did_not_end_well_says_so(exit_code: int | None, doubt: str) -> None:
    source = {"kind": "run", "command": "torchrun train.py", "exit_code": exit_code}
    text = _text(result(rank(0, step(7, compute=9)), source=source))
    assert doubt in text
    assert ("doubtful" in text) == bool(doubt)


def test_doubts_are_told_with_their_counts() -> None:
    doubts = [Quality(code="a", message="collectives whose size the trace does not tell", count=1204)]
    doubts += [Quality(code="b", message=f"doubt {i}") for i in range(20)]
    text = _text(result(rank(0, step(7, compute=9), step(8, empty=True, idle=1)), quality=tuple(doubts)))
    assert "step 8 without work, left out of every figure" in text
    assert "collectives whose size the trace does not tell (1,204 in all)" in text
    assert "14 more, see --format json" in text


def test_links_show_what_their_hosts_sent() -> None:
    host = Host(name="node-a", ranks=(0, 1), link_tx_bytes={"eth0": 412_000_000, "lo": 0}, link_rx_bytes={"eth0": 9})
    text = _text(result(rank(0, step(compute=1)), source={"hosts": (host,)}))
    assert "node-a (ranks 0-1): eth0 sent 412 MB, received 9 B" in text
    assert "lo" not in text.split("links")[1].split("next")[0]
