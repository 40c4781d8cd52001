"""A watchdog that ends the process of a worker without progress.

It also ends hangs in native code, whether or not that code holds the GIL.
"""

import faulthandler
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Self

EXIT_CODE = 1  # the exit code of faulthandler
_PRECISION = (
    0.05  # renewals within this share of the limit are skipped: each starts a thread, and packs take milliseconds
)


class Watchdog:
    """A context manager for blocks that must renew it every `seconds` seconds. None means no limit.

    A process may have only one active watchdog at a time.
    """

    def __init__(self, seconds: float | None) -> None:
        self._seconds, self._active, self._renewed = seconds, False, float("-inf")
        self._lock = Lock()  # Arrow reads in its own threads

    def __enter__(self) -> Self:
        self._active, self._renewed = self._seconds is not None, float("-inf")
        self.renew()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._active:
                faulthandler.cancel_dump_traceback_later()
            self._active = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Suspend the watchdog for a block that waits for another system."""
        with self._lock:
            if self._active:
                faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            self._renewed = float("-inf")
            self.renew()

    def renew(self) -> None:
        """Restart the time limit, because there is progress.

        If the limit passes, the tracebacks of all threads go to stderr, and the process exits.
        """
        with self._lock:
            if self._active and self._seconds and time.monotonic() - self._renewed > self._seconds * _PRECISION:
                self._renewed = time.monotonic()
                faulthandler.dump_traceback_later(self._seconds, exit=True, file=sys.__stderr__ or sys.stderr)
