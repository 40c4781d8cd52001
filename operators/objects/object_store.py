"""Atomic writes of the objects of a store and of files on a local disk."""

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

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}  # errors of disks without hard links


def write_object(fs: Any, path: str, data: bytes) -> None:
    """Write one object, whole or not at all.

    In a store, the write is a single request. On a local disk, it is a rename. Raises StoreError for a full disk.
    """
    if isinstance(fs, LocalFileSystem):
        os.replace(_write_draft(path, data), path)
    else:
        fs.pipe_file(path, data)


def write_streamed(fs: Any, path: str, write: Callable[[BinaryIO], None]) -> None:
    """Write an object of any length, whose content `write` writes to a file. Nothing is written if `write` raises.

    Raises the same errors as `write_object`.
    """
    local = isinstance(fs, LocalFileSystem)
    parent = os.path.dirname(path) if local else gettempdir()
    with _writing_to(parent), TemporaryDirectory(prefix=".", dir=parent) as folder:
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
    """Write an object only if the path is free. Return whether the object at the path is now `data`.

    A write whose response was lost is retried, and then finds its own object. On a store without conditional writes,
    and on a disk without hard links, the last write wins. Raises the same errors as `write_object`.
    """
    try:
        if isinstance(fs, LocalFileSystem):
            draft = _write_draft(path, data)
            try:
                os.link(draft, path)  # unlike a rename, a link fails if the path is taken
            except OSError as error:
                if error.errno not in _NO_LINKS or fs.exists(path):
                    raise
                os.replace(draft, path)
            finally:
                _remove_draft(draft)
        else:
            fs.pipe_file(path, data, mode="create")
    except OSError:
        fs.invalidate_cache(path)  # a cached listing may be older than the object
        if fs.exists(path):
            existing: bytes = fs.cat_file(path)
            return existing == data
        raise
    return True


def remove_object(fs: Any, path: str) -> None:
    """Remove an object. It is no error if the object does not exist."""
    with suppress(FileNotFoundError):
        fs.rm_file(path)


def _write_draft(path: str, data: bytes) -> str:
    """Write and sync the data to a hidden file in the folder of `path`, and return the path of that file."""
    folder, name = os.path.split(path)
    draft = f"{folder}/.{name}.{uuid.uuid4().hex}"
    try:
        with _writing_to(folder), open(draft, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        _remove_draft(draft)  # a remaining draft would take up space on a full disk
        raise
    return draft


@contextmanager
def _writing_to(folder: str) -> Iterator[None]:
    """Create the folder if it does not exist, and run the block. Raises StoreError for a full disk."""
    try:
        os.makedirs(folder, exist_ok=True)
        yield
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise StoreError(f"cannot write to {folder}: {explain(error)}") from error
        raise


def _remove_draft(draft: str) -> None:
    with suppress(FileNotFoundError):
        os.remove(draft)
