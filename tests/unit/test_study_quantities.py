"""Quantities of the command line: what each spelling means, and that nonsense is refused with what to write."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardprof.errors import ShardprofError
from shardprof.study.quantities import bandwidth_bytes_per_s, count, flops_per_s, size_bytes

Parse = Callable[[str], float]


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (size_bytes, "40GiB", 40 * 2**30),
        (size_bytes, "40 GB", 40_000_000_000),
        (size_bytes, "1.5kB", 1500),
        (size_bytes, "7B", 7),
        (bandwidth_bytes_per_s, "25GB/s", 25e9),
        (bandwidth_bytes_per_s, "200Mbit/s", 25e6),
        (bandwidth_bytes_per_s, "400Gb/s", 50e9),
        (bandwidth_bytes_per_s, "1Gbps", 125e6),
        (bandwidth_bytes_per_s, "1GiB/s", 2**30),
        (flops_per_s, "312TFLOPS", 312e12),
        (flops_per_s, "0.99PFLOP/s", 990e12),
        (count, "1.3e9", 1_300_000_000),
        (count, "1.3B", 1_300_000_000),
        (count, "350M", 350_000_000),
        (count, "8_192", 8192),
        (count, "8,192", 8192),
    ],
)
def test_what_a_spelling_means(parse: Parse, text: str, value: float) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "says"),
    [
        (size_bytes, "40", "write it like 40GiB"),
        (size_bytes, "40Gbit", "no unit 'Gbit'"),
        (size_bytes, "lots", "is no size"),
        (size_bytes, "0GB", "not positive"),
        (size_bytes, "-1GB", "is no size"),
        (size_bytes, "nanGB", "is no size"),
        (bandwidth_bytes_per_s, "25GB", "write it like 25GB/s"),
        (bandwidth_bytes_per_s, "1e999GB/s", "too large"),
        (flops_per_s, "312", "312TFLOPS"),
        (count, "1.5", "no whole number"),
        (count, "1.3X", "write it like 1.3e9"),
        (count, "", "is no number"),
    ],
)
def test_nonsense_is_refused_with_what_to_write(parse: Parse, text: str, says: str) -> None:
    with pytest.raises(ShardprofError) as refused:
        parse(text)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.integers(1, 10**15))
def test_a_size_in_bytes_comes_back(size: int) -> None:
    assert size_bytes(f"{size}B") == size
    assert count(f"{size}") == size


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_is_refused(text: str) -> None:
    for parse in (size_bytes, bandwidth_bytes_per_s, flops_per_s, count):
        with suppress(ShardprofError):
            assert parse(text) > 0
