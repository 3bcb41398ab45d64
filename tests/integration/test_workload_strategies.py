"""Every strategy does the same maths: trained one after the other in one job, their losses agree with DDP's.

Run as a script it is that job: each rank trains with every strategy and rank 0 writes the losses to a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from torch.utils.data import Dataset

from shardprof.study import data
from shardprof.study.knobs import KNOBS_OF, Knobs
from shardprof.study.model import build_model
from shardprof.study.shapes import MODELS, ViTConfig
from shardprof.study.strategies import STRATEGIES, Settings
from shardprof.study.training import fit, make_loader
from shardprof.study.world import World, connected, find_world

TINY = ViTConfig(layers=2, heads=2, width=32, mlp=64, patch_size=8, image_size=32)
TINY_STEPS = 4
SMALL = MODELS["vit_small"]
STEPS = 50
SLOWLY = Settings(batch_size=4, lr=3e-4)
RELATIVE = 1e-4
"""What the losses of the workload's own model may differ by, over so many steps in fp32. Rounding (four ranks sum in
another order than two and two) grows with every step; at lr 1e-3 one bit in the weights is 3e-4 of the loss by then."""
SHARDED = ["fsdp1-full", "fsdp1-grad-op", "fsdp2-full", "fsdp2-grad-op", "zero0", "zero1", "zero2", "zero3"]
KNOBS = {
    "ddp": Knobs(no_sync=True, bucket_mb=1),
    "fsdp1-full": Knobs(no_sync=True, prefetch=1),
    "fsdp1-grad-op": Knobs(wrap="whole"),
    "fsdp2-full": Knobs(no_sync=True, prefetch=2),
    "fsdp2-grad-op": Knobs(wrap="whole"),
    "zero0": Knobs(reduce_bucket_elements=100_000),
    "zero1": Knobs(reduce_bucket_elements=100_000, overlap=True, offload=True),
    "zero2": Knobs(reduce_bucket_elements=100_000, overlap=True),
    "zero3": Knobs(prefetch_bucket_elements=100_000, persistence_threshold=0, offload=True),
}
LOWERED = ["ddp", "fsdp1-full", "fsdp2-full", "zero3"]
HYBRID = ["fsdp1-hybrid", "fsdp2-hybrid"]

Losses = dict[str, list[float]]


def train_all(strategies: list[str], out: Path) -> None:
    """The job: fp32 for every strategy; then of a tiny model fp32 with knobs, and bf16 with checkpointing."""
    world = find_world()
    images, _ = data.load("digits", image_size=TINY.image_size)
    tiny, lower = Settings(batch_size=8, accumulation=2), Settings(batch_size=8, accumulation=2, precision="bf16")
    with connected(world):
        losses = {name: train(name, images, world, SLOWLY, SMALL, STEPS) for name in strategies}
        for name in filter(KNOBS.__contains__, strategies if world.size == 2 else []):
            turned = replace(tiny, knobs=KNOBS[name], clip_norm=0.5)
            losses[f"{name} knobs"] = train(name, images, world, turned, TINY, TINY_STEPS)
        losses["tiny"] = train("ddp", images, world, tiny, TINY, TINY_STEPS)
        for name in filter(LOWERED.__contains__, strategies):
            losses[f"{name} bf16"] = train(name, images, world, lower, TINY, TINY_STEPS)
        if world.rank == 0:
            out.write_text(json.dumps(losses))


def train(
    name: str, images: Dataset[object], world: World, settings: Settings, config: ViTConfig, steps: int
) -> list[float]:
    """This rank's loss in each step; lower precision goes with checkpointing."""
    model = build_model(config, seed=7, checkpointing=settings.precision != "fp32")
    loader = make_loader(images, world, settings, training=True, workers=0, seed=7)
    trainer = STRATEGIES[name](model, world, settings)
    return [progress.loss for progress in fit(trainer, loader, world, settings, steps=steps, log_every=1)]


def run_job(ranks: int, strategies: list[str], folder: Path) -> Losses:
    out = folder / f"{ranks}.json"
    bin_folder = Path(sys.executable).parent
    launcher = [str(bin_folder / "torchrun"), "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, __file__, str(out), *strategies], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    losses: Losses = json.loads(out.read_text())
    return losses


@pytest.fixture(scope="module")
def on_two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Losses:
    return run_job(2, ["ddp", *SHARDED], tmp_path_factory.mktemp("losses"))


@pytest.fixture(scope="module")
def on_four_ranks(tmp_path_factory: pytest.TempPathFactory) -> Losses:
    return run_job(4, ["ddp", *HYBRID], tmp_path_factory.mktemp("losses"))


@pytest.mark.integration
@pytest.mark.parametrize("strategy", SHARDED)
def test_sharding_changes_no_loss(on_two_ranks: Losses, strategy: str) -> None:
    assert len(set(on_two_ranks["ddp"])) == STEPS
    assert on_two_ranks[strategy] == pytest.approx(on_two_ranks["ddp"], rel=RELATIVE)


@pytest.mark.integration
@pytest.mark.parametrize("strategy", KNOBS)
def test_no_knob_changes_a_loss(on_two_ranks: Losses, strategy: str) -> None:
    """Gradients are clipped, which each framework does in its own way."""
    assert on_two_ranks["ddp knobs"] != on_two_ranks["tiny"]
    assert on_two_ranks[f"{strategy} knobs"] == pytest.approx(on_two_ranks["ddp knobs"], abs=1e-3)


def test_every_strategy_has_knobs() -> None:
    assert KNOBS_OF.keys() == STRATEGIES.keys() - {"none"}
    assert all(knobs.told() <= KNOBS_OF[strategy] for strategy, knobs in KNOBS.items())


@pytest.mark.integration
@pytest.mark.parametrize("strategy", HYBRID)
def test_hybrid_sharding_changes_no_loss(on_four_ranks: Losses, strategy: str) -> None:
    assert on_four_ranks[strategy] == pytest.approx(on_four_ranks["ddp"], rel=RELATIVE)


@pytest.mark.integration
@pytest.mark.parametrize("strategy", LOWERED)
def test_bf16_with_checkpointing_stays_close(on_two_ranks: Losses, strategy: str) -> None:
    assert on_two_ranks[f"{strategy} bf16"] == pytest.approx(on_two_ranks["tiny"], abs=3e-2)
    assert on_two_ranks[f"{strategy} bf16"] != on_two_ranks["tiny"]


if __name__ == "__main__":
    train_all(sys.argv[2:], Path(sys.argv[1]))
    os._exit(0)  # torch may abort where one of gloo's threads still holds a tensor; losses are all that is asked for
