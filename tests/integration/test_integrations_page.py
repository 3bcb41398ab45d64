"""The blocks of docs/integrations.md run as they stand there, with no more than what a reader has: a model and data."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("polars")
pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "integrations.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

LIGHTNING = """
import shardprof.study.vision  # for a torchvision whose operators do not load here
import lightning, torch
class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(8, 8)
    def training_step(self, batch, index):
        return self.model(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters())
module, data = Module(), torch.utils.data.DataLoader(torch.randn(80, 8), batch_size=4)
"""

HUGGING_FACE = """
import shardprof.study.vision  # for a torchvision whose operators do not load here
import torch
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments
tokens = torch.arange(16) % 64
dataset = [{"input_ids": tokens, "labels": tokens}] * 40
model = LlamaForCausalLM(LlamaConfig(
    vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
    num_key_value_heads=2, max_position_embeddings=32,
))
arguments = TrainingArguments(
    output_dir="out", use_cpu=True, max_steps=10, per_device_train_batch_size=2, report_to=[], save_strategy="no"
)
"""

OFFLINE = {"HF_HUB_OFFLINE": "1"}
READERS = {
    "a block": ("", 1, "shardprof.record() as recording:\n    for"),
    "ranks": ("", 2, "init_process_group"),
    "lightning": (LIGHTNING, 1, "shardprof.lightning"),
    "hugging face": (HUGGING_FACE, 1, "shardprof.huggingface"),
    "jupyter": ("", 1, "shardprof.compare"),
}


def test_every_block_of_the_page_is_run() -> None:
    matched = [next((b for b in BLOCKS if sign in b), None) for _, _, sign in READERS.values()]
    assert len(set(matched)) == len(BLOCKS) == len(READERS)


@pytest.mark.parametrize("reader", READERS)
def test_a_block_runs(reader: str, tmp_path: Path, run_script: Any) -> None:
    before, ranks, sign = READERS[reader]
    script = before + next(block for block in BLOCKS if sign in block)
    (tmp_path / "traces").symlink_to(CHECKOUT / "traces")
    done = run_script(tmp_path, script, ranks=ranks, environment=OFFLINE)
    if reader == "jupyter":
        assert "compute" in done.stdout
    else:
        assert "a step" in done.stdout + done.stderr
        assert len(list((tmp_path / "shardprof-runs").iterdir())) == 1


def test_a_block_may_stay_in_the_script_under_the_command(tmp_path: Path, record_job: Any) -> None:
    (tmp_path / "train.py").write_text(next(block for block in BLOCKS if READERS["a block"][2] in block))
    done = record_job(tmp_path, sys.executable, "train.py")
    assert done.exit_code == 0, done.stderr
    assert "this block recorded nothing: `shardprof record` records this job already" in done.stdout.decode()


def test_the_block_for_torchtitan_imports_what_there_is() -> None:
    (block,) = re.findall(r"```py\n(.*?)```", PAGE, re.DOTALL)
    compile(block, "docs/integrations.md", "exec")
    (line,) = [line for line in block.splitlines() if line.startswith("from shardprof")]
    exec(line, {})
