"""A file that remembers the failure of its store."""

from typing import Any

from distilray.model.storage.store import read_exactly
from distilray.operators.isolation.watchdog import Watchdog


class WatchedFile:
    """A file of `size` bytes that remembers its own failure: Arrow reports a failing store, short bytes and bad ones alike,
    as OSError. deadline: of whoever decodes the bytes; it does not run while they are awaited."""

    def __init__(self, file: Any, size: int, path: str, deadline: Watchdog | None = None) -> None:
        self._file, self._size, self._path = file, size, path
        self._deadline = deadline or Watchdog(None)
        self.error: Exception | None = None
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._file.tell(), 0)
        try:
            with self._deadline.paused():
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
