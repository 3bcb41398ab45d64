"""Passes the steps of a run on to sinks, while it is recorded or afterwards: the one way for both."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from shardprof.sinks import Request, Sink, open_sink
from shardprof.sinks._following import Follower
from shardprof.trace.schema import RankRecord, RunFolder

EVERY_S = 2.0
"""How often it is worth looking."""


class Feed:
    """Passes steps on to sinks, which it opens when the first ones come: what trains is known by then.

    A sink that fails, at any time, is told of once and gets nothing more; the others go on.
    """

    def __init__(
        self,
        run: RunFolder,
        requests: Sequence[Request],
        ranks: Callable[[], Iterable[RankRecord]],
        say: Callable[[str], None],
        failed: Callable[[str], None],
    ) -> None:
        self._run = run
        self._wanted = list(requests)
        self._say = say
        self._failed = failed
        self._follower = Follower(run, ranks)
        self._sinks: list[tuple[str, Sink]] = []

    def send(self, *, final: bool = False) -> int:
        """Pass on what is new; the `final` time all that is left. How many steps of ranks that were."""
        sent = 0
        for rank, rows in self._follower.rows(final=final):
            while self._wanted:
                self._open(self._wanted.pop(0))
            self._each("put", rank, rows)
            sent += len(rows)
        return sent

    def close(self) -> None:
        """There are no further steps."""
        self._each("close")

    def _open(self, request: Request) -> None:
        try:
            sink = open_sink(request, self._run)
        except Exception as error:
            self._failed(f"{request.name} cannot be written to: {_why(error)}")
        else:
            self._sinks.append((request.name, sink))
            self._say(f"steps can be seen at: {sink.place}")

    def _each(self, method: str, *arguments: object) -> None:
        for name, sink in list(self._sinks):
            try:
                getattr(sink, method)(*arguments)
            except Exception as error:
                self._sinks.remove((name, sink))
                self._failed(f"{name} gets no more steps: {_why(error)}")


def _why(error: Exception) -> str:
    """What failed, in a line."""
    return " ".join(str(error).split()) or type(error).__name__
