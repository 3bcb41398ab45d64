"""R12: DeepSpeed's buckets take more memory than the model's states."""

from __future__ import annotations

from collections.abc import Iterator

from shardprof.analysis.result import Finding
from shardprof.analysis.rules._case import Case, Turn, said

LEAST_BYTES = 100_000_000


def find(case: Case) -> Iterator[Finding]:
    """Where the reduce bucket is larger than parameters, gradients and optimizer states together."""
    volumes, bucket = case.result.volumes, case.number("reduce_bucket_elements")
    gradients = case.trained_elements
    if volumes is None or case.framework != "DeepSpeed" or bucket is None or gradients is None:
        return
    sizes = {state.part: state.measured_bytes or state.expected_bytes or 0 for state in volumes.model_states}
    buckets, states = sizes.pop("buckets", 0), sum(sizes.values())
    if buckets <= max(states, LEAST_BYTES):
        return
    smaller = max(round(gradients / 10), 1)
    saved = buckets * (1 - smaller / bucket)
    yield case.finding(
        "R12",
        f"Buckets take {buckets / 1e9:,.2f} GB a rank, all model states {states / 1e9:,.2f} GB",
        [said(f"reduce_bucket_size is {bucket:,.0f} elements for {gradients:,.0f} gradients")],
        None,
        Turn(
            advice=f"make the bucket a tenth of the model: {saved / 1e9:,.2f} GB a rank are free then",
            knob=f'"zero_optimization": {{"reduce_bucket_size": {smaller}}}',
            side_effect="more calls of less bytes, which overlap with backward",
            disproof="the peak of allocated memory does not fall",
        ),
    )
