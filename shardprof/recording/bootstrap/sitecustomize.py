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
    from typing import Any

FOLDER = os.path.dirname(os.path.abspath(__file__))
STARTED = "shardprof_bootstrap"  # what sys.modules calls the one bootstrap of this process
# Kineto writes its own progress ("USDT: ... profiler_start") to the job's stderr up to this level. Set here, where
# every rank passes: launchers hand few variables on to other nodes.
KINETO_SILENCE = ("KINETO_LOG_LEVEL", "6")
# Processes that start beside a training and never train, by the text after `-c` or the end of the script's path.
HELPER_TEXTS = ("from multiprocessing.resource_tracker import", "from multiprocessing.forkserver import")
HELPER_SCRIPT = os.path.join("torch", "_inductor", "compile_worker", "__main__.py")


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
        def executed() -> None:
            for callback in self._waiting.pop(spec.name, ()):
                self._call(callback)

        loader: Any = spec.loader
        if hasattr(loader, "exec_module"):
            spec.loader = ObservedLoader(spec, executed)  # type: ignore[assignment]
        elif loader is not None:
            self._log(f"{spec.name} is loaded by {loader!r}, which has no exec_module: it is not seen")

    def _call(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception:
            self._log(_traceback())


class ObservedLoader:
    """Stands in for a module's loader, which may be a proxy of somebody else, until the module is executed."""

    def __init__(self, spec: ModuleSpec, executed: Callable[[], None]) -> None:
        self._spec = spec
        self._loader: Any = spec.loader
        self._executed = executed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """Step aside, execute the module, tell. Part of the import system."""
        self._spec.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._executed()


class PackageFinder:
    """Finds the recorder's own `shardprof`, where the interpreter of the rank has none."""

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


def start() -> None:
    """Install, once in a process: `shardprof_hook` may have been before us, or the bootstrap of a recorder within."""
    if sys.modules.setdefault(STARTED, sys.modules[__name__]) is not sys.modules[__name__]:
        return
    try:
        install()
    except Exception:
        sys.stderr.write(f"shardprof: this process is not recorded: {_traceback()}\n")


def install() -> None:
    """Wait for torch, then arm the agent; helper processes are left alone."""
    if _is_helper():
        return
    import json

    os.environ.setdefault(*KINETO_SILENCE)

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
        found = importlib.util.find_spec("shardprof")
        if found is None or found.origin is None:  # a folder of that name, such as a clone, is no package
            sys.meta_path.insert(0, PackageFinder(config["package"]))
        importlib.import_module("shardprof.recording.rank.agent").arm(config, after_import.when_imported, log)

    after_import.when_imported("torch", arm)
    sys.meta_path.insert(0, after_import)


def _is_helper() -> bool:
    """Told by the program: what the command line has between the interpreter's arguments and the program's own."""
    return any(
        program.startswith(HELPER_TEXTS) or program.endswith(HELPER_SCRIPT)
        for program in sys.orig_argv[-len(sys.argv) :][:1]
    )


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
    start()
    run_shadowed()
