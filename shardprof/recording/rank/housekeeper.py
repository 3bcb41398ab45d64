"""Does beside the training what can wait a moment: says where the rank is, hears what is asked of it.

A thread of the rank that wakes twice a second, so that no step pays for it. It lives on while the main thread waits for
a collective, which is when the watchdog wants to know where the rank is stuck.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from shardprof.recording.rank.flight_dump import remove_flight, write_flight
from shardprof.recording.shield import shielded
from shardprof.trace.place import PLACE_FILE, Place, PlaceWriter
from shardprof.trace.request import Request, RequestReader

INTERVAL_S = 0.5
ENDS_WITHIN_S = 2.0


class _Closable:
    """Closes the file of what is mixed in; it has none then."""

    _file: int | None

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


class _Writer(_Closable, PlaceWriter):
    """The line that says where the rank is."""


class _Requests(_Closable, RequestReader):
    """The line that says what is asked of it."""


class Housekeeper:
    """Works until `stop`. `place` tells where the rank is, `look_at_clock` is called each time.

    `requested` is the request that no step has taken yet.
    """

    def __init__(
        self,
        run: Path,
        folder: Path,
        watchdog_s: int | None,
        place: Callable[[], Place],
        look_at_clock: Callable[[], None],
    ) -> None:
        self.requested: Request | None = None
        self._look_at_clock = look_at_clock
        self._folder = folder
        self._place = place
        self._writer = _Writer(folder / PLACE_FILE)
        self._requests = _Requests(run)
        self._patience = None if watchdog_s is None else round(watchdog_s / INTERVAL_S)
        self._last: Place | None = None
        self._looks = 0
        self._stopped = threading.Event()
        self._work()
        self._thread = threading.Thread(target=self._run, name="shardprof-housekeeper", daemon=True)
        self._thread.start()

    def take_request(self) -> Request | None:
        """The request that has come meanwhile, once."""
        if self.requested is None:
            return None
        request, self.requested = self.requested, None
        return request

    def stop(self) -> None:
        """The rank ends: say so, and no more."""
        self._stopped.set()
        self._writer.put(self._place())

    def close(self) -> None:
        """The process goes on without: give its files back."""
        self._stopped.set()
        self._thread.join(ENDS_WITHIN_S)
        if not self._thread.is_alive():  # else it may still write, into whatever has the number by then
            self._writer.close()
            self._requests.close()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL_S):
            self._work()

    @shielded
    def _work(self) -> None:
        place = self._place()
        self._looks = self._looks + 1 if place == self._last else 0
        if self._looks == 0:
            self._last = place
            self._writer.put(place)
        self.requested = self._requests.new_request() or self.requested
        self._look_at_clock()
        if self._patience is not None:
            self._mind_the_flight(self._patience)

    def _mind_the_flight(self, patience: int) -> None:
        with contextlib.suppress(Exception):
            if self._looks == patience:
                write_flight(self._folder)
            elif self._looks == 0:
                remove_flight(self._folder)
