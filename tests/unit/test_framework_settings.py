"""Settings are read from the internals of frameworks: what one version has not costs that setting, nothing else."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from shardprof.recording.frameworks import ddp
from shardprof.recording.frameworks._common import part, told
from shardprof.recording.frameworks._model_states import follow_optimizers, model_states, optimizers_of


def test_a_setting_that_cannot_be_read_costs_itself() -> None:
    module: Any = SimpleNamespace(size=3)
    assert told(size=lambda: module.size, other=lambda: module.renamed, unset=lambda: None) == {"size": 3}
    assert part(lambda: {"size": module.size}) == {"size": 3}
    assert part(lambda: {"size": module.size, "other": module.renamed}) == {}


def test_a_ddp_of_another_version_tells_what_it_has() -> None:
    module: Any = SimpleNamespace(module=torch.nn.Linear(3, 2), bucket_bytes_cap=7)
    known = ddp.describe(module)
    assert (known["strategy"], known["parameters"], known["bucket_bytes"]) == ("DDP", 8, 7)
    assert "gradient_bytes" not in known


def test_states_are_the_live_storages_each_once() -> None:
    follow_optimizers()
    model = torch.nn.Sequential(torch.nn.Linear(64, 64, bias=False), torch.nn.Linear(64, 64, bias=False))
    model[1].weight = model[0].weight
    other = torch.optim.SGD(torch.nn.Linear(2, 2).parameters())
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    parameters = [*model[0].parameters(), *model[1].parameters()]

    assert optimizers_of(parameters) == [optimizer]
    size_bytes = 64 * 64 * 4
    assert model_states(parameters, [optimizer]) == {
        "optimizer": "AdamW",
        "optimizer_bytes_per_element": 8,
        "master_weights": False,
        "state_bytes": {
            "parameters": size_bytes,
            "gradients": size_bytes,
            "optimizer": 2 * size_bytes + 4,  # and the number of steps
        },
    }
    optimizer.zero_grad()
    assert "gradients" not in model_states(parameters, [optimizer])["state_bytes"]
    assert model_states(parameters, [])["state_bytes"] == {"parameters": size_bytes}
    del other


def test_master_weights_are_what_the_optimizer_updates_and_the_model_does_not_hold() -> None:
    model = torch.nn.Linear(64, 64, bias=False, dtype=torch.bfloat16)
    master = torch.nn.Parameter(model.weight.detach().float())
    master.grad = torch.zeros_like(master)
    optimizer = torch.optim.SGD([master], momentum=0.9)
    optimizer.step()
    known = model_states(list(model.parameters()), [optimizer])
    assert known["master_weights"] is True
    assert known["optimizer_bytes_per_element"] == 4
    assert known["state_bytes"] == {"parameters": 64 * 64 * 2, "optimizer": 64 * 64 * (4 + 4)}
