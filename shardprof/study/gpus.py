"""What GPUs can compute: the dense peak of matrix products in FLOP/s by name and precision, from the data sheets."""

from __future__ import annotations

import re

_PEAKS: tuple[tuple[str, dict[str, float]], ...] = (
    (r"\bB200\b", {"bf16": 2250e12, "fp16": 2250e12}),
    (r"\bH[12]00[ -]NVL\b", {"bf16": 835.5e12, "fp16": 835.5e12, "fp32": 60e12}),
    (r"\bH100[ -]PCIe\b", {"bf16": 756e12, "fp16": 756e12, "fp32": 51e12}),
    (r"\bH[12]00\b", {"bf16": 989.4e12, "fp16": 989.4e12, "fp32": 66.9e12}),
    (r"\bA100\b", {"bf16": 312e12, "fp16": 312e12, "fp32": 19.5e12}),
    (r"\bL40S\b", {"bf16": 362e12, "fp16": 362e12, "fp32": 91.6e12}),
    (r"\bL4\b", {"bf16": 121e12, "fp16": 121e12, "fp32": 30.3e12}),
    (r"\bA10G\b", {"bf16": 70e12, "fp16": 70e12}),
    (r"\bV100-PCIE\b", {"fp16": 112e12, "fp32": 14e12}),
    (r"\bV100\b", {"fp16": 125e12, "fp32": 15.7e12}),
    (r"\bT4\b", {"fp16": 65e12, "fp32": 8.1e12}),
)
"""The first that fits. fp32 is computed without tensor cores, as torch does unless it is told to use TF32."""

EXAMPLES = ("a100", "h100", "h100-pcie", "h200", "b200", "l40s", "v100")


def peaks_flops_per_s(gpu: str) -> dict[str, float]:
    """By precision; empty for a GPU that is not known."""
    return next((peaks for name, peaks in _PEAKS if re.search(name, gpu, re.IGNORECASE)), {})


def peak_flops_per_s(gpu: str, precision: str) -> float | None:
    """Of one precision; None where it is not known."""
    return peaks_flops_per_s(gpu).get(precision)
