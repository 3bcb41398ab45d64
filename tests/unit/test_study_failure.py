"""Why a training ended as it did is told from what jobs really print."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprof.study.bench.failure import ending, oom_kill_count
from shardprof.study.results import FAILED, FINISHED, OUT_OF_MEMORY, TIMED_OUT

CUDA = """\
[rank3]: Traceback (most recent call last):
[rank3]:   File "train.py", line 12, in <module>
[rank3]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 3 has a total capacity of 39.39 GiB
[rank3]:[W1123 ProcessGroupNCCL.cpp:1496] Warning: WARNING: destroy_process_group() was not called
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""
CPU = """\
RuntimeError: [enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried
"""
RAISED = """\
step     1/50  loss 2.3026
[rank1]: Traceback (most recent call last):
[rank1]:   File "x.py", line 3
[rank1]: ValueError: the batch is empty
E1123 01:00:00 api.py:984] failed (exitcode: 1) local_rank: 1 (pid: 12) of binary: python
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""
KILLED = """\
Signal 9 (SIGKILL) received by PID 77
  exitcode  : -9 (pid: 77)
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
"""
STOPPED_AT_ITS_WORK = """\
vit_digits, ddp, fp32, 2 x cpu, 893,834 parameters (100,746 outside the blocks)
torchvision's compiled operators do not load here; using its Python part
shardprof: recording rank 1 (pid 12, node) into runs/a
step     1/200  loss 2.3026      86.3 ms/step     185.5 samples/s
"""
RECORDED = "shardprof: recorded 2 ranks, 60 steps\nshardprof: next: shardprof report runs/a\n"
LOST_ITS_PEER = "[rank0]: RuntimeError: [gloo/pair.cc:1] Connection closed by peer [10.0.0.1]:4242\n"
IN_COLOURS = "\x1b[1;35mValueError\x1b[0m: \x1b[35mthe batch is empty\x1b[0m\r\nConnection to node-b closed.\r\n"
NO_HOST = "ssh: Could not resolve hostname node-c: Name or service not known\r\n"
OWN = "vit: 3 images are too few for a step of every rank; lower --batch-size\nChildFailedError: \n"
USAGE = "usage: vit [-h]\nvit.py: error: argument --model: invalid choice: 'x'\n"
LAUNCHER = (
    "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection to the C10d store has failed.\n"
)


@pytest.mark.parametrize(
    ("printed", "codes", "oom_kills", "status", "reason"),
    [
        (["all went well"], [0], 0, FINISHED, ""),
        (["RuntimeError: caught and logged"], [0, 0], 3, FINISHED, ""),
        (["", CUDA], [1, 1], 0, OUT_OF_MEMORY, "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00"),
        ([CPU], [1], 0, OUT_OF_MEMORY, "RuntimeError: [enforce fail at alloc_cpu.cpp:127]"),
        ([KILLED], [1], 1, OUT_OF_MEMORY, "the kernel killed a rank because the machine's memory had run out"),
        ([KILLED], [1], 0, FAILED, "a rank was killed (signal 9)"),
        ([RAISED], [1], 0, FAILED, "ValueError: the batch is empty"),
        ([RAISED], [1], 1, FAILED, "ValueError: the batch is empty"),
        ([OWN], [1], 0, FAILED, "vit: 3 images are too few for a step of every rank; lower --batch-size"),
        ([STOPPED_AT_ITS_WORK + KILLED + RECORDED], [1], 0, FAILED, "a rank was killed (signal 9)"),
        ([STOPPED_AT_ITS_WORK + RAISED + RECORDED], [1], 0, FAILED, "ValueError: the batch is empty"),
        ([LOST_ITS_PEER + KILLED], [1], 0, FAILED, "a rank was killed (signal 9)"),
        ([LOST_ITS_PEER], [1], 0, FAILED, "RuntimeError: [gloo/pair.cc:1] Connection closed by peer"),
        ([IN_COLOURS], [1], 0, FAILED, "ValueError: the batch is empty"),
        (["all is well", NO_HOST], [-15, 255], 0, FAILED, "exit code -15; the last it printed: ssh: Could not resolve"),
        ([RECORDED + NO_HOST], [255], 0, FAILED, "exit code 255; the last it printed: ssh: Could not resolve"),
        ([USAGE], [1], 0, FAILED, "vit.py: error: argument --model: invalid choice: 'x'"),
        ([LAUNCHER], [1], 0, FAILED, "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The"),
        (["no words", "some"], [0, 7], 0, FAILED, "exit code 7; the last it printed: some"),
        ([], [1], 0, FAILED, "exit code 1, and it printed nothing"),
    ],
)
def test_the_reason_is_the_ranks_own_words(
    tmp_path: Path, printed: list[str], codes: list[int], oom_kills: int, status: str, reason: str
) -> None:
    files = [tmp_path / f"output.{node}.txt" for node in range(len(codes))]
    for file, text in zip(files, printed, strict=False):
        file.write_text(text)
    end = ending(codes, files, timeout_s=None, oom_kills=oom_kills, is_complete=not any(codes))
    assert end.status == status
    assert end.reason.startswith(reason)
    assert bool(end.reason) == bool(reason)


def test_a_job_that_was_stopped_says_what_it_printed_last(tmp_path: Path) -> None:
    (tmp_path / "output.0.txt").write_text(f"step 1\nstep 2\n\n{RECORDED}")
    end = ending([-15], [tmp_path / "output.0.txt"], timeout_s=60, oom_kills=0, is_complete=False)
    assert (end.status, end.reason) == (TIMED_OUT, "did not end within 60 s; the last it printed: step 2")


def test_reasons_are_of_a_length_that_a_table_can_hold(tmp_path: Path) -> None:
    (tmp_path / "output.0.txt").write_text("ValueError: " + "x" * 10_000)
    end = ending([1], [tmp_path / "output.0.txt"], timeout_s=None, oom_kills=0, is_complete=False)
    assert len(end.reason) <= 300


def test_a_job_that_ends_well_and_did_not_train_has_failed(tmp_path: Path) -> None:
    (tmp_path / "output.0.txt").write_text("hello\n")
    end = ending([0], [tmp_path / "output.0.txt"], timeout_s=None, oom_kills=0, is_complete=False)
    assert end.status == FAILED
    assert end.reason == "exit code 0, but the training did not come to its end; the last it printed: hello"


def test_the_kernel_counts_what_it_killed() -> None:
    assert oom_kill_count() >= 0
