"""SIGTERM while the guard has it: a forked child is not concerned, at any moment."""

from __future__ import annotations

import subprocess
import sys

FORKS = """
import os, signal, time
from shardprof.recording.rank.termination import TerminationGuard
TerminationGuard(lambda: None).install()
lost = 0
for _ in range(200):
    child = os.fork()
    if child == 0:
        time.sleep(1)
        os._exit(7)
    os.kill(child, signal.SIGTERM)
    lost += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGTERM
print(lost)
"""


def test_a_forked_child_dies_of_a_signal_that_comes_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=250, check=True)
    assert done.stdout == "0\n"
