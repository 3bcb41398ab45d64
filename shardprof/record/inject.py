"""Gets the agent into every Python process of the job: a bootstrap folder at the head of PYTHONPATH, nothing else.

The configuration lies in that folder, since some launchers hand few variables on to other nodes, PYTHONPATH among them.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import shardprof
from shardprof.trace.schema import CapturePlan, RunFolder

AGENT_LOG = "agent.log"
BOOTSTRAP = Path(__file__).with_name("bootstrap") / "sitecustomize.py"


def write_bootstrap(run: RunFolder, host: str, plan: CapturePlan) -> Path:
    """Make the bootstrap folder of this node: in the run, or where that is no entry of a path, a temporary one."""
    folder = run.host(host) / "bootstrap"
    if os.pathsep in str(folder):
        folder = Path(tempfile.mkdtemp(prefix="shardprof-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    else:
        folder.mkdir()
    shutil.copyfile(BOOTSTRAP, folder / BOOTSTRAP.name)
    config = {
        "run": str(run.root),
        "host": host,
        "package": str(Path(shardprof.__file__).parent.absolute()),
        "log": str(run.host(host) / AGENT_LOG),
        "plan": dataclasses.asdict(plan),
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


# Kineto writes its own progress ("USDT: ... profiler_start") to the job's stderr up to this level.
KINETO_SILENCE = {"KINETO_LOG_LEVEL": "6"}


def environment_with(bootstrap: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The job's environment: as it is, the bootstrap folder first on PYTHONPATH."""
    paths = [str(bootstrap), *filter(None, [environment.get("PYTHONPATH")])]
    return {**KINETO_SILENCE, **environment, "PYTHONPATH": os.pathsep.join(paths)}
