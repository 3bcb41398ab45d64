"""What NCCL is asked for: our plugin where nothing stands against it, its log else, and never against the user."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardprof.recording.nccl_request import DEFAULT, EVENTS, FOLDER, LOG, PLUGIN, PROXY, ask


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    file = tmp_path / "libshardprof_nccl.so"
    file.touch()
    return str(file)


def home(tmp_path: Path, conf: str = "") -> dict[str, str]:
    (tmp_path / ".nccl.conf").write_text(conf)
    return {"HOME": str(tmp_path)}


def test_the_plugin_and_a_quiet_log(tmp_path: Path, plugin: str) -> None:
    variables, folder = home(tmp_path), tmp_path / "nccl" / "node"
    setup = ask(DEFAULT, plugin, folder, variables, (2, 28, 9))
    assert (setup.mode, setup.plugin, setup.why, setup.version) == (DEFAULT, plugin, "", "2.28.9")
    assert variables[PLUGIN] == plugin
    assert variables[FOLDER] == str(folder)
    assert int(variables[EVENTS]) & 64  # kernel channels: from the first communicator or never
    assert not int(variables[EVENTS]) & 8
    assert variables["NCCL_DEBUG_SUBSYS"] == "INIT,ENV,GRAPH"
    assert variables["NCCL_DEBUG_FILE"] == setup.log == f"{folder}/nccl.%h.%p.log"
    assert folder.is_dir()


def test_a_process_started_by_one_that_has_asked_asks_again(tmp_path: Path, plugin: str) -> None:
    variables = home(tmp_path)
    first = ask(DEFAULT, plugin, tmp_path / "a", variables, (2, 28, 9))
    assert ask(DEFAULT, plugin, tmp_path / "a", variables, (2, 28, 9)) == first


def test_proxies_on_request(tmp_path: Path, plugin: str) -> None:
    variables = home(tmp_path)
    ask(PROXY, plugin, tmp_path / "a", variables, (2, 28, 9))
    assert int(variables[EVENTS]) & 8


@pytest.mark.parametrize("where", ["environment", "file"])
def test_a_plugin_that_is_set_stays(tmp_path: Path, plugin: str, where: str) -> None:
    variables = home(tmp_path, f"# comment\n{PLUGIN} = inspector\n" if where == "file" else "")
    if where == "environment":
        variables[PLUGIN] = "inspector"
    setup = ask(DEFAULT, plugin, tmp_path / "a", variables, (2, 28, 9))
    assert (setup.mode, setup.plugin) == (LOG, "inspector")
    assert "NCCL_PROFILER_PLUGIN is set to inspector" in setup.why
    assert variables.get(PLUGIN) == ("inspector" if where == "environment" else None)
    assert FOLDER not in variables
    assert "COLL" in variables["NCCL_DEBUG_SUBSYS"]


def test_an_old_nccl_and_a_missing_plugin_leave_the_log(tmp_path: Path, plugin: str) -> None:
    old = ask(DEFAULT, plugin, tmp_path / "a", home(tmp_path), (2, 21, 5))
    assert old.mode == LOG
    assert "2.21.5" in old.why
    missing = ask(DEFAULT, str(tmp_path / "none.so"), tmp_path / "a", home(tmp_path), (2, 28, 9))
    assert (missing.mode, missing.plugin) == (LOG, "")
    long = tmp_path / ("x" * 250) / "a.so"
    long.parent.mkdir()
    long.touch()
    assert "no path as long" in ask(DEFAULT, str(long), tmp_path / "a", home(tmp_path), (2, 28, 9)).why


@pytest.mark.parametrize("told", [{"NCCL_DEBUG": "WARN"}, {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_FILE": "/logs/%h"}])
def test_a_log_that_the_user_wants_stays_where_it_is(tmp_path: Path, plugin: str, told: dict[str, str]) -> None:
    variables = home(tmp_path) | told
    setup = ask(DEFAULT, plugin, tmp_path / "a", variables, (2, 28, 9))
    assert setup.log == told.get("NCCL_DEBUG_FILE", "")
    assert {name: value for name, value in variables.items() if name.startswith("NCCL_DEBUG")} == told


def test_a_log_level_in_nccls_own_file_stays_too(tmp_path: Path, plugin: str) -> None:
    variables = home(tmp_path, "NCCL_DEBUG=WARN\n")
    ask(DEFAULT, plugin, tmp_path / "a", variables, (2, 28, 9))
    assert "NCCL_DEBUG" not in variables
