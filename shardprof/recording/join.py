"""Where a recording goes: a new run folder, or the one that the recorder of another node has just made.

Exclusive creation decides each question: who makes the run (`run.json`), whose host folder is whose (`mkdir`). A folder
with a run that is over is never mixed into: the recording goes to `<folder>-2`, and so on.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shardprof import __version__
from shardprof.recording import environment, identity, node
from shardprof.trace.request import make_request_file
from shardprof.trace.schema import HOST_FILE, CapturePlan, RunFolder, RunRecord, read_whole, to_whole_json

RUNS_FOLDER = "shardprof-runs"
CLAIMING_S = 2.0  # between claiming its folder and saying which node it is a recorder needs milliseconds


def join_run(out: Path | None, command: tuple[str, ...], plan: CapturePlan) -> RunFolder:
    """The run folder to record into, made or joined. OSError where it cannot be written."""
    return next(run for run in _candidates(out, command) if _make(run, command, plan) or _is_live(run))


def make_run(out: Path | None, command: tuple[str, ...], plan: CapturePlan) -> RunFolder:
    """A new run folder, `out` itself where it holds no run yet. OSError where it cannot be written."""
    return next(run for run in _candidates(out, command) if _make(run, command, plan))


def claim_host(run: RunFolder) -> str:
    """The name under which this recorder's node appears in the run: its hostname, numbered if that is taken."""
    hostname = identity.hostname()
    name, number = hostname, 1
    run.host(name).parent.mkdir(exist_ok=True)
    while True:
        try:
            run.host(name).mkdir()
            return name
        except FileExistsError:
            number += 1
            name = f"{hostname}-{number}"


def first_on_node(run: RunFolder, host: str) -> str:
    """The recorder that samples this node: with one in each task of a job there are several, this is `host`."""
    for folder in _in_order(run.host_folders()):
        if folder.name == host:
            break
        end = time.monotonic() + CLAIMING_S
        while not (folder / HOST_FILE).exists() and time.monotonic() < end:
            time.sleep(0.05)
        if node.is_alive(folder) and node.identity_in(folder) == identity.of_node():
            return folder.name
    return host


def _in_order(hosts: list[Path]) -> list[Path]:
    """As they were claimed: `a`, `a-2`, ..., `a-10`."""
    return sorted(hosts, key=lambda host: (len(host.name), host.name))


def launcher_of(command: tuple[str, ...]) -> str:
    """What starts the ranks: `torchrun`, `deepspeed`, `torch.distributed.run`, `python`, ..."""
    program = Path(command[0]).name
    if program.startswith("python"):
        module = command[command.index("-m") + 1] if "-m" in command[1:-1] else ""
        return module if module.startswith(("torch.distributed", "accelerate", "deepspeed")) else "python"
    return program


def _default(command: tuple[str, ...]) -> Path:
    scripts = [part for part in command if part.endswith(".py")]
    stem = Path(scripts[0] if scripts else command[0]).stem
    return Path(RUNS_FOLDER) / f"{time.strftime('%Y%m%d-%H%M%S')}-{stem}"


def _candidates(out: Path | None, command: tuple[str, ...]) -> Iterator[RunFolder]:
    """The folder that is wanted, then `<folder>-2`, and so on."""
    wanted = (out or _default(command)).absolute()
    yield RunFolder(wanted)
    yield from (RunFolder(wanted.with_name(f"{wanted.name}-{number}")) for number in itertools.count(2))


def _make(run: RunFolder, command: tuple[str, ...], plan: CapturePlan) -> bool:
    """Make the run; False where there is one."""
    run.root.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(run.run_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        return False
    record = RunRecord(
        command=command,
        launcher=launcher_of(command),
        started_ns=time.time_ns(),
        plan=plan,
        versions={"shardprof": __version__},
        environment=environment.allowed(os.environ),
    )
    with os.fdopen(descriptor, "w") as file:
        file.write(to_whole_json(record))
    make_request_file(run.root)
    return True


def _is_live(run: RunFolder) -> bool:
    try:
        is_over = read_whole(RunRecord, run.run_file).outcome is not None
    except (ValueError, TypeError):
        is_over = False  # being written at this moment
    if is_over:
        return False
    hosts = run.host_folders()
    return any(node.is_alive(host) for host in hosts) if hosts else node.is_fresh(run.run_file)
