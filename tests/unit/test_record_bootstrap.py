"""The file that Python runs before the script: it calls back after an import, and leaves no other trace."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

from shardprof.record.inject import BOOTSTRAP


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
