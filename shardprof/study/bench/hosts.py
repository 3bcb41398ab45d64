"""On which machines a training runs, and how a command is started on each."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from shardprof.errors import ShardprofError
from shardprof.recording.environment import allowed
from shardprof.study.bench.output import last_words, text_of

SSH = "ssh -tt -o BatchMode=yes {host}"  # with a terminal: what runs on a host ends when its ssh does
_ALSO_HANDED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "HOME")
_ANSWER_MAY_TAKE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """Machines that see the same folders. `shell` starts a command on one: `{host}` is its name, `{index}` its number.
    Without names it is this machine alone."""

    names: tuple[str, ...] = ()
    shell: str = SSH

    @property
    def address(self) -> str:
        """Where ranks meet."""
        return self.names[0] if self.names else "127.0.0.1"

    def on(self, index: int, command: Sequence[str], environment: dict[str, str]) -> list[str]:
        """The command that starts `command` on a host, in this folder; `environment` is added to what decides here how
        a job runs."""
        if not self.names:
            return [*_env(environment), *command]
        prefix = _prefix(self.shell, self.names[index], index)
        handed_on = allowed(os.environ) | {name: os.environ[name] for name in _ALSO_HANDED_ON if name in os.environ}
        words = ["env", f"--chdir={Path.cwd()}", *_words(handed_on | environment), *command]
        # ssh gives its words to a shell as one line; what starts programs itself takes them one by one.
        return [*prefix, shlex.join(words)] if Path(prefix[0]).name == "ssh" else [*prefix, *words]

    def check(self, nodes: int) -> None:
        """Raise ShardprofError where one of the first hosts cannot start this Python in this folder."""
        for index, name in enumerate(self.names[:nodes]):
            problem = _problem_with(self.on(index, [sys.executable, "-c", ""], {}))
            if problem:
                raise ShardprofError(
                    f"{name} cannot run a training: {problem}",
                    "all hosts need this folder and this Python at the same paths, and --shell to reach them",
                )


def hosts_of(names: str | None, shell: str | None) -> Hosts:
    """Of the options --hosts and --shell. Raises ShardprofError for what names no host, or starts nothing."""
    found = tuple(name.strip() for name in names.split(",")) if names is not None else ()
    if not all(found):
        raise ShardprofError(f"--hosts {names!r} has an empty name", "name the hosts as in --hosts node-a,node-b")
    hosts = Hosts(names=found, shell=SSH if shell is None else shell)
    _prefix(hosts.shell, hosts.address, 0)
    return hosts


def program(name: str) -> str:
    """A program of this Python's environment, the same path on every host."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def _prefix(shell: str, host: str, index: int) -> list[str]:
    try:
        prefix = shlex.split(shell.format(host=host, index=index))
    except (ValueError, LookupError, AttributeError) as error:
        raise _no_shell(shell, f"{type(error).__name__}: {error}") from error
    if not prefix:
        raise _no_shell(shell, "it is empty")
    return prefix


def _no_shell(shell: str, reason: str) -> ShardprofError:
    return ShardprofError(
        f"--shell {shell!r} starts nothing ({reason})", "only {host} and {index} stand in it; write other braces twice"
    )


def _problem_with(command: Sequence[str]) -> str:
    """Why a command does not end well; "" where it does."""
    with TemporaryFile() as said:  # a pipe would be waited for while whatever the command left behind holds it
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, timeout=_ANSWER_MAY_TAKE_S
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {_ANSWER_MAY_TAKE_S} s"
        except OSError as error:
            return f"{command[0]}: {error.strerror}"
        said.seek(0)
        words = last_words([text_of(said.read())]) or "it printed nothing"
    return f"exit code {done.returncode}; {words}" if done.returncode else ""


def _env(environment: dict[str, str]) -> list[str]:
    return ["env", *_words(environment)] if environment else []


def _words(environment: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(environment.items())]
