"""Gets the agent into every Python process of the job: a bootstrap folder at the head of PYTHONPATH, nothing else.

The configuration lies in that folder, since some launchers hand few variables on to other nodes, PYTHONPATH among them.
"""

from __future__ import annotations

import atexit
import dataclasses
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import shardprof
from shardprof.recording import identity
from shardprof.trace.schema import CapturePlan, RunFolder

AGENT_LOG = "agent.log"
BOOTSTRAP = Path(__file__).with_name("bootstrap") / "sitecustomize.py"


def write_bootstrap(run: RunFolder, recorder: str, host: str, plan: CapturePlan) -> Path:
    """Make the bootstrap folder of this recorder: in the run, or where that is no entry of a path, a temporary one.

    Ranks will be those of `host`.
    """
    folder = run.host(recorder) / "bootstrap"
    if os.pathsep in str(folder):
        temporary = Path(tempfile.mkdtemp(prefix="shardprof-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        folder = temporary / folder.name
    folder.mkdir()
    shutil.copyfile(BOOTSTRAP, folder / BOOTSTRAP.name)
    config = {
        "run": str(run.root),
        "host": host,
        "node": identity.of_node(),
        "recorder_pid": os.getpid(),
        "package": str(Path(shardprof.__file__).parent.absolute()),
        "log": str(run.host(recorder) / AGENT_LOG),
        "plan": dataclasses.asdict(plan),
        "nccl": {"mode": plan.nccl, "plugin": str(nccl_plugin())},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def nccl_plugin() -> Path:
    """Our plugin for NCCL, which lies beside the compiled core."""
    core = importlib.util.find_spec("shardprof._native")
    return Path(core.origin if core and core.origin else shardprof.__file__).with_name("libshardprof_nccl.so")


def environment_with(bootstrap: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The job's environment: as it is, the bootstrap folder first on PYTHONPATH."""
    paths = [str(bootstrap), *filter(None, [environment.get("PYTHONPATH")])]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}
