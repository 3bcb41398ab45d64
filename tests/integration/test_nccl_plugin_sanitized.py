"""The plugin under sanitizers: all scripts of the fake NCCL, its threads and a short stress, through each interface."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("scripts_test", "threads_test", "stress")

pytestmark = pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("ninja")), reason="cmake and ninja")


@pytest.fixture(scope="module", params=["address,undefined", "thread"])
def build(request: pytest.FixtureRequest) -> Path:
    """The plugin and its tests, built with the sanitizers."""
    folder = ROOT / "build" / f"sanitized-{request.param.partition(',')[0]}"
    options = ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", f"-DSHARDPROF_SANITIZE={request.param}"]
    run("cmake", "-S", ROOT / "native", "-B", folder, "-G", "Ninja", *options)
    run("cmake", "--build", folder, "--target", "shardprof_nccl", *PROGRAMS)
    return folder


def run(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("interface", [3, 4, 5, 6])
def test_scripts(build: Path, interface: int) -> None:
    run(build / "tests/scripts_test", build / "libshardprof_nccl.so", str(interface))


def test_threads_and_a_killed_writer(build: Path) -> None:
    run(build / "tests/threads_test", build / "libshardprof_nccl.so")


def test_stress(build: Path) -> None:
    run(build / "tests/stress", build / "libshardprof_nccl.so", "1", "4")
