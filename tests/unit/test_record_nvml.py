"""GPUs by NVML: the real binding in a process of its own, over a library that answers what the test wants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from shardprof.recording import claim
from shardprof.trace.counter_names import COUNTERS
from tests.fake_nvml import gpus as fake
from tests.fake_nvml.gpus import BARE, HOPPER, FakeGpus

GPM_PAUSE_S = 0.2

SAMPLING = """
import json, sys
from pathlib import Path
from shardprof.recording.counters import open_sources
from shardprof.recording.beside.node_ranks import NodeRanks
from shardprof.trace.schema import RunFolder, to_json
if "without-binding" in sys.argv:
    sys.modules["pynvml"] = None
notes = []
ranks = NodeRanks(RunFolder(Path("none")), "a")
source = next((it for it in open_sources(ranks, notes.append) if it.name == "nvml"), None)
told = {"is_there": source is not None, "notes": notes, "devices": source.devices if source else ()}
print(to_json(told), flush=True)
for command in sys.stdin:
    try:
        sample = getattr(source, command.strip())()
        print(to_json(sample or {}), flush=True)
    except Exception as error:
        print(json.dumps({"failure": str(error)}), flush=True)
"""


class Sampling:
    """A process in which the source has been opened."""

    def __init__(self, gpus: FakeGpus, *options: str) -> None:
        command = [sys.executable, "-c", SAMPLING, *options]
        environment = {**os.environ, **gpus.environment}
        self.process = subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True)
        self.told = self._answer()

    def ask(self, command: str = "sample") -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self._answer()

    def values(self, subject: str = "gpu 0") -> dict[str, float]:
        values: dict[str, float] = self.ask()["values"][subject]
        return values

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake.compile_library(tmp_path_factory.mktemp("fake_nvml"))


@pytest.fixture
def machine(library: Path, tmp_path: Path) -> Callable[..., FakeGpus]:
    return lambda *gpus: FakeGpus(library, tmp_path, *gpus)


@pytest.fixture
def opened() -> Iterator[Callable[..., Sampling]]:
    started: list[Sampling] = []

    def start(gpus: FakeGpus, *options: str) -> Sampling:
        started.append(Sampling(gpus, *options))
        return started[-1]

    yield start
    for sampling in started:
        sampling.process.communicate(timeout=10)
        assert sampling.process.returncode == 0


def without(gpu: Mapping[str, float], *names: str) -> dict[str, float]:
    return {name: value for name, value in gpu.items() if name not in names}


def test_a_gpu_is_told_with_all_its_counters(machine: Any, opened: Any) -> None:
    gpus = machine(BARE, HOPPER)
    sampling = opened(gpus)
    assert sampling.told["devices"][1] == {
        "subject": "gpu 1",
        "name": "Fake GPU",
        "uuid": "GPU-00000000-0000-0000-0000-000000000001",
        "facts": {
            "pci_bus_id": "00000000:02:00.0", "memory_bytes": 85_899_345_920, "power_limit_w": 700,
            "max_sm_clock_mhz": 1980, "driver_version": "999.1", "nvlinks": 18, "mig": False,
        },
    }  # fmt: skip
    time.sleep(GPM_PAUSE_S)
    sample = sampling.ask()
    assert sample["values"]["gpu 0"] == {"memory_used_bytes": 1 << 20}
    values = sample["values"]["gpu 1"]
    assert values.keys() <= COUNTERS.keys()
    assert values == {
        "utilization_percent": 91, "memory_utilization_percent": 40, "memory_used_bytes": 1 << 30,
        "power_w": 250.5, "energy_j": 123_456.789, "temperature_c": 61, "memory_temperature_c": 70,
        "sm_clock_mhz": 1410, "memory_clock_mhz": 2619, "throttle_reasons": 1,
        "pcie_tx_bytes": 5_000_000_000, "pcie_rx_bytes": 6_000_000_000,
        "nvlink_tx_bytes": 1_024_000, "nvlink_rx_bytes": 2_048_000,
        "ecc_corrected_errors": 2, "ecc_uncorrected_errors": 1,
        "graphics_active_percent": 1, "sm_active_percent": 2, "sm_occupancy_percent": 3, "tensor_active_percent": 5,
        "hmma_active_percent": 7, "dram_bandwidth_percent": 10, "fp64_active_percent": 11, "fp32_active_percent": 12,
        "fp16_active_percent": 13, "pcie_tx_bytes_per_s": 20 << 20, "pcie_rx_bytes_per_s": 21 << 20,
        "nvlink_rx_bytes_per_s": 60 << 20, "nvlink_tx_bytes_per_s": 61 << 20,
    }  # fmt: skip
    assert "events" not in sample or sample["events"] == {}


def test_a_sample_asks_only_what_the_gpu_supports_and_once(machine: Any, opened: Any) -> None:
    gpus = machine(without(HOPPER, "utilization", "gpm"))
    sampling = opened(gpus)
    sampling.ask()
    gpus.take_calls()
    assert "ecc_corrected_errors" not in sampling.values(), "what hardly changes is not asked each time"
    calls = gpus.take_calls()
    assert calls.count("nvmlDeviceGetFieldValues") == 1
    assert len(calls) == len(set(calls)) + 1, "only the two clocks are the same function"
    assert not {"nvmlDeviceGetUtilizationRates", "nvmlDeviceGetPowerUsage", "nvmlGpmSampleGet"} & set(calls)


def test_older_drivers_are_asked_in_their_own_way(machine: Any, opened: Any) -> None:
    by_link = {f"field.{field}@{link}": link + 1 for field in (138, 139) for link in (0, 1)}
    older = without(HOPPER, "field.186@0", f"field.138@{fake.ALL_LINKS}", f"field.139@{fake.ALL_LINKS}")
    gpus = machine({**older, **by_link, "nvlinks": 2})
    for function in ("nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetCurrentClocksEventReasons"):
        gpus.change({f"fail.{function}": fake.FUNCTION_NOT_FOUND})
    sampling = opened(gpus)
    values = sampling.values()
    assert (values["power_w"], values["throttle_reasons"]) == (200, 1)
    assert values["memory_used_bytes"] == (1 << 30) + (1 << 20), "they count what they reserve as used"
    assert (values["nvlink_tx_bytes"], values["nvlink_rx_bytes"]) == (3 * 1024, 3 * 1024)
    gpus.change({"gpu0.field.138@0": 5})
    assert sampling.values()["nvlink_tx_bytes"] == 7 * 1024
    gpus.forget("gpu0.field.138@1")
    values = sampling.values()
    assert "nvlink_tx_bytes" not in values, "one link alone would look like all of them"
    assert values["nvlink_rx_bytes"] == 3 * 1024


def test_a_temperature_below_zero_is_read_as_such(machine: Any, opened: Any) -> None:
    assert opened(machine({**HOPPER, "field.82@0": -5})).values()["memory_temperature_c"] == -5


def test_throttling_is_told_when_it_begins_and_when_it_ends(machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER)
    sampling = opened(gpus)
    told = []
    for reasons in (0x1, 0x2 | 0x40 | 0x8, 0x40, 0x40, 0x0):
        gpus.change({"gpu0.throttle": reasons})
        told.append(sampling.ask().get("events", {}).get("gpu 0", []))
    assert told == [
        [],
        ["throttled: hw_slowdown", "throttled: hw_thermal"],
        ["no longer throttled: hw_slowdown"],
        [],
        ["no longer throttled: hw_thermal"],
    ]


def test_xids_are_told_once_with_the_gpu_they_are_of(machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER, HOPPER, HOPPER)
    gpus.change({"gpu0.fail.nvmlDeviceRegisterEvents": fake.NOT_SUPPORTED, "gpu0.xid": 1})
    sampling = opened(gpus)
    gpus.change({"gpu1.xid": 48, "gpu2.xid": 63})
    assert sampling.ask()["events"] == {"gpu 1": ["xid 48"], "gpu 2": ["xid 63"]}
    assert sampling.ask().get("events", {}) == {}


@pytest.mark.parametrize("function", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents"])
def test_without_xids_there_are_counters(function: str, machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER)
    gpus.change({f"fail.{function}": fake.NOT_SUPPORTED})
    assert opened(gpus).values()["power_w"] == 250.5
    assert "nvmlEventSetWait_v2" not in gpus.take_calls()


def test_a_counter_that_fails_for_once_is_left_out_for_once(machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER)
    sampling = opened(gpus)
    gpus.change({"gpu0.fail.nvmlDeviceGetTemperature": fake.UNKNOWN})
    values = sampling.values()
    assert "temperature_c" not in values
    assert values["power_w"] == 250.5
    gpus.change({"gpu0.fail.nvmlDeviceGetTemperature": 0})
    assert sampling.values()["temperature_c"] == 61


def test_a_gpu_is_lost_where_a_single_call_says_so(machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER, HOPPER)
    sampling = opened(gpus)
    gpus.change({"gpu0.fail.nvmlDeviceGetTemperature": fake.GPU_IS_LOST})
    sample = sampling.ask()
    assert sample["events"] == {"gpu 0": ["gpu lost"]}
    assert (sample["values"]["gpu 0"], sample["values"]["gpu 1"]["power_w"]) == ({}, 250.5)


@pytest.mark.parametrize("code", [fake.GPU_IS_LOST, fake.UNKNOWN])
def test_a_lost_gpu_is_told_and_the_others_go_on(code: int, machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER, HOPPER)
    sampling = opened(gpus)
    gpus.change({"gpu0.fail.all": code, "gpu0.xid": 79})
    sample = sampling.ask()
    assert sample["events"] == {"gpu 0": ["gpu lost", "xid 79"]}
    assert (sample["values"]["gpu 0"], sample["values"]["gpu 1"]["power_w"]) == ({}, 250.5)
    sample = sampling.ask()
    assert sample.get("events", {}) == {}
    assert sample["values"].keys() == {"gpu 1"}
    gpus.change({"gpu1.fail.all": code, "gpu1.xid": 79})
    gpus.take_calls()
    assert sampling.ask()["events"] == {"gpu 1": ["gpu lost", "xid 79"]}
    failure = sampling.ask()["failure"]
    assert "no GPU answers" in failure
    assert ("lost" in failure) == (code == fake.GPU_IS_LOST)
    calls = gpus.take_calls()
    assert calls.count("nvmlShutdown") == calls.count("nvmlEventSetFree") == 1
    assert calls.count("nvmlGpmSampleFree") == 2


def test_the_monitors_are_asked_five_times_a_second_at_most(machine: Any, opened: Any) -> None:
    gpus = machine({**HOPPER, "gpm.3": float("nan")})
    sampling = opened(gpus)
    first_s = time.monotonic()
    told = []
    while len(told) < 2:
        values = sampling.values()
        if "sm_active_percent" in values:
            told.append(time.monotonic())
            assert "sm_occupancy_percent" not in values, "not a number is no value"
    assert told[0] - first_s < 5
    assert told[1] - told[0] > 0.15
    sampling.ask("close")
    calls = gpus.take_calls()
    assert calls.count("nvmlGpmSampleAlloc") == calls.count("nvmlGpmSampleFree") == 2
    assert calls.count("nvmlEventSetCreate") == calls.count("nvmlEventSetFree") == 1
    assert calls[-1] == "nvmlShutdown"


@pytest.mark.parametrize("function", ["nvmlGpmQueryDeviceSupport", "nvmlGpmSampleAlloc", "nvmlGpmSampleGet"])
def test_monitors_that_fail_at_first_are_not_asked_again(function: str, machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER)
    gpus.change({f"fail.{function}": fake.NO_PERMISSION})
    sampling = opened(gpus)
    calls = gpus.take_calls()
    allocated = calls.count("nvmlGpmSampleAlloc") if function != "nvmlGpmSampleAlloc" else 0
    assert calls.count("nvmlGpmSampleFree") == allocated
    time.sleep(GPM_PAUSE_S)
    assert "sm_active_percent" not in sampling.values()
    assert not [call for call in gpus.take_calls() if "Gpm" in call]


def test_a_gpu_in_mig_mode_is_sampled_as_far_as_it_goes(machine: Any, opened: Any) -> None:
    gpus = machine({**without(HOPPER, "utilization"), "mig": 1})
    gpus.change({"gpu0.fail.nvmlGpmSampleGet": fake.NOT_SUPPORTED})
    sampling = opened(gpus)
    assert sampling.told["devices"][0]["facts"]["mig"] is True
    assert "utilization_percent" not in sampling.values()


def test_a_gpu_that_must_not_be_asked_leaves_the_others(machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER, HOPPER)
    gpus.change({"gpu0.fail.nvmlDeviceGetHandleByIndex_v2": fake.NO_PERMISSION})
    sampling = opened(gpus)
    assert [device["subject"] for device in sampling.told["devices"]] == ["gpu 1"]
    sample = sampling.ask()
    assert sample["values"].keys() == {"gpu 1"}
    assert sample["events"] == {"gpu 0": ["gpu cannot be sampled: Insufficient Permissions"]}
    assert sampling.ask().get("events", {}) == {}


@pytest.mark.parametrize("code", [fake.LIBRARY_NOT_FOUND, fake.DRIVER_NOT_LOADED])
def test_without_a_driver_there_is_no_source_and_no_note(code: int, machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER)
    gpus.change({"fail.nvmlInitWithFlags": code})
    told = opened(gpus).told
    assert not told["is_there"]
    assert told["notes"] == []


def test_without_gpus_there_is_no_source_and_no_note(machine: Any, opened: Any) -> None:
    gpus = machine()
    told = opened(gpus).told
    assert not told["is_there"]
    assert told["notes"] == []
    assert gpus.take_calls()[-1] == "nvmlShutdown"


def test_without_the_binding_there_is_no_source_and_no_note(machine: Any, opened: Any) -> None:
    told = opened(machine(HOPPER), "without-binding").told
    assert not told["is_there"]
    assert told["notes"] == []


def test_a_driver_that_does_not_start_is_noted(machine: Any, opened: Any) -> None:
    gpus = machine(HOPPER)
    gpus.change({"fail.nvmlInitWithFlags": fake.VERSION_MISMATCH})
    told = opened(gpus).told
    assert not told["is_there"]
    (note,) = told["notes"]
    assert "nvml" in note
    assert "version mismatch" in note
    assert "reload or update" in note


def test_a_rank_names_its_gpu_as_nvml_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert claim.device_uuid() is None, "on a CPU"
    properties = [SimpleNamespace(uuid="0-of-0"), SimpleNamespace(uuid="0-of-1"), SimpleNamespace()]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties[index])
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert claim.device_uuid() == "GPU-0-of-1"
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert claim.device_uuid() is None, "an older torch does not tell"
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert claim.device_uuid() is None, "HIP"
