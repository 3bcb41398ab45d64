# Runs at the start of every Python process of an environment, for which pathlib would be the heaviest import.
# ruff: noqa: PTH113, PTH118, PTH119
"""Lets `shardprof record` into interpreters that leave PYTHONPATH aside (`python -I`, `python -E`).

`shardprof install-hook` puts a copy of it into site-packages. It looks for the recorder's bootstrap folder in the
variable itself; a process that is not recorded is through after that look.
"""

from __future__ import annotations

import os
import sys


def run() -> None:
    """Start the bootstrap, where PYTHONPATH has one. Never raises."""
    for folder in filter(_is_bootstrap, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        try:
            _start(folder)
        except Exception as error:
            sys.stderr.write(f"shardprof: this process is not recorded: {error!r}\n")
        break


def _is_bootstrap(folder: str) -> bool:
    return os.path.basename(folder) == "bootstrap" and os.path.isfile(os.path.join(folder, "config.json"))


def _start(folder: str) -> None:
    import importlib.util

    name = "shardprof_bootstrap"
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, "sitecustomize.py"))
    if spec is None or spec.loader is None or name in sys.modules:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    module.start()
