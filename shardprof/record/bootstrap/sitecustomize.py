# Runs in every Python process of the job, for which pathlib would be the heaviest import.
# ruff: noqa: PTH100, PTH118, PTH120, PTH123
"""How shardprof gets into an unchanged training: Python runs this before the script, from a copy in the run folder.

It lies at the head of PYTHONPATH in a folder of its own, beside `config.json`. It runs in every Python process of the
job, helpers included, possibly of another environment, so it imports Python's own modules only, does nothing until
`torch` is imported, and keeps every failure of its own away from the process. The `sitecustomize` that would have run
without it runs after it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

TYPE_CHECKING = False  # typing is not imported for it
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

FOLDER = os.path.dirname(os.path.abspath(__file__))
# Processes that start beside a training and never train: importing torch there is no evidence of anything.
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "compile_worker")


class AfterImport:
    """A finder that finds nothing itself: it calls back once a module has been executed."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._searching: set[str] = set()
        self._log = log

    def when_imported(self, name: str, callback: Callable[[], None]) -> None:
        """Call `callback` after `name` has been imported, at once if it has been."""
        if name in sys.modules:
            self._call(callback)
        else:
            self._waiting.setdefault(name, []).append(callback)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the finders after this one give, its loader told to call back. Part of the import system."""
        if name not in self._waiting or name in self._searching:
            return None
        self._searching.add(name)
        try:
            spec = importlib.util.find_spec(name)
            if spec is not None:
                self._observe(spec)
            return spec
        finally:
            self._searching.discard(name)

    def _observe(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        if loader is None:
            return
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if module.__name__ == spec.name:
                loader.__dict__.pop("exec_module", None)
                for callback in self._waiting.pop(spec.name, ()):
                    self._call(callback)

        loader.__dict__["exec_module"] = (
            exec_module  # on the instance: its type, which libraries look at, stays what it is
        )

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            self._log(_traceback())


class PackageFinder:
    """Finds the recorder's own `shardprof` where the interpreter of the rank has none; asked last."""

    def __init__(self, package_folder: str) -> None:
        self._folder = package_folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The package's spec, for the name `shardprof` only. Part of the import system."""
        if name != "shardprof":
            return None
        entry = os.path.join(self._folder, "__init__.py")
        return importlib.util.spec_from_file_location(name, entry, submodule_search_locations=[self._folder])


def install() -> None:
    """Wait for torch, then arm the agent; helper processes are left alone."""
    arguments = getattr(sys, "orig_argv", sys.argv)
    if any(helper in argument for argument in arguments for helper in HELPERS):
        return
    import json

    with open(os.path.join(FOLDER, "config.json"), encoding="utf-8") as file:
        config = json.load(file)

    def log(text: str) -> None:
        line = json.dumps({"pid": os.getpid(), "text": text}) + "\n"
        try:
            descriptor = os.open(config["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(descriptor, line.encode())
            os.close(descriptor)
        except OSError:
            pass  # the run folder is gone or full: there is nowhere left to write to

    after_import = AfterImport(log)

    def arm() -> None:
        sys.meta_path.append(PackageFinder(config["package"]))
        importlib.import_module("shardprof.record.agent").arm(config, after_import.when_imported, log)

    after_import.when_imported("torch", arm)
    sys.meta_path.insert(0, after_import)


def run_shadowed() -> None:
    """Run the `sitecustomize` that this one hides. What it raises is its own matter, as without shardprof."""
    here = [entry for entry in sys.path if os.path.abspath(entry) == FOLDER]
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != FOLDER]
    own = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.path[:0] = here
        if own is not None:
            sys.modules.setdefault("sitecustomize", own)


def _traceback() -> str:
    import traceback

    return traceback.format_exc()


if __name__ == "sitecustomize":
    try:
        install()
    except Exception:
        sys.stderr.write(f"shardprof: this process is not recorded: {_traceback()}\n")
    run_shadowed()
