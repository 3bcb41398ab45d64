"""Every launcher of docs/launchers.md starts ranks that are recorded, once each, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from . import jobs
from .jobs import DDP, RecordJob, RunBoth, check_ranks

pytest.importorskip("torch")
pytestmark = pytest.mark.integration


def needs(package: str) -> None:
    """Skip where it is not installed. It is not imported: a test of ours need not be able to."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def until(holds: Callable[[], bool]) -> None:
    """Wait for it."""
    give_up = time.monotonic() + jobs.TIMEOUT_S
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def is_open(port: int) -> bool:
    """Does somebody listen there?"""
    with socket.socket() as client:
        return client.connect_ex(("localhost", port)) == 0


@pytest.fixture
def run_both(
    record_job: RecordJob, job_environment: Callable[..., dict[str, str]], free_port: Callable[[], str], tmp_path: Path
) -> RunBoth:
    return functools.partial(jobs.run_both, record_job, job_environment, free_port, tmp_path)


def test_torchrun_with_a_program_of_its_own(run_both: RunBoth) -> None:
    options = ("--master-port", "PORT", "--nproc-per-node", "2", "--no-python")
    check_ranks(run_both(DDP, "torchrun", *options, "python", "-c", DDP), ranks=2, steps=10)


RESTARTED = f"""
import os, sys, time
is_first = not os.path.exists("failed")
{DDP}
if is_first and os.environ["RANK"] == "1":
    open("failed", "w").close()
    sys.exit(1)
if is_first:
    time.sleep(120)  # until the agent, whose rank has not failed, joins the next round
"""


