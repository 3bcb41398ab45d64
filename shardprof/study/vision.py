"""torchvision, also where its compiled operators do not load; import it from here and nowhere else in the study.

A torchvision built for CUDA beside a CPU-only torch fails to import on two operators that neither ViT nor CIFAR-10
needs. With their schemas declared, its Python part (models, transforms, data sets) works.
"""

from __future__ import annotations

import importlib

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _load() -> torch.library.Library | None:
    """The declared schemas, which live as long as this reference; None where torchvision is whole."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return None
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in _SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    importlib.import_module("torchvision")
    return library


_declared = _load()
COMPILED_OPERATORS = _declared is None

from torchvision import datasets, models, transforms  # noqa: E402  (only importable now)

__all__ = ["COMPILED_OPERATORS", "datasets", "models", "transforms"]
