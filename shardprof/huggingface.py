"""Records a training of Hugging Face's Trainer: `Trainer(callbacks=[shardprof.huggingface.RecordCallback()])`."""

from __future__ import annotations

import os
from typing import Any

from transformers import TrainerCallback

from shardprof.recording.training import Training


class RecordCallback(TrainerCallback):
    """Records from the first step of `train` to the last; what bounds it, a process beside rank 0 then says on its
    stderr. Options are those of `shardprof.record`. Raises ShardprofError where `steps` is no range of steps.

    A step is one of the optimizer, as the Trainer counts them: batches whose gradients are accumulated together.
    """

    def __init__(
        self,
        out: str | os.PathLike[str] | None = None,
        *,
        steps: range | None = range(2, 7),
        stack: bool = False,
        memory: bool = False,
    ) -> None:
        self._training = Training(out, steps, stack=stack, memory=memory)

    def on_train_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Part of the Trainer's interface."""
        self._training.begin()

    def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Part of the Trainer's interface."""
        self._training.step()

    def on_train_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Part of the Trainer's interface."""
        self._training.end()
