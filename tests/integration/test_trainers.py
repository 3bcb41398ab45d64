"""The callbacks for Lightning and Hugging Face's Trainer: the run has the trainer's steps, its stderr the verdict."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("polars")
pytestmark = pytest.mark.integration

LIGHTNING = """
import shardprof.study.vision  # for a torchvision whose operators do not load here
import json, lightning, logging, os, sys, torch, warnings
from torch.utils.data import DataLoader, TensorDataset
from shardprof.lightning import RecordCallback
class Module(lightning.LightningModule):
    fails = False
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(8, 8)
    def training_step(self, batch, index):
        if self.fails and index == 6:
            raise KeyError("mine")
        return self.model(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())
lightning.seed_everything(0, verbose=False)
data = DataLoader(TensorDataset(torch.randn(100 * 4, 8)), batch_size=4)
def fit(module, **options):
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[RecordCallback(out="run")], **options,
    )
    try:
        trainer.fit(module, data)
    except KeyError:
        pass
    return trainer
"""

TRAINER = """
import shardprof.study.vision  # for a torchvision whose operators do not load here
import json, os, sys, torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from shardprof.huggingface import RecordCallback
class Tokens(torch.utils.data.Dataset):
    fails_at = None
    def __len__(self):
        return 400
    def __getitem__(self, index):
        if index == self.fails_at:
            raise KeyError("mine")
        tokens = torch.arange(index, index + 16) % 64
        return {"input_ids": tokens, "labels": tokens}
config = LlamaConfig(
    vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=32,
)
def trainer():
    arguments = TrainingArguments(
        output_dir="out", use_cpu=True, max_steps=9, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        report_to=[], save_strategy="no", disable_tqdm=True, seed=0, train_sampling_strategy="sequential",
    )
    return Trainer(LlamaForCausalLM(config), arguments, train_dataset=Tokens(), callbacks=[RecordCallback(out="run")])
"""


@pytest.fixture
def told(tmp_path: Path, run_script: Any, report_of: Any) -> Callable[..., tuple[str, list[Any]]]:
    """Runs a script, alone or on two ranks: its stderr, and the reports of the runs that it left, the oldest first."""

    def run(script: str, *, ranks: int = 1) -> tuple[str, list[Any]]:
        done = run_script(tmp_path, script, ranks=ranks, environment={"HF_HUB_OFFLINE": "1"})
        return done.stderr, [report_of(folder) for folder in sorted(tmp_path.glob("run*"))]

    return run


def needs(module: str) -> None:
    """Not by importing it: that may want more than is there."""
    if not find_spec(module):
        pytest.skip(f"{module} is not installed")


def steps(report: Any) -> list[int]:
    """How many steps each rank has by its records."""
    return [rank["always_on"]["steps"] for rank in report["ranks"]]


def captured(report: Any) -> list[list[int]]:
    return [[step["step"] for step in rank["steps"]] for rank in report["ranks"]]


def test_lightning_alone_with_accumulated_gradients(told: Any) -> None:
    needs("lightning")
    stderr, (report,) = told(
        f"{LIGHTNING}\ntrainer = fit(Module(), max_steps=9, accumulate_grad_batches=3, devices=1)\n"
        "assert trainer.global_step == 9"
    )
    assert (steps(report), captured(report)) == ([9], [[2, 3, 4, 5, 6]])
    assert report["source"]["exit_code"] == 0
    assert "-bound: " in stderr or "Mostly idle: " in stderr


def test_lightning_on_two_ranks_that_it_starts_itself(told: Any) -> None:
    needs("lightning")
    stderr, (report,) = told(f"{LIGHTNING}\nfit(Module(), max_steps=9, devices=2, strategy='ddp')")
    assert (steps(report), captured(report)) == ([9, 9], [[2, 3, 4, 5, 6]] * 2)
    assert report["source"]["framework"] == "DDP"
    assert stderr.count("a step") >= 1


def test_a_training_of_lightnings_that_fails_and_is_begun_again(told: Any) -> None:
    needs("lightning")
    _, (failed, again) = told(
        f"{LIGHTNING}\nmodule = Module(); module.fails = True\nfit(module, max_steps=9, devices=1)\n"
        "fit(Module(), max_steps=8, devices=1)"
    )
    assert (steps(failed), failed["source"]["exit_code"]) == ([6], 1)
    assert (steps(again), again["source"]["exit_code"]) == ([8], 0)


def test_hugging_faces_trainer_with_accumulated_gradients(told: Any) -> None:
    needs("transformers")
    stderr, (report,) = told(f"{TRAINER}\nit = trainer(); it.train()\nassert it.state.global_step == 9")
    assert (steps(report), captured(report)) == ([9], [[2, 3, 4, 5, 6]])
    assert "-bound: " in stderr or "Mostly idle: " in stderr


def test_hugging_faces_trainer_on_two_ranks(told: Any) -> None:
    needs("transformers")
    _, (report,) = told(f"{TRAINER}\ntrainer().train()", ranks=2)
    assert (steps(report), captured(report)) == ([9, 9], [[2, 3, 4, 5, 6]] * 2)
    assert report["source"]["framework"] == "DDP"


def test_a_training_of_hugging_faces_that_fails_and_is_begun_again(told: Any) -> None:
    """As in a notebook: the Trainer tells its callbacks nothing of the failure."""
    needs("transformers")
    _, (failed, again) = told(
        f"{TRAINER}\nTokens.fails_at = 21\nfails = trainer()\ntry:\n    fails.train()\nexcept KeyError:\n    pass\n"
        "assert fails.state.global_step == 4\nTokens.fails_at = None\ntrainer().train()"
    )
    assert (steps(failed), failed["source"]["exit_code"]) == ([4], 1)
    assert (steps(again), again["source"]["exit_code"]) == ([9], 0)
