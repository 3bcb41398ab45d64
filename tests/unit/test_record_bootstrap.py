"""The file that Python runs before the script: it calls back after an import, and leaves no other trace."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from shardprof.recording.inject import BOOTSTRAP
from shardprof.recording.site_hook import MODULE as HOOK


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", BOOTSTRAP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def package(tmp_path: Path) -> Iterator[str]:
    name = "shardprof_test_package"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("value = 1\n")
    (tmp_path / name / "inner.py").write_text("value = 2\n")
    (tmp_path / name / "broken.py").write_text("raise RuntimeError('theirs')\n")
    meta_path = list(sys.meta_path)
    sys.path.insert(0, str(tmp_path))
    yield name
    sys.path.remove(str(tmp_path))
    sys.meta_path[:] = meta_path
    for loaded in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[loaded]


def test_the_callback_comes_once_after_the_module_ran(bootstrap: ModuleType, package: str) -> None:
    seen: list[int] = []
    finder = bootstrap.AfterImport(pytest.fail)
    sys.meta_path.insert(0, finder)
    for module in (package, f"{package}.inner"):
        finder.when_imported(module, lambda module=module: seen.append(sys.modules[module].value))
    inner = importlib.import_module(f"{package}.inner")
    assert seen == [1, 2]
    assert type(inner.__loader__) is type(inner.__spec__.loader) is SourceFileLoader
    assert "exec_module" not in vars(inner.__spec__.loader)
    importlib.reload(inner)
    assert seen == [1, 2]


class ProxyLoader:
    """What import hooks of tracing libraries put before a loader: a proxy transparent down to its `__dict__`."""

    def __init__(self, loader: Loader) -> None:
        object.__setattr__(self, "wrapped", loader)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        return vars(object.__getattribute__(self, "wrapped"))

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "wrapped"), name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        assert module.__loader__ is module.__spec__.loader is self
        object.__getattribute__(self, "wrapped").exec_module(module)


class SlottedLoader:
    """Has no `__dict__`."""

    __slots__ = ("loader",)

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.loader.exec_module(module)


class OldLoader:
    """Knows `load_module` only."""

    def __init__(self, _loader: Loader) -> None:
        pass

    def load_module(self, name: str) -> ModuleType:
        return sys.modules.setdefault(name, ModuleType(name))


class WrappingFinder:
    """A finder whose specs have loaders of a certain kind."""

    def __init__(self, kind: Callable[[Loader], Any]) -> None:
        self.kind = kind

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = self.kind(spec.loader)
        return spec


@pytest.mark.parametrize("kind", [ProxyLoader, SlottedLoader])
def test_a_loader_of_somebody_else_is_left_as_it_is(bootstrap: ModuleType, package: str, kind: type[Any]) -> None:
    seen: list[int] = []
    finder = bootstrap.AfterImport(pytest.fail)
    sys.meta_path[:0] = [finder, WrappingFinder(kind)]
    finder.when_imported(package, lambda: seen.append(sys.modules[package].value))
    module = importlib.import_module(package)
    assert module.value == 1
    assert seen == [1]
    assert type(module.__loader__) is kind


@pytest.mark.filterwarnings("ignore::ImportWarning", "ignore::DeprecationWarning")
def test_a_module_that_cannot_be_observed_is_imported_all_the_same(bootstrap: ModuleType, package: str) -> None:
    logged: list[str] = []
    finder = bootstrap.AfterImport(logged.append)
    sys.meta_path[:0] = [finder, WrappingFinder(OldLoader)]
    finder.when_imported(package, pytest.fail)
    assert importlib.import_module(package).__name__ == package
    (text,) = logged
    assert package in text


@pytest.mark.parametrize(
    ("arguments", "is_helper"),
    [
        (["-c", "from multiprocessing.resource_tracker import main;main(3)"], True),
        (["-X", "utf8", "-c", "from multiprocessing.forkserver import main; main(4)"], True),
        (["/env/torch/_inductor/compile_worker/__main__.py", "--workers=2"], True),
        (["train.py", "--out", "compile_worker_exp/a"], False),
        (["-m", "train", "multiprocessing.forkserver"], False),
        (["-u", "multiprocessing.resource_tracker.py"], False),
    ],
)
def test_helpers_are_told_by_their_program(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, arguments: list[str], *, is_helper: bool
) -> None:
    """While `sitecustomize` runs, `sys.argv` is the program's place (`-c`, `-m` or the script) and its arguments."""
    after = {"-c": 2, "-m": 2, "-X": 4, "-u": 2}.get(arguments[0], 1)
    monkeypatch.setattr(sys, "orig_argv", ["python", *arguments])
    monkeypatch.setattr(sys, "argv", ["first", *arguments[after:]])
    assert bootstrap._is_helper() is is_helper


