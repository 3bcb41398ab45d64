"""`os._exit` while the guard has it: what is kept is saved first, and the process ends as it was told to."""

from __future__ import annotations

import subprocess
import sys

import pytest

ENDS = """
import ctypes, os, sys, threading, time
from shardprof.recording import exit_guard
exit_guard.SAVE_WITHIN_S = 1
hang = {"python": lambda: time.sleep(60), "c++": lambda: ctypes.PyDLL(None).sleep(60)}  # that one keeps the GIL
def save():
    print("saved", flush=True)
    hang.get(sys.argv[1], lambda: None)()
    if sys.argv[1] == "fails":
        raise SystemExit(1)
guard = exit_guard.ExitGuard(save)
guard.install()
if sys.argv[1] == "removed":
    guard.remove()
if sys.argv[1] == "in a child" and os.fork():
    guard.remove()
    os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
if sys.argv[1] == "in a thread":
    threading.Thread(target=os._exit, args=(42,)).start()
    time.sleep(60)
if sys.argv[1] == "no number":
    try:
        os._exit("42")
    except TypeError:
        sys.exit(42)
os._exit(42)
"""


@pytest.mark.parametrize(
    ("how", "printed"),
    [
        ("at once", "saved\n"),
        ("python", "saved\n"),
        ("c++", "saved\n"),
        ("fails", "saved\n"),
        ("removed", ""),
        ("in a child", ""),
        ("in a thread", ""),
        ("no number", ""),
    ],
)
def test_the_exit_code_is_the_scripts(how: str, printed: str) -> None:
    done = subprocess.run([sys.executable, "-c", ENDS, how], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (42, printed), done.stderr


def test_somebody_elses_replacement_stays() -> None:
    code = (
        "import os; from shardprof.recording.exit_guard import ExitGuard\n"
        "guard = ExitGuard(lambda: print('saved', flush=True)); guard.install()\n"
        "ours = os._exit; os._exit = lambda status: ours(status + 1)\n"
        "guard.remove(); os._exit(41)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (42, ""), done.stderr
