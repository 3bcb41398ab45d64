"""The plain data in a pickle, read without pickle's machine: none of what it could run is known here.

A pickle is a program. Torch's flight recorder needs the part of it that makes dicts, lists, tuples, texts and numbers,
which is all that is carried out; whatever else stands in a file, it is refused. What a pickle makes is bounded as if
nothing in it were shared, so whoever walks it comes to an end.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from shardprof.errors import UnreadableTraceError

_MOST_VALUES = 1 << 23
_MOST_DEPTH = 64
_TEXT_BYTES = 64
"""So much of a text counts as a value."""
_STOP = b"."


@dataclass(slots=True, eq=False)
class _Made:
    """A value on the stack. It is closed once others hold it: to add to it then would change their size, or tie a
    knot."""

    value: Any
    values: int = 1
    depth: int = 0
    is_closed: bool = True


_MARK = _Made(None)


def plain_data(pickled: bytes) -> Any:
    """What the pickle makes. Raises UnreadableTraceError where it is torn, makes anything but plain data, refers to
    itself or would unfold to more than any dump."""
    machine = _Machine(pickled)
    try:
        while (code := machine.take(1)) != _STOP:
            carry_out = _OPERATIONS.get(code)
            if carry_out is None:
                raise _RefusedError(f"{_name_of(code)} makes more than plain data")
            carry_out(machine)
        return machine.pop().value
    except _RefusedError as refused:
        hint = "it was not run, and is not a dump of torch's flight recorder as torch writes it"
        raise UnreadableTraceError(f"the pickle is refused at byte {machine.at}: {refused}", hint) from None


class _RefusedError(Exception):
    """Why a pickle is not read on."""


class _Machine:
    """The stack, the marks and the memo of pickle, for values that are plain."""

    def __init__(self, pickled: bytes) -> None:
        self.at = 0
        self._pickled = pickled
        self._stack: list[_Made] = []
        self._kept: dict[int, _Made] = {}
        self._pushes = 0

    def take(self, size: int) -> bytes:
        """The next bytes of the program."""
        taken = self._pickled[self.at : self.at + size]
        if len(taken) < size:
            raise _RefusedError("it ends too early")
        self.at += size
        return taken

    def number(self, form: str) -> Any:
        """The next number of the program."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def push(self, made: _Made) -> None:
        self._pushes += 1
        if self._pushes > _MOST_VALUES:
            raise _RefusedError(f"it makes more than {_MOST_VALUES:,} values")
        self._stack.append(made)

    def pop(self) -> _Made:
        if not self._stack or self._stack[-1] is _MARK:
            raise _RefusedError("it takes what is not there")
        return self._stack.pop()

    def pop_to_mark(self) -> list[_Made]:
        """What lies above the last mark, which goes, too."""
        taken = []
        while self._stack and self._stack[-1] is not _MARK:
            taken.append(self._stack.pop())
        if not self._stack:
            raise _RefusedError("it takes what is not there")
        self._stack.pop()
        return taken[::-1]

    def top(self, kind: type) -> _Made:
        """What the next things are put into."""
        if not self._stack or type(self._stack[-1].value) is not kind or self._stack[-1].is_closed:
            raise _RefusedError(f"it adds to what is no new {kind.__name__}")
        return self._stack[-1]

    def keep(self, number: int) -> None:
        """Remember the top of the stack by a number."""
        made = self.pop()
        self.push(made)  # and counted once more: to remember takes room, too
        self._kept[number] = made

    def keep_next(self) -> None:
        self.keep(len(self._kept))

    def push_kept(self, number: int) -> None:
        if number not in self._kept:
            raise _RefusedError("it recalls what it never made")
        made = self._kept[number]
        made.is_closed = True
        self.push(made)

    def push_text(self, size: int) -> None:
        self.push(_Made(self.take(size).decode("utf-8", "replace"), values=1 + size // _TEXT_BYTES))

    def push_long(self, size: int) -> None:
        self.push(_Made(int.from_bytes(self.take(size), "little", signed=True)))

    def push_tuple(self, parts: list[_Made]) -> None:
        made = _Made(tuple(part.value for part in parts))
        _hold(made, parts)
        self.push(made)

    def push_last(self, count: int) -> None:
        """The last things as a tuple."""
        self.push_tuple([self.pop() for _ in range(count)][::-1])

    def append(self, parts: list[_Made]) -> None:
        made = self.top(list)
        _hold(made, parts)
        made.value.extend(part.value for part in parts)

    def append_last(self) -> None:
        self.append([self.pop()])

    def set_items(self, parts: list[_Made]) -> None:
        made = self.top(dict)
        keys, values = parts[::2], parts[1::2]
        if len(keys) != len(values) or not all(type(key.value) is str for key in keys):
            raise _RefusedError("a dict has keys that are no text")  # hashes of others can be made to collide
        _hold(made, parts)
        made.value.update(zip((key.value for key in keys), (value.value for value in values), strict=True))

    def set_last_item(self) -> None:
        value = self.pop()
        self.set_items([self.pop(), value])


def _hold(made: _Made, parts: list[_Made]) -> None:
    for part in parts:
        part.is_closed = True
        made.values += part.values
        made.depth = max(made.depth, part.depth + 1)
    if made.values > _MOST_VALUES:
        raise _RefusedError(f"it unfolds to more than {_MOST_VALUES:,} values")
    if made.depth > _MOST_DEPTH:
        raise _RefusedError(f"it is nested more than {_MOST_DEPTH} deep")


def _name_of(code: bytes) -> str:
    names = {operation.code: operation.name for operation in pickletools.opcodes}
    return names.get(code.decode("latin-1"), f"byte {code.hex()}")


def _numeral(form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push(_Made(machine.number(form)))


def _text(size_form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.push_text(machine.number(size_form))


_OPERATIONS: dict[bytes, Callable[[_Machine], Any]] = {
    b"\x80": lambda machine: machine.take(1),  # PROTO
    b"\x95": lambda machine: machine.take(8),  # FRAME: how far one may read ahead
    b"(": lambda machine: machine.push(_MARK),
    b"N": lambda machine: machine.push(_Made(None)),
    b"\x88": lambda machine: machine.push(_Made(value=True)),
    b"\x89": lambda machine: machine.push(_Made(value=False)),
    b"J": _numeral("<i"),
    b"K": _numeral("<B"),
    b"M": _numeral("<H"),
    b"G": _numeral(">d"),
    b"\x8a": lambda machine: machine.push_long(machine.number("<B")),
    b"X": _text("<I"),
    b"\x8c": _text("<B"),
    b"]": lambda machine: machine.push(_Made([], is_closed=False)),
    b"}": lambda machine: machine.push(_Made({}, is_closed=False)),
    b")": lambda machine: machine.push_last(0),
    b"\x85": lambda machine: machine.push_last(1),
    b"\x86": lambda machine: machine.push_last(2),
    b"\x87": lambda machine: machine.push_last(3),
    b"t": lambda machine: machine.push_tuple(machine.pop_to_mark()),
    b"a": _Machine.append_last,
    b"e": lambda machine: machine.append(machine.pop_to_mark()),
    b"s": _Machine.set_last_item,
    b"u": lambda machine: machine.set_items(machine.pop_to_mark()),
    b"q": lambda machine: machine.keep(machine.number("<B")),
    b"r": lambda machine: machine.keep(machine.number("<I")),
    b"\x94": _Machine.keep_next,  # MEMOIZE
    b"h": lambda machine: machine.push_kept(machine.number("<B")),
    b"j": lambda machine: machine.push_kept(machine.number("<I")),
}  # fmt: skip