def test_a_module_that_is_there_already_is_called_back_at_once(bootstrap: ModuleType) -> None:
    seen: list[int] = []
    bootstrap.AfterImport(pytest.fail).when_imported("sys", lambda: seen.append(1))
    assert seen == [1]


def test_a_failing_callback_is_logged_and_the_import_succeeds(bootstrap: ModuleType, package: str) -> None:
    logged: list[str] = []

    def fail() -> None:
        raise RuntimeError("ours")

    finder = bootstrap.AfterImport(logged.append)
    sys.meta_path.insert(0, finder)
    finder.when_imported(package, fail)
    assert importlib.import_module(package).value == 1
    (text,) = logged
    assert "RuntimeError: ours" in text


def test_a_module_that_fails_fails_as_before(bootstrap: ModuleType, package: str) -> None:
    finder = bootstrap.AfterImport(pytest.fail)
    sys.meta_path.insert(0, finder)
    finder.when_imported(f"{package}.broken", pytest.fail)
    with pytest.raises(RuntimeError, match="theirs"):
        importlib.import_module(f"{package}.broken")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{package}.absent")


def test_only_shardprof_is_borrowed(bootstrap: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "__init__.py").write_text("")
    finder = bootstrap.PackageFinder(str(tmp_path))
    assert finder.find_spec("torch") is None
    assert finder.find_spec("shardprof").submodule_search_locations == [str(tmp_path)]


@pytest.fixture
def bootstrap_folder(tmp_path: Path) -> Path:
    """A bootstrap folder whose recorder's package only prints; the rank's environment has none."""
    folder, package = tmp_path / "bootstrap", tmp_path / "recorder" / "shardprof"
    (package / "recording" / "rank").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "recording" / "rank" / "agent.py").write_text("def arm(config, when_imported, log): print('armed')")
    folder.mkdir()
    (folder / BOOTSTRAP.name).write_text(BOOTSTRAP.read_text())
    (folder / "config.json").write_text(json.dumps({"package": str(package), "log": str(tmp_path / "log")}))
    (tmp_path / "site" / "shardprof").mkdir(parents=True)  # a folder that only has the name
    (tmp_path / "site" / HOOK.name).write_text(HOOK.read_text())
    (tmp_path / "site" / "torch.py").write_text("import os; print(os.environ['KINETO_LOG_LEVEL'])")
    return folder


def run_python(folder: Path, code: str, **environment: str) -> str:
    """What `code` prints in a process that has the bootstrap."""
    paths = os.pathsep.join([str(folder), str(folder.parent / "site")])
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sitecustomize\n{code}"],
        cwd=folder.parent, env={"PYTHONPATH": paths, **environment},
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert (done.stderr, (folder.parent / "log").exists()) == ("", False)
    return done.stdout


def test_the_agent_is_armed_once_however_often_it_is_started(bootstrap_folder: Path) -> None:
    assert run_python(bootstrap_folder, "import torch") == "6\narmed\n"
    assert run_python(bootstrap_folder, "import shardprof_hook; shardprof_hook.run(); import torch") == "6\narmed\n"


def test_the_log_level_that_the_job_has_set_stays(bootstrap_folder: Path) -> None:
    assert run_python(bootstrap_folder, "import torch", KINETO_LOG_LEVEL="0") == "0\narmed\n"


def test_the_hook_finds_the_bootstrap_that_python_left_aside(bootstrap_folder: Path) -> None:
    site = str(bootstrap_folder.parent / "site")
    code = f"import sys; sys.path.append({site!r}); import shardprof_hook; shardprof_hook.run(); import torch"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], env={"PYTHONPATH": f"/nowhere/bootstrap::{bootstrap_folder}"},
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("6\narmed\n", "")
