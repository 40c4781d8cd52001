"""A worker without progress ends its process: whatever hangs, in Python or below it, holding Python's lock or not."""

import faulthandler
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Self

EXIT_CODE = 1  # faulthandler's
_EXACT = 0.05  # of the seconds: renewing costs a thread, and packs may take milliseconds


class Watchdog:
    """Blocks that must show progress every so many seconds; None: they may take any time. A process has one at a time."""

    def __init__(self, seconds: float | None) -> None:
        self._seconds, self._on, self._renewed = seconds, False, float("-inf")
        self._lock = Lock()  # Arrow reads in threads of its own

    def __enter__(self) -> Self:
        self._on, self._renewed = self._seconds is not None, float("-inf")
        self.renew()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._on:
                faulthandler.cancel_dump_traceback_later()
            self._on = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """A block that waits for others, which may take any time."""
        with self._lock:
            if self._on:
                faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            self._renewed = float("-inf")
            self.renew()

    def renew(self) -> None:
        """Says that there is progress. The time over, all threads' tracebacks go to stderr and the process exits."""
        with self._lock:
            if self._on and self._seconds and time.monotonic() - self._renewed > self._seconds * _EXACT:
                self._renewed = time.monotonic()
                faulthandler.dump_traceback_later(self._seconds, exit=True, file=sys.__stderr__ or sys.stderr)
