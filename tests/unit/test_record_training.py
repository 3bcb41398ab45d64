"""A trainer's callback: what is asked for wrongly is said when it is made, what fails later costs no training."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from shardprof.errors import ShardprofError
from shardprof.recording.training import Training


@pytest.mark.parametrize("steps", [range(0), range(0, 9, 2), "2:7"])
def test_what_is_no_range_of_steps_is_refused_before_the_training(steps: Any) -> None:
    with pytest.raises(ShardprofError, match="is no range of steps"):
        Training(None, steps, stack=False, memory=False)


def test_a_block_that_cannot_be_had_ends_no_training() -> None:
    """In a process of its own: what was begun stays so."""
    script = """
from shardprof.recording.training import Training
training = Training(None, range(2, 7), stack=False, memory=False)
training._new_block = lambda: 1 / 0
training.begin(); training.step(); training.end()
print("trained")
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("trained\n", "")
