"""Records a training of Lightning's: `Trainer(callbacks=[shardprof.lightning.RecordCallback()])`, on any strategy."""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from shardprof.recording.training import Training

if TYPE_CHECKING or find_spec("lightning") is not None:
    from lightning.pytorch import Callback
else:
    from pytorch_lightning import Callback


class RecordCallback(Callback):
    """Records from the first step of `fit` to the last; what bounds it, a process beside rank 0 then says on its
    stderr. Options are those of `shardprof.record`. Raises ShardprofError where `steps` is no range of steps.

    A step is one of the optimizer: what `global_step` counts, batches whose gradients are accumulated together. Where
    several optimizers step for one batch that is one step.
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
        self._global_step = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Part of Lightning's interface."""
        self._global_step = trainer.global_step
        self._training.begin()

    def on_train_batch_end(self, trainer: Any, *_args: Any) -> None:
        """Part of Lightning's interface."""
        if trainer.global_step != self._global_step:
            self._global_step = trainer.global_step
            self._training.step()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Part of Lightning's interface."""
        self._training.end()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Part of Lightning's interface."""
        self._training.end(failed=True)
