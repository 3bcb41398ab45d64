"""Quantities as people write them on a command line, as numbers: 40GiB, 25GB/s, 200Mbit/s, 312TFLOPS, 1.3e9, 1.3B.

Prefixes are powers of 1000, with an "i" powers of 1024; bits are told from bytes by "bit" or a small "b". Each function
raises ShardprofError, which says what to write, for what is no such quantity, or is not positive.
"""

from __future__ import annotations

import math
import re

from shardprof.errors import ShardprofError

_QUANTITY = re.compile(r"(?P<number>\d+(?:[\d_,]*\d)?(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(?P<unit>[A-Za-z/]*)")
_PREFIXES = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_ALL_PREFIXES = {**_PREFIXES, **_BINARY}

_SIZES = {f"{prefix}B": factor for prefix, factor in _ALL_PREFIXES.items()}
_BANDWIDTHS = {
    f"{prefix}{unit}": factor * size
    for prefix, factor in _ALL_PREFIXES.items()
    for unit, size in (("B/s", 1), ("bit/s", 1 / 8), ("bps", 1 / 8), ("b/s", 1 / 8), ("Bps", 1))
}
_FLOPS = {f"{prefix}{unit}": factor for prefix, factor in _PREFIXES.items() for unit in ("FLOPS", "FLOP/s")}
_COUNTS = {"": 1, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}


def size_bytes(text: str) -> int:
    """A size in bytes: "40GiB" is 40 x 2^30, "40GB" 40e9. A bare number has no unit and is refused."""
    return round(_parsed(text, _SIZES, "size", "40GiB or 500MB"))


def bandwidth_bytes_per_s(text: str) -> float:
    """A bandwidth in bytes a second: "25GB/s", "200Mbit/s", "400Gb/s" (bits)."""
    return _parsed(text, _BANDWIDTHS, "bandwidth", "25GB/s, or 200Mbit/s for bits")


def flops_per_s(text: str) -> float:
    """Floating-point operations a second: "312TFLOPS"."""
    return _parsed(text, _FLOPS, "speed of computing", "312TFLOPS")


def count(text: str) -> int:
    """A number of things: "1.3e9", "1.3B" (a thousand millions), "350M", "8192". Raises for fractions of one."""
    number = _parsed(text, _COUNTS, "number", "1.3e9, 1.3B or 350M")
    if number != round(number):
        raise ShardprofError(f"{text!r} is no whole number", "write it like 1.3e9, 1.3B or 350M")
    return round(number)


def _parsed(text: str, units: dict[str, float], what: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    factor = units.get(match["unit"]) if match else None
    if match is None or factor is None:
        unit = f": it has no unit {match['unit']!r}" if match and match["unit"] else ""
        raise ShardprofError(f"{text!r} is no {what}{unit}", f"write it like {example}")
    number = round(float(re.sub("[_,]", "", match["number"])) * factor, 6)
    if not 0 < number < math.inf:
        why = "not positive" if number <= 0 else "too large"
        raise ShardprofError(f"{text!r} is no {what}: it is {why}", f"write it like {example}")
    return number
