"""Objects of a store, and files of a disk: written whole or not at all."""

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain

_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}  # what disks say that have no hard links


def write_object(fs: Any, path: str, data: bytes) -> None:
    """One object, whole or not at all: a single put on a store, a rename on a local disk. Raises StoreError for a full disk."""
    if isinstance(fs, LocalFileSystem):
        os.replace(_draft(path, data), path)
    else:
        fs.pipe_file(path, data)


def write_streamed(fs: Any, path: str, write: Callable[[BinaryIO], None]) -> None:
    """Like `put`, of what `write` writes, however long; nothing is put if it raises. Raises as `put` does."""
    local = isinstance(fs, LocalFileSystem)
    above = os.path.dirname(path) if local else gettempdir()
    with _written_to(above), TemporaryDirectory(prefix=".", dir=above) as folder:
        draft = f"{folder}/draft"
        with open(draft, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        if local:
            os.replace(draft, path)
        else:
            fs.put_file(draft, path)


def write_if_absent(fs: Any, path: str, data: bytes) -> bool:
    """Like `put`, but only if nothing is there; whether what is there now is `data`.

    A put whose answer got lost is tried again, and finds its own object. A store that knows no conditional put lets the
    last one win, and so does a disk without hard links. Raises as `put` does.
    """
    try:
        if isinstance(fs, LocalFileSystem):
            draft = _draft(path, data)
            try:
                os.link(draft, path)  # fails if the path is taken, unlike a rename
            except OSError as error:
                if error.errno not in _NO_LINKS or fs.exists(path):
                    raise
                os.replace(draft, path)
            finally:
                _drop(draft)
        else:
            fs.pipe_file(path, data, mode="create")
    except OSError:
        fs.invalidate_cache(path)  # a listing from before our own put would hide it
        if fs.exists(path):
            there: bytes = fs.cat_file(path)
            return there == data
        raise
    return True


def remove_object(fs: Any, path: str) -> None:
    """It is gone afterwards, whoever did it."""
    with suppress(FileNotFoundError):
        fs.rm_file(path)


def _draft(path: str, data: bytes) -> str:
    """The data under a hidden name beside `path`, safely on disk."""
    folder, name = os.path.split(path)
    draft = f"{folder}/.{name}.{uuid.uuid4().hex}"
    try:
        with _written_to(folder), open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        _drop(draft)  # it would take the place that lacks
        raise
    return draft


@contextmanager
def _written_to(folder: str) -> Iterator[None]:
    """It is made, if it is not there. Raises StoreError for a full disk."""
    try:
        os.makedirs(folder, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreError(f"cannot write to {folder}: {explain(error)}") from error
        raise


def _drop(draft: str) -> None:
    with suppress(FileNotFoundError):
        os.remove(draft)
