"""The text of a trace file, plain or gzip, a block at a time, as far as it can be read."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from functools import partial

from shardprof.errors import UnreadableTraceError
from shardprof.trace.files import Place, opened

_PACKED_BLOCK_BYTES = 1 << 15
_PLAIN_BLOCK_BYTES = 1 << 18
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_HONEST_BYTES, _HONEST_FACTOR = 512 << 20, 128
"""A text that is longer, and packed better than traces are, is a bomb."""


def text_blocks(file: Place) -> Iterator[bytes]:
    """The text; it ends where the file is cut off or damaged. Raises UnreadableTraceError for what is packed otherwise
    or inflates without end, OSError where reading fails."""
    with opened(file) as descriptor:
        begin = os.read(descriptor, len(_ZSTD))
        if begin == _ZSTD:
            raise UnreadableTraceError(f"{file} is packed with zstd", f"unpack it: zstd -d {file.name}")
        if begin[:2] == _GZIP:
            yield from _inflated(begin, descriptor, str(file))
            return
        yield begin
        yield from iter(partial(os.read, descriptor, _PLAIN_BLOCK_BYTES), b"")


def _inflated(begin: bytes, descriptor: int, name: str) -> Iterator[bytes]:
    packed_bytes = text_bytes = 0
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    packed = begin
    while packed:
        try:
            text = inflater.decompress(packed)
        except zlib.error:
            return
        packed_bytes, text_bytes = packed_bytes + len(packed), text_bytes + len(text)
        if text_bytes > max(_HONEST_BYTES, _HONEST_FACTOR * packed_bytes):
            raise UnreadableTraceError(f"{name} inflates to more than any honest trace", "look where it comes from")
        if text:
            yield text
        packed = inflater.unused_data
        if packed:  # a file may be several gzip files one behind the other
            packed_bytes -= len(packed)
            inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
        packed = packed or os.read(descriptor, _PACKED_BLOCK_BYTES)
