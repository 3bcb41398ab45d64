"""Puts the hook for `python -I` into this interpreter's site-packages, and takes it away again.

Python runs the `import` line of a `.pth` file at its start; from 3.15 on a `.start` file of the same name goes before
it, and later the line will count no more (PEP 829).
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

from shardprof.recording.inject import BOOTSTRAP

MODULE = BOOTSTRAP.with_name("shardprof_hook.py")


def install() -> str:
    """Put it in; a line that says so. OSError where site-packages cannot be written."""
    files = _files()
    if all(path.is_file() and path.read_text() == text for path, text in files.items()):
        return f"the hook is in {_folder()} already"
    for path, text in files.items():
        path.write_text(text)
    return f"the hook is in {_folder()} now: ranks of this interpreter are recorded under `python -I` and `-E` too"


def remove() -> str:
    """Take it away; a line that says so. OSError where site-packages cannot be written."""
    found = [path for path in reversed(_files()) if path.exists()]
    for path in found:
        path.unlink()
    return f"the hook is no longer in {_folder()}" if found else f"there is no hook in {_folder()}"


def _folder() -> Path:
    return Path(sysconfig.get_path("purelib"))


def _files() -> dict[Path, str]:
    """What is put there: the module first, which the others name."""
    name = MODULE.stem
    return {
        _folder() / MODULE.name: MODULE.read_text(),
        _folder() / f"{name}.start": f"{name}:run\n",
        _folder() / f"{name}.pth": f"import {name}; {name}.run()\n",
    }
