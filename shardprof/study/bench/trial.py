"""One training of a cell: its name, its folder, and the command that starts it on each node."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec

from shardprof.study.bench.cells import Cell, cell_id
from shardprof.study.bench.hosts import Hosts, program
from shardprof.study.bench.study_file import Length
from shardprof.study.knobs import Knobs

WORKLOAD = "shardprof.study.workloads.vit"
_LOG_EVERY = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The `repeat`-th training of a cell, which is the `position`-th of all, on "cuda" or "cpu"."""

    cell: Cell
    knobs: Knobs
    length: Length
    repeat: int
    position: int
    device: str
    fabric_bytes_per_s: float | None

    @property
    def cell_id(self) -> str:
        """The same for all repeats."""
        return cell_id(self.cell, self.length, self.knobs, self.fabric_bytes_per_s, self.device)

    @property
    def trial_id(self) -> str:
        """The name of its folder and its row."""
        return f"{self.cell_id}-{self.repeat}"


@dataclass(frozen=True, slots=True)
class TrialFolder:
    """Where a training leaves what it did."""

    root: Path

    @property
    def run(self) -> Path:
        """What `shardprof record` wrote."""
        return self.root / "run"

    @property
    def training(self) -> Path:
        """What the training wrote itself: losses, accuracies, facts."""
        return self.root / "training"

    def output(self, node: int) -> Path:
        """What a node's part of the job printed."""
        return self.root / f"output.{node}.txt"


def commands(planned: Planned, folder: TrialFolder, hosts: Hosts, port: int) -> list[list[str]]:
    """What to start, for each node; all nodes write into one run folder."""
    environment = {"DS_ACCELERATOR": "cpu", "CUDA_VISIBLE_DEVICES": ""} if planned.device == "cpu" else {}
    if planned.length.threads:
        environment["OMP_NUM_THREADS"] = str(planned.length.threads)
    window = f"{planned.length.warm_up}:{planned.length.warm_up + planned.length.captured}"
    record = [program("shardprof"), "record", "--out", str(folder.run), "--steps", window, "--"]
    training = _training(planned, folder)
    return [
        hosts.on(node, [*record, *_launcher(planned, folder, hosts, port, node), *training], environment)
        for node in range(planned.cell.nodes)
    ]


def _launcher(planned: Planned, folder: TrialFolder, hosts: Hosts, port: int, node: int) -> list[str]:
    cell, ranks_a_node = planned.cell, str(planned.cell.ranks // planned.cell.nodes)
    if planned.length.launcher == "torchrun":
        return [
            program("torchrun"), "--nnodes", str(cell.nodes), "--node-rank", str(node),
            "--nproc-per-node", ranks_a_node, "--master-addr", hosts.address, "--master-port", str(port),
            "-m", WORKLOAD,
        ]  # fmt: skip
    several = _of_several_nodes(cell, folder, hosts, node) if cell.nodes > 1 else []
    return [
        program("deepspeed"), *several, "--num_accelerators", ranks_a_node, "--master_addr", hosts.address,
        "--master_port", str(port), "--module", WORKLOAD,
    ]  # fmt: skip


def _of_several_nodes(cell: Cell, folder: TrialFolder, hosts: Hosts, node: int) -> list[str]:
    """DeepSpeed's launcher on each node by itself, told of the others by a file."""
    file = folder.root / "hostfile"
    slots = cell.ranks // cell.nodes
    file.write_text("".join(f"{name} slots={slots}\n" for name in hosts.names[: cell.nodes]))
    return ["--hostfile", str(file), "--no_ssh", "--node_rank", str(node)]


def _training(planned: Planned, folder: TrialFolder) -> list[str]:
    cell, length = planned.cell, planned.length
    arguments: dict[str, object] = {
        "--strategy": cell.strategy, "--precision": cell.precision, "--batch-size": cell.batch_size,
        "--accumulation": cell.accumulation, "--model": cell.model, "--shard-size": cell.shard_size,
        "--data": length.data, "--workers": length.workers, "--seed": length.seed, "--lr": length.lr,
        "--clip-norm": length.clip_norm, "--threads": length.threads, "--steps": length.steps,
        "--epochs": length.epochs, "--evaluate-every": length.evaluate_every, "--log-every": _LOG_EVERY,
        "--losses": folder.training, "--knobs": msgspec.json.encode(planned.knobs).decode(),
    }  # fmt: skip
    given = [word for name, value in arguments.items() if value is not None for word in (name, str(value))]
    return [*given, "--checkpointing"] if cell.checkpointing else given
