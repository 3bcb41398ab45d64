"""What FSDP2 says that it gathers and reduces, padding included, on as many ranks as one likes: a fake process group
runs the real code of one of them. The figures are volumes measured from its collectives, in units of the model's size.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("torch")

SCRIPT = """
import json, sys, torch, torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from shardprof.recording.frameworks import fsdp2

def block():
    return nn.Sequential(nn.LayerNorm(512), nn.Linear(512, 2048), nn.ReLU(), nn.Linear(2048, 512))

told = []
for ranks in map(int, sys.argv[1:]):
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=ranks)
    model = nn.Sequential(nn.Linear(64, 512), *(block() for _ in range(4)), nn.Linear(512, 10))
    for module in [*model[1:5], model]:
        fully_shard(module, mesh=init_device_mesh("cpu", (ranks,)))
    model(torch.ones(1, 64))
    told.append(fsdp2.describe(model))
    dist.destroy_process_group()
print(json.dumps(told))
"""
MEASURED = {8: (1.9958, 1.0004), 64: (1.9987, 1.0033), 512: (2.0260, 1.0305), 4096: (10.2335, 5.2570)}


def test_volumes_grow_with_the_padding_of_dimension_0() -> None:
    command = [sys.executable, "-c", SCRIPT, *map(str, MEASURED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for told, (gathered, reduced) in zip(json.loads(done.stdout), MEASURED.values(), strict=True):
        size_bytes = told["parameter_bytes"]
        assert size_bytes == 4 * told["parameters"] == 4 * 8_441_354
        assert (told["gather_bytes"] + told["gather_again_bytes"]) / size_bytes == pytest.approx(gathered, abs=6e-5)
        assert told["reduce_bytes"] / size_bytes == pytest.approx(reduced, abs=6e-5)
        assert told["root_parameters"] == 64 * 512 + 512 + 512 * 10 + 10
