"""A thread of the recorder's process that works beside the job: begins when told, and ends soon after it is told to."""

from __future__ import annotations

import threading


class BesideThread:
    """Runs `_run` from `start` on; it must end soon once `_stopped` is set, which `stop` waits for `stop_s` at most."""

    def __init__(self, name: str, stop_s: float = 5.0) -> None:
        self._stopped = threading.Event()
        self._stop_s = stop_s
        self._thread = threading.Thread(target=self._run, name=f"shardprof-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait until it has."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=self._stop_s)

    def _run(self) -> None:
        raise NotImplementedError
