"""A training beside GPUs that are counted until their driver dies, in the middle of a captured step."""

from __future__ import annotations

from typing import Any

import pytest

from shardprof.trace.schema import COUNTERS_FILE, HOST_FILE, CounterRecord, HostRecord, read_lines, read_whole
from tests.fake_nvml.gpus import HOPPER, FakeGpus, compile_library

pytestmark = pytest.mark.integration

TRAINING = """
import os, pathlib, time, torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

def let_the_driver_die():
    with open(os.environ["FAKE_NVML_STATE"], "a") as state:
        state.write("fail.all 999\\n")
    deadline = time.monotonic() + 60
    while "nvmlShutdown" not in pathlib.Path(os.environ["FAKE_NVML_LOG"]).read_text():
        assert time.monotonic() < deadline, "nobody has noticed"
        time.sleep(0.01)

for step in range(14):
    model(torch.ones(4, 8)).square().mean().backward(); optimizer.step(); optimizer.zero_grad()
    if step == 9:
        let_the_driver_die()
print("trained")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, record_job: Any) -> Any:
    folder = tmp_path_factory.mktemp("nvml")
    (folder / "train.py").write_text(TRAINING)
    gpus = FakeGpus(compile_library(folder), folder, HOPPER, HOPPER)
    return record_job(folder, "python", "train.py", environment=gpus.environment)


@pytest.fixture
def host(trained: Any) -> HostRecord:
    (folder,) = trained.folder.host_folders()
    return read_whole(HostRecord, folder / HOST_FILE)


@pytest.fixture
def samples(trained: Any) -> list[CounterRecord]:
    (folder,) = trained.folder.host_folders()
    return [record for record in read_lines(CounterRecord, folder / COUNTERS_FILE) if record.source == "nvml"]


def test_gpus_are_counted_beside_a_training(trained: Any, host: HostRecord, samples: list[CounterRecord]) -> None:
    assert [device.subject for device in host.devices] == ["gpu 0", "gpu 1"]
    assert len(samples) >= 2
    assert samples[0].values["gpu 1"]["power_w"] == 250.5
    told = [(subject, text) for sample in samples for subject, texts in sample.events.items() for text in texts]
    assert sorted(told) == [("gpu 0", "gpu lost"), ("gpu 1", "gpu lost")]
    (cost,) = (cost for cost in trained.run.counter_costs if cost.source == "nvml")
    assert cost.samples == len(samples) + 1, "the one that failed has its cost, too"
    assert cost.cost_ns > 0
    assert trained.rank().device_uuid is None, "it trains on a CPU"


def test_a_driver_that_dies_costs_a_note(trained: Any, host: HostRecord) -> None:
    assert (trained.exit_code, trained.stdout) == (0, b"trained\n")
    (note,) = host.notes
    assert "nvml" in note
    assert "Unknown Error" in note
    assert note in trained.stderr
    assert len(trained.steps()) == 14
    assert trained.run.dropped_records == 0
    assert trained.names().count("ProfilerStep#9") == 1