def test_two_elastic_agents_restart_their_ranks(
    record_command: Any, job_environment: Any, free_port: Any, read_run: Any, report_of: Any, tmp_path: Path
) -> None:
    """One agent counts a restart, the other one does not: both ranks begin anew."""
    (tmp_path / "train.py").write_text(RESTARTED)
    # The store that agents share keeps addresses of the round before, apart by the restart count, which differs here.
    environment = job_environment({"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})
    rendezvous = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{free_port()}", "--nnodes", "2")
    command = ("torchrun", *rendezvous, "--nproc-per-node", "1", "--max-restarts", "1", "-m", "train")
    nodes = [
        subprocess.Popen(
            record_command(*command, out=tmp_path / "run", options=jobs.STEPS),
            cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    errors = [node.communicate(timeout=jobs.TIMEOUT_S)[1].decode() for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    recorded = read_run(tmp_path / "run")
    assert recorded.run.outcome.exit_code == 0
    assert len(recorded.run.hosts) == 2
    assert recorded.run.ranks == (0, 1)
    for rank in (0, 1):
        assert len(recorded.steps(rank)) == 10
        before = recorded.folder.rank(rank) / "attempt-0" / "steps.jsonl"
        assert len(before.read_text().splitlines()) == 10
        assert {claim.name for claim in recorded.folder.rank(rank).glob("claim.*")} == {"claim.0", "claim.1"}
    assert {rank["rank"] for rank in report_of(tmp_path / "run")["ranks"]} == {0, 1}


SHRUNK = f"""
import os, sys, time
{DDP}
while not os.path.exists("killed"):  # also where this node began alone: the other one's coming starts it anew
    time.sleep(0.1)
sys.exit(int(os.environ["WORLD_SIZE"]) - 1)
"""


def test_a_job_that_goes_on_with_fewer_ranks_is_reported_without_the_others(
    record_command: Any, job_environment: Any, free_port: Any, read_run: Any, report_of: Any, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(SHRUNK)
    environment = job_environment({"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"})
    port = free_port()
    rendezvous = ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--nnodes", "1:2")
    quick = ("--rdzv-conf", "last_call_timeout=2,keep_alive_interval=2,keep_alive_max_attempt=3")
    command = ("torchrun", *rendezvous, *quick, "--nproc-per-node", "1", "--max-restarts", "3", "-m", "train")
    nodes = []
    for _ in range(2):  # the first one keeps the rendezvous, so it must be the one that stays
        nodes.append(
            subprocess.Popen(
                record_command(*command, out=tmp_path / "run", options=jobs.STEPS),
                cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
        until(lambda: is_open(int(port)))
    ranks = [tmp_path / "run" / "ranks" / f"0000{rank}" / "steps.jsonl" for rank in range(2)]
    until(lambda: all(file.exists() and len(file.read_text().splitlines()) == 10 for file in ranks))
    for process in [*psutil.Process(nodes[1].pid).children(recursive=True), nodes[1]]:
        process.kill()
    (tmp_path / "killed").touch()
    errors = [node.communicate(timeout=jobs.TIMEOUT_S)[1].decode() for node in nodes]
    assert nodes[0].returncode == 0, errors
    report = report_of(tmp_path / "run")
    assert [rank["rank"] for rank in report["ranks"]] == [0]
    assert "ranks_gone" in {doubt["code"] for doubt in report["quality"]}
    assert "missing_ranks" not in {doubt["code"] for doubt in report["quality"]}


ACCELERATE = """
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
torch.manual_seed(0)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.AdamW(model.parameters())
data = DataLoader(TensorDataset(torch.randn(2 * 20 * 4, 8)), batch_size=4)
model, optimizer, data = accelerator.prepare(model, optimizer, data)
for batch, in data:
    with accelerator.accumulate(model):
        loss = model(batch).square().mean()
        accelerator.backward(loss); optimizer.step(); optimizer.zero_grad()
    accelerator.print(loss.item().hex())
import time; time.sleep(0.3)  # until gloo lets go of its tensors: torch may abort at exit otherwise
accelerator.end_training()
"""


def test_accelerate_launch(run_both: RunBoth) -> None:
    """Gradients of two batches are accumulated: a step is both."""
    needs("accelerate")
    processes = ("--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "PORT")
    plain = ("--mixed_precision", "no", "--dynamo_backend", "no")
    recorded = run_both(ACCELERATE, "accelerate", "launch", *processes, *plain, "train.py")
    check_ranks(recorded, ranks=2, steps=10)
    assert (recorded.rank().framework, recorded.run.launcher) == ("DDP", "accelerate")
    assert recorded.rank().versions["accelerate"]


LIGHTNING = """
import shardprof.study.vision  # for a torchvision whose operators do not load here
import lightning, torch
from torch.utils.data import DataLoader, TensorDataset
class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(8, 8)
    def training_step(self, batch, index):
        loss = self.model(batch[0]).square().mean()
        if self.global_rank == 0:
            print(loss.item().hex(), flush=True)
        return loss
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())
lightning.seed_everything(0)
trainer = lightning.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_steps=10, logger=False, enable_checkpointing=False,
    enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=True,
)
trainer.fit(Module(), DataLoader(TensorDataset(torch.randn(2 * 10 * 4, 8)), batch_size=4))
"""


def test_lightning_starts_its_second_rank_itself(run_both: RunBoth) -> None:
    needs("lightning")
    recorded = run_both(LIGHTNING, "python", "train.py")
    check_ranks(recorded, ranks=2, steps=10)
    assert recorded.rank(1).local_rank == 1


TRAINER = """
import shardprof.study.vision  # for a torchvision whose operators do not load here
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
class Tokens(torch.utils.data.Dataset):
    def __len__(self):
        return 2 * 2 * 20
    def __getitem__(self, index):
        tokens = torch.arange(index, index + 16) % 64
        return {"input_ids": tokens, "labels": tokens}
config = LlamaConfig(
    vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=32,
)
arguments = TrainingArguments(
    output_dir="out", use_cpu=True, max_steps=10, per_device_train_batch_size=2, gradient_accumulation_steps=2,
    logging_steps=1, report_to=[], save_strategy="no", disable_tqdm=True, dataloader_num_workers=1, seed=0,
)
class Losses(TrainerCallback):
    def on_log(self, arguments, state, control, logs=None, **_):
        if state.is_world_process_zero and "loss" in logs:
            print(logs["loss"], logs["grad_norm"], flush=True)
torch.manual_seed(0)
trainer = Trainer(LlamaForCausalLM(config), arguments, train_dataset=Tokens(), callbacks=[Losses()])
trainer.remove_callback(PrinterCallback)  # it prints how long it took
trainer.train()
"""


def test_hugging_faces_trainer(run_both: RunBoth) -> None:
    needs("transformers")
    options = ("--master-port", "PORT", "--nproc-per-node", "2")
    recorded = run_both(TRAINER, "torchrun", *options, "train.py", environment={"HF_HUB_OFFLINE": "1"})
    check_ranks(recorded, ranks=2, steps=10)
    assert recorded.rank().versions["transformers"]


ALONE = """
import torch
torch.manual_seed(0)
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(10):
    loss = model(torch.ones(4, 8)).square().mean()
    loss.backward(); optimizer.step(); optimizer.zero_grad()
print(loss.item().hex(), flush=True)
"""

SRUN = """#!/usr/bin/env bash
# What srun tells its tasks, on one node: srun -n TASKS COMMAND...
tasks=$2; shift 2
for ((task = 0; task < tasks; task++)); do
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=$tasks SLURM_STEP_NUM_TASKS=$tasks "$@" &
done
failed=0
for ((task = 0; task < tasks; task++)); do wait -n || failed=$?; done
exit $failed
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script of Slurm's, with an `srun`."""
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    path = os.pathsep.join([str(Path(sys.executable).parent), str(tmp_path), os.environ["PATH"]])
    return {"PATH": path, "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "2"}


def test_mpirun_tells_the_ranks_of_a_script_without_a_process_group(run_both: RunBoth) -> None:
    if not shutil.which("mpirun"):
        pytest.skip("mpirun is not installed (openmpi-bin)")
    as_root = ("--allow-run-as-root", "--oversubscribe")
    recorded = run_both(ALONE, "mpirun", *as_root, "-n", "2", "python", "train.py")
    check_ranks(recorded, ranks=2, steps=10)
    assert recorded.rank(1).local_rank == 1


def test_srun_tells_the_ranks_of_a_script_without_a_process_group(run_both: RunBoth, slurm: dict[str, str]) -> None:
    recorded = run_both(ALONE, "srun", "-n", "2", "python", "train.py", environment=slurm)
    check_ranks(recorded, ranks=2, steps=10)
    assert recorded.rank(1).local_rank == 1


def test_a_recorder_in_every_task_of_srun(
    record_command: Any,
    job_environment: Any,
    free_port: Any,
    read_run: Any,
    report_of: Any,
    slurm: dict[str, str],
    tmp_path: Path,
) -> None:
    by_slurm = 'os.environ.update(RANK=os.environ["SLURM_PROCID"], WORLD_SIZE=os.environ["SLURM_NTASKS"])'
    (tmp_path / "train.py").write_text(f"import os\n{by_slurm}\n{DDP}")
    environment = {**slurm, "MASTER_ADDR": "localhost", "MASTER_PORT": free_port()}
    done = subprocess.run(
        ["srun", "-n", "2", *record_command("python", "train.py", out=tmp_path / "run", options=jobs.STEPS)],
        cwd=tmp_path, env=job_environment(environment), capture_output=True, timeout=jobs.TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert len(done.stdout.splitlines()) == 10
    recorded = read_run(tmp_path / "run")
    assert recorded.run.ranks == (0, 1)
    assert [len(recorded.steps(rank)) for rank in (0, 1)] == [10, 10]
    assert len(recorded.run.hosts) == 2
    records = [json.loads((host / "host.json").read_text()) for host in recorded.folder.host_folders()]
    assert len({record["identity"] for record in records}) == 1
    assert sorted(rank["rank"] for rank in report_of(tmp_path / "run")["ranks"]) == [0, 1]


SSH_NODES = {"127.0.0.1": os.uname().nodename, "127.0.0.2": "node-b"}
SSHD_CONFIG = """
ListenAddress {address}
Port {port}
HostKey {folder}/key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
"""


@pytest.fixture
def ssh_port(free_port: Callable[[], str], tmp_path: Path) -> Iterator[str]:
    """SSH servers for SSH_NODES, each with a hostname of its own, and an `ssh` in tmp_path that reaches them."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if os.geteuid() != 0 or not server or not shutil.which("pdsh"):
        pytest.skip("needs root, pdsh and sshd (openssh-server)")
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True, timeout=30)
    client = f'-i {tmp_path}/key -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "$@"'
    (tmp_path / "ssh").write_text(f"#!/bin/sh\nexec {shutil.which('ssh')} -F none {client}\n")
    (tmp_path / "ssh").chmod(0o755)
    port = free_port()
    servers = []
    for address, name in SSH_NODES.items():
        config = tmp_path / f"sshd-{address}"
        config.write_text(SSHD_CONFIG.format(address=address, port=port, folder=tmp_path))
        named = f'hostname "{name}" && exec "{server}" -D -e -f "{config}"'
        servers.append(subprocess.Popen(["unshare", "--uts", "sh", "-c", named], stderr=subprocess.DEVNULL))
    for address in SSH_NODES:
        wait_for(address, int(port))
    yield port
    for process in servers:
        process.terminate()
        process.wait(timeout=30)


def wait_for(address: str, port: int) -> None:
    """Until somebody listens there."""
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=10):
            return
        time.sleep(0.1)
    pytest.fail(f"nobody listens on {address}:{port}")


HOSTFILE = """
import os, torch, deepspeed
assert not os.environ.get("PLAIN"), "pdsh hands on a few variables only"
deepspeed.init_distributed("gloo")
config = {"train_micro_batch_size_per_gpu": 4, "optimizer": {"type": "AdamW", "params": {"torch_adam": True}}}
model = torch.nn.Linear(8, 8)
engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
for _ in range(10):
    engine.backward(engine(torch.ones(4, 8)).square().mean())
    engine.step()
"""


def test_deepspeed_with_a_hostfile(
    record_job: RecordJob, free_port: Callable[[], str], report_of: Any, ssh_port: str, tmp_path: Path
) -> None:
    """pdsh starts the ranks on two machines; only one of them has a recorder."""
    needs("deepspeed")
    (tmp_path / "train.py").write_text(HOSTFILE)
    (tmp_path / "hostfile").write_text("".join(f"{address} slots=1\n" for address in SSH_NODES))
    (tmp_path / ".deepspeed_env").write_text("OMP_NUM_THREADS=1\nGLOO_SOCKET_IFNAME=lo\n")
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    nodes = ("--hostfile", "hostfile", "--ssh_port", ssh_port, "--master_addr", "127.0.0.1")
    recorded = record_job(
        tmp_path, "deepspeed", *nodes, "--master_port", free_port(), "train.py",
        options=jobs.STEPS, environment={"PATH": path, "PLAIN": "1"},
    )  # fmt: skip
    assert recorded.exit_code == 0, recorded.stderr
    check_ranks(recorded, ranks=2, steps=10)
    assert "profiler_start" not in recorded.stderr
    (host,) = recorded.run.hosts
    assert [recorded.rank(rank).host for rank in (0, 1)] == [host, "node-b"]
    assert [rank["host"] for rank in report_of(recorded.folder.root)["ranks"]] == [host, "node-b"]
