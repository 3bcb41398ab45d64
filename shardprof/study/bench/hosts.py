"""On which machines a training runs, and how a command is started on each."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shardprof.record.environment import allowed

SSH = "ssh -o BatchMode=yes {host}"
_ALSO_HANDED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "XDG_CACHE_HOME", "HOME")


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
        prefix = shlex.split(self.shell.format(host=self.names[index], index=index))
        handed_on = allowed(os.environ) | {name: os.environ[name] for name in _ALSO_HANDED_ON if name in os.environ}
        words = ["env", f"--chdir={Path.cwd()}", *_words(handed_on | environment), *command]
        # ssh gives its words to a shell as one line; what starts programs itself takes them one by one.
        return [*prefix, shlex.join(words)] if Path(prefix[0]).name == "ssh" else [*prefix, *words]


def program(name: str) -> str:
    """A program of this Python's environment, the same path on every host."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def _env(environment: dict[str, str]) -> list[str]:
    return ["env", *_words(environment)] if environment else []


def _words(environment: dict[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in sorted(environment.items())]
