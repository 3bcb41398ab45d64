"""Runs a module's `main` in a Python of its own beside this process, which neither waits for it nor shares its lock."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

_PROGRAM = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "importlib.import_module(sys.argv[2]).main(*sys.argv[3:])"
)


def start(module: str, *arguments: str, heard: bool = False) -> None:
    """Call `main(*arguments)` of `module` there, with the same packages; where `heard`, what it writes to stderr is
    seen here, and a pipe that this process writes that to stays open until it ends.

    It is in a session of its own, so that Ctrl-C and a launcher's signals do not end it before this process. OSError
    where it cannot be started.
    """
    output = None if heard else subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=output,
        start_new_session=True,
    )
    threading.Thread(target=process.wait, name="shardprof-child", daemon=True).start()  # it leaves no zombie
