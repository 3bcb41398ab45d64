"""Steps as a run of Weights & Biases. `WANDB_MODE`, `WANDB_ENTITY` and the rest of its variables hold.

A recorder makes one run, in which each rank's metrics have the rank before their name: charts can lay ranks over each
other, and a thousand ranks do not make a thousand runs. Where several nodes record, theirs share a group.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import wandb

from shardprof.sinks._following import StepRow
from shardprof.trace.live import rank_records
from shardprof.trace.schema import RunFolder, RunRecord, read_whole

TIMEOUTS_S = {"WANDB_INIT_TIMEOUT": 30, "WANDB_FINISH_TIMEOUT": 30}
"""How long it waits for a server unless the user says so; what is not sent stays on the disk, for `wandb sync`. By
variables, since not all versions know both as settings."""
STEP = "step"


def open_sink(run: RunFolder, target: str | None) -> WeightsAndBiases:
    """Into the project `target`, else into that of the user's settings."""
    return WeightsAndBiases(run, target)


class WeightsAndBiases:
    """One run of W&B. Making it raises what W&B raises, where nobody is logged in for one."""

    def __init__(self, run: RunFolder, project: str | None) -> None:
        for name, seconds in TIMEOUTS_S.items():
            os.environ.setdefault(name, str(seconds))
        wandb.setup(settings=_settings())
        self._run = wandb.init(
            project=project,
            group=run.name,
            name=run.name,
            job_type="shardprof",
            config=_config(run),
            dir=str(run.root),
        )
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)  # W&B's own steps only ever grow, ranks' do not wait for others
        self.place = self._run.settings.sync_dir if self._run.offline else str(self._run.url)

    def put(self, rank: int, rows: Sequence[StepRow]) -> None:
        """A line of history a row; W&B sends it when it likes."""
        for row in rows:
            named = {f"rank {rank}/{name}": value for name, value in row.values.items()}
            self._run.log({STEP: row.step, "_timestamp": row.end_ns / 1e9, **named})

    def close(self) -> None:
        """Wait until all is sent."""
        self._run.finish()


def _settings() -> wandb.Settings:
    """It asks for nothing, prints nothing, and keeps nothing of this process, whose command may hold a secret."""
    return wandb.Settings(silent=True, console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True)


def _config(run: RunFolder) -> dict[str, Any]:
    """What is known of the run; not its command, which may hold a secret."""
    record = read_whole(RunRecord, run.run_file)
    known: dict[str, Any] = {
        "launcher": record.launcher,
        "versions": record.versions,
        "environment": record.environment,
    }
    for rank in rank_records(run)[:1]:
        of_rank = {"framework": rank.framework, "world_size": rank.world_size}
        known |= {**of_rank, **rank.settings, "versions": record.versions | rank.versions}
    return known
