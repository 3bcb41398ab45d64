"""A command reaches a host as it is, whether a shell there reads its words or not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shardprof.errors import ShardprofError
from shardprof.study.bench.hosts import SSH, Hosts, hosts_of

AWKWARD = ["plain", "with space", "it's", '{"wrap": "block"}', "$HOME", "a;b", ""]
TELLS = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), os.environ['MARK'], os.environ['PATH']]))"
FAKE_SSH = """#!/bin/sh
# As sshd does: the words after options and host become one line for the user's shell.
while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done
echo "$1" > "$0.host"
shift
cd / && exec env -i sh -c "$*"
"""


def told(command: list[str], path: str | None = None) -> list[object]:
    environment = {"PATH": path} if path else None
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30, check=True)
    answer: list[object] = json.loads(done.stdout)
    return answer


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "ssh"
    program.write_text(FAKE_SSH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return program


def test_ssh_gets_a_line_that_its_shell_takes_apart_again(ssh: Path) -> None:
    command = [sys.executable, "-c", TELLS, *AWKWARD]
    started = Hosts(names=("node-a", "node-b")).on(1, command, {"MARK": "a b'c"})
    path = f"{ssh.parent}:/usr/bin:/bin"
    assert told(started, path) == [AWKWARD, str(ssh.parent), "a b'c", path]
    assert Path(f"{ssh}.host").read_text() == "node-b\n"


def test_another_shell_gets_the_words(ssh: Path) -> None:
    command = [sys.executable, "-c", TELLS, *AWKWARD]
    started = Hosts(names=("a", "b"), shell="env HOST={host} INDEX={index}").on(1, command, {"MARK": "x"})
    assert started[:3] == ["env", "HOST=b", "INDEX=1"]
    assert told(started)[:3] == [AWKWARD, str(ssh.parent), "x"]


@pytest.mark.parametrize("shell", ["x {foo}", "ssh {host", "ssh '{host}", "", " ", "ssh {host.port}", "{0}"])
def test_a_shell_that_starts_nothing_is_refused(shell: str) -> None:
    with pytest.raises(ShardprofError, match="starts nothing"):
        hosts_of("a,b", shell)


@pytest.mark.parametrize("names", ["", ",", "a,", "a,,b"])
def test_hosts_without_a_name_are_refused(names: str) -> None:
    with pytest.raises(ShardprofError, match="has an empty name"):
        hosts_of(names, None)


def test_hosts_are_those_of_the_options() -> None:
    assert hosts_of("a, b", "srun -w {host}") == Hosts(names=("a", "b"), shell="srun -w {host}")
    assert hosts_of(None, None) == Hosts()


def test_a_host_that_cannot_be_reached_is_told_with_its_own_words(tmp_path: Path) -> None:
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\nhost=$1; shift\n[ "$host" = a ] && exec "$@"\necho no way to $host >&2; exit 255\n')
    shell.chmod(0o755)
    hosts = Hosts(names=("a", "b"), shell=f"{shell} {{host}}")
    hosts.check(0)
    hosts.check(1)
    with pytest.raises(ShardprofError, match="b cannot run a training: exit code 255; no way to b"):
        hosts.check(2)
    with pytest.raises(ShardprofError, match="a cannot run a training: absent: No such file"):
        Hosts(names=("a",), shell="absent").check(1)


def test_without_hosts_it_is_this_machine() -> None:
    assert Hosts().on(0, ["train"], {}) == ["train"]
    assert Hosts().address == "127.0.0.1"


def test_only_what_decides_how_a_job_runs_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    line = Hosts(names=("a",), shell=SSH).on(0, ["train"], {})[-1]
    assert "NCCL_SOCKET_IFNAME=eth1" in line
    assert "hidden" not in line
