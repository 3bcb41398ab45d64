"""What is recorded of a GPU's memory. Without a GPU only what happens where there is none, and the shape of torch's
statistics, can be held here; `make gpu-check` does the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from shardprof.recording.rank import cuda_memory, groups, memory_history  # noqa: E402
from shardprof.recording.rank.memory_history import MemoryHistory  # noqa: E402


def test_without_a_gpu_nothing_is_recorded(tmp_path: Path) -> None:
    if torch.cuda.is_initialized():
        pytest.skip("there is a GPU")
    notes: list[str] = []
    history = MemoryHistory(tmp_path, notes.append)
    history.install()
    history.remove()
    assert cuda_memory.allocator_state() == {}
    assert len(notes) == 1
    assert list(tmp_path.iterdir()) == []


def test_torchs_statistics_are_told_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {
        name: {"all": {"current": number, "peak": 10 * number, "allocated": 99, "freed": 98}}
        for number, name in enumerate(("allocated_bytes", "active_bytes", "reserved_bytes"), start=1)
    }
    stats = {**sizes, "num_alloc_retries": 4, "num_ooms": 5, "segment": {}}
    monkeypatch.setattr(groups, "uses_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda.memory, "memory_stats_as_nested_dict", lambda: stats)
    assert cuda_memory.allocator_state() == {
        "allocated_bytes": 1, "peak_allocated_bytes": 10, "active_bytes": 2, "peak_active_bytes": 20,
        "reserved_bytes": 3, "peak_reserved_bytes": 30, "alloc_retries": 4, "ooms": 5,
    }  # fmt: skip


class Memory:
    """torch.cuda.memory as far as it is called."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def _record_memory_history(self, **options: Any) -> None:
        self.calls.append(options["enabled"])

    def _dump_snapshot(self, path: str) -> None:
        self.calls.append(Path(path).name)


@pytest.mark.parametrize("is_scripts", [False, True])
def test_each_window_has_its_snapshot_unless_the_script_keeps_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_scripts: bool,  # noqa: FBT001
) -> None:
    memory, notes = Memory(), list[str]()
    monkeypatch.setattr(groups, "uses_cuda", lambda: True)
    monkeypatch.setattr(memory_history, "_memory", memory)
    monkeypatch.setattr(torch._C, "_cuda_isHistoryEnabled", lambda: is_scripts, raising=False)
    history = MemoryHistory(tmp_path, notes.append)
    for _ in range(2):
        history.install()
        history.remove()
        history.remove()
    assert memory.calls == ([] if is_scripts else ["all", "memory.pickle", None, "all", "memory.1.pickle", None])
    assert len(notes) == (2 if is_scripts else 0)
