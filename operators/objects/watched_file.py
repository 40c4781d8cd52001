"""A file object that keeps the error of its store."""

from typing import Any

from distilray.model.storage.store import read_exactly
from distilray.operators.isolation.watchdog import Watchdog


class WatchedFile:
    """A file of `size` bytes that keeps the error of its store.

    Arrow reports a failing store, truncated bytes and invalid bytes alike as OSError. `error` is set in the first two
    cases only. watchdog: the watchdog of the decoding code; it is suspended during a read.
    """

    def __init__(self, file: Any, size: int, path: str, watchdog: Watchdog | None = None) -> None:
        self._file, self._size, self._path = file, size, path
        self._watchdog = watchdog or Watchdog(None)
        self.error: Exception | None = None
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._file.tell(), 0)
        try:
            with self._watchdog.paused():
                return read_exactly(self._file, left if size < 0 else min(size, left), self._path)
        except Exception as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self.closed = True
