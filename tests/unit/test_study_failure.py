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
        ([USAGE], [1], 0, FAILED, "vit.py: error: argument --model: invalid choice: 'x'"),
        ([LAUNCHER], [1], 0, FAILED, "torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The"),
        (["no words"], [0, 7], 0, FAILED, "exit code 7, without an error message"),
        ([], [1], 0, FAILED, "exit code 1, without an error message"),
    ],
)
def test_the_reason_is_the_ranks_own_words(
    tmp_path: Path, printed: list[str], codes: list[int], oom_kills: int, status: str, reason: str
) -> None:
    files = [tmp_path / f"output.{node}.txt" for node in range(len(codes))]
    for file, text in zip(files, printed, strict=False):
        file.write_text(text)
    end = ending(codes, files, None, oom_kills)
    assert end.status == status
    assert end.reason.startswith(reason)
    assert bool(end.reason) == bool(reason)


def test_a_job_that_was_stopped_says_what_it_printed_last(tmp_path: Path) -> None:
    (tmp_path / "output.0.txt").write_text("step 1\nstep 2\n\n")
    end = ending([-15], [tmp_path / "output.0.txt"], 60, 0)
    assert (end.status, end.reason) == (TIMED_OUT, "did not end within 60 s; the last it printed: step 2")


def test_reasons_are_of_a_length_that_a_table_can_hold(tmp_path: Path) -> None:
    (tmp_path / "output.0.txt").write_text("ValueError: " + "x" * 10_000)
    assert len(ending([1], [tmp_path / "output.0.txt"], None, 0).reason) <= 300


def test_the_kernel_counts_what_it_killed() -> None:
    assert oom_kill_count() >= 0
