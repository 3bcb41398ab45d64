"""A running job on one screen: who is behind, what is shown, and that it fits."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from shardprof.analysis.live import RankNow, node_now, ranks_now
from shardprof.render._top import Screen, draw
from shardprof.trace.live import LiveHost, LiveRank
from shardprof.trace.place import Place
from shardprof.trace.schema import CounterRecord, Device, HostRecord, RankRecord, StepRecord

SECOND = 1_000_000_000
NOW = 1000 * SECOND


def live(rank: int, step: int = 100, phase: str = "backward", since_s: float = 0.1, data_ms: int = 10) -> LiveRank:
    record = RankRecord(
        rank=rank, world_size=4, local_rank=rank, host="node-a", pid=rank, device="cuda", device_uuid=f"GPU-{rank}",
        started_ns=0, versions={},
    )  # fmt: skip
    steps = [
        StepRecord(
            step=number, begin_ns=0, end_ns=400_000_000, data_ns=data_ms * 1_000_000, forward_ns=150_000_000,
            backward_ns=(220 - data_ms) * 1_000_000, optimizer_ns=20_000_000,
        )
        for number in range(step - 20, step)
    ]  # fmt: skip
    place = Place(step=step, phase=phase, since_ns=NOW - round(since_s * SECOND), capture="far")
    return LiveRank(record=record, place=place, steps=tuple(steps))


def host() -> LiveHost:
    values = [
        {"rank 0": {"cpu_user_s": 10.0 + second, "rss_bytes": 3e9}, "gpu 5": {"sm_clock_mhz": 1400.0 + second},
         "node": {"cpu_percent": 40.0}, "eth0": {"tx_bytes": 1e9 * second}}
        for second in range(2)
    ]  # fmt: skip
    record = HostRecord(
        name="node-a", identity="a", launcher_pid=1, cpu_count=8, memory_bytes=1,
        devices=(Device(subject="gpu 5", name="A100", uuid="GPU-0"),),
    )  # fmt: skip
    samples = [CounterRecord(time_ns=i * SECOND, source="host", values=v) for i, v in enumerate(values)]
    return LiveHost(record=record, counters=tuple(samples))


def remarks(*ranks: LiveRank) -> list[str]:
    return [rank.remark for rank in ranks_now(ranks, [], NOW)]


def test_a_rank_has_its_phases_and_its_counters_and_those_of_its_gpu() -> None:
    (rank,) = ranks_now([live(0)], [host()], NOW)
    assert rank.step_ns == 400_000_000
    phases_ms = {"data": 10, "forward": 150, "backward": 210, "optimizer": 20, "other": 10}
    assert rank.phases_ns == {phase: 1_000_000 * ms for phase, ms in phases_ms.items()}
    assert rank.counters == {"cpu_user_s": 1.0, "rss_bytes": 3e9, "gpu_sm_clock_mhz": 1401.0}
    assert node_now(host()) == {"node": {"cpu_percent": 40.0}, "eth0": {"tx_bytes": 1e9}}


def test_ranks_that_are_alike_have_no_remark() -> None:
    assert remarks(live(0), live(1, step=101), live(2), live(3)) == ["", "", "", ""]
    assert remarks(live(0)) == [""]


def test_who_is_behind_is_told() -> None:
    assert remarks(live(0), live(1), live(2, step=97), live(3)) == ["", "", "3 steps behind", ""]
    assert remarks(live(0), live(1, data_ms=60), live(2), live(3)) == ["", "data +50 ms", "", ""]
    assert remarks(live(0, since_s=31), live(1))[0] == "no progress for 31 s"
    assert remarks(live(0, since_s=9), live(1))[0] == "", "a step may take ten times as long"
    assert remarks(live(0, phase="ended"), live(1)) == ["ended", ""]


def drawn(ranks: list[RankNow], most_ranks: int = 100, width: int = 120) -> list[str]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=50, highlight=False, markup=False)
    nodes = {"node-a": node_now(host())}
    screen = Screen(
        title="train", state="running, 1:02", ranks=ranks, nodes=nodes, captured={"compute": 0.6, "idle": 0.0},
        captured_steps="steps 7-11",
    )  # fmt: skip
    console.print(draw(screen, most_ranks))
    return out.getvalue().splitlines()


def test_the_screen_has_a_line_a_rank() -> None:
    lines = drawn(ranks_now([live(0), live(1, step=90)], [host()], NOW))
    assert "GPU" not in " ".join(lines).replace("SM clock", ""), "columns of which nothing is known are left out"
    (first,) = [line for line in lines if line.strip().startswith("0 ")]
    assert "400 ms" in first
    assert "100 %" in first
    assert "1,401 MHz" in first
    (late,) = [line for line in lines if "behind" in line]
    assert late.strip().startswith("1 ")
    assert any("eth0 ↑ 1.00 GB/s" in line for line in lines)
    assert any("captured steps 7-11   compute 60 %" in line for line in lines)
    assert not any("idle" in line for line in lines)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_it_fits(width: int) -> None:
    lines = drawn(ranks_now([live(rank, step=90 if rank else 100) for rank in range(4)], [host()], NOW), width=width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    assert sum("10 steps behind" in line for line in lines) == 3
    assert any("SM clock" in line for line in lines) == (width == 200)


def test_of_many_ranks_those_behind_are_shown() -> None:
    ranks = ranks_now([live(rank, step=80 if rank == 63 else 100) for rank in range(64)], [], NOW)
    lines = drawn(ranks, most_ranks=3)
    assert [line.split()[0] for line in lines if "400 ms" in line] == ["0", "1", "63"]
    assert any("and 61 ranks more" in line for line in lines)


def test_before_any_rank_checks_in_it_says_so() -> None:
    assert any("no rank has checked in yet" in line for line in drawn([]))


def test_names_cannot_write_to_the_terminal() -> None:
    rank = ranks_now([live(0)], [], NOW)[0]
    hostile = RankNow(
        rank=0, host="\x1b[2Jhost", step=1, phase="\x1b]0;x\x07", phase_ns=0, step_ns=rank.step_ns,
        phases_ns=rank.phases_ns, counters={}, remark="\x1b[31m",
    )  # fmt: skip
    assert not any("\x1b" in line for line in drawn([hostile]))
