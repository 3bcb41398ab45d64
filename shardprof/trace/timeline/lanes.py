"""Which lane of a track a slice goes to, so that the slices of every lane nest: viewers drop those that do not."""

from __future__ import annotations

_MOST = 100
"""Nobody looks at more, and a trace made to need one for every slice would never be done."""


class Lanes:
    """The lanes of one track. They are given its slices by their begin, of those that begin together the longest first.

    `last` is the lane of the slice that was placed last.
    """

    def __init__(self) -> None:
        self.last = 0
        self._open_ends_ns: list[list[int]] = []

    def place(self, begin_ns: int, end_ns: int) -> int:
        """The first lane in which all that is still open lasts at least as long as this slice."""
        lanes = enumerate(self._open_ends_ns)
        self.last = next(
            (lane for lane, ends_ns in lanes if _takes(ends_ns, begin_ns, end_ns)), len(self._open_ends_ns)
        )
        if self.last == len(self._open_ends_ns):
            self._open_ends_ns.append([])
        self._open_ends_ns[self.last].append(end_ns)
        return self.last


def _takes(open_ends_ns: list[int], begin_ns: int, end_ns: int) -> bool:
    while open_ends_ns and open_ends_ns[-1] <= begin_ns:
        open_ends_ns.pop()
    return not open_ends_ns or end_ns <= open_ends_ns[-1]
