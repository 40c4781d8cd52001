"""Files through fsspec: opened on the worker, written whole or not at all."""

import os
import uuid
from collections.abc import Mapping
from typing import Any

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem


def open_folder(uri: str, storage_options: Mapping[str, Any]) -> tuple[AbstractFileSystem, str]:
    """The file system of `uri` and the path on it, without a slash at the end."""
    fs, path = fsspec.url_to_fs(uri, **storage_options)
    return fs, path.rstrip("/")


def put(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """One object, whole or not at all: a single put on a store, a rename on a local disk."""
    if isinstance(fs, LocalFileSystem):
        os.replace(_draft(path, data), path)
    else:
        fs.pipe_file(path, data)


def put_first(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Like `put`, but only if nobody else has; whether it was us."""
    try:
        if isinstance(fs, LocalFileSystem):
            draft = _draft(path, data)
            try:
                os.link(draft, path)  # fails if the path is taken, unlike a rename
            finally:
                os.remove(draft)
        else:
            fs.pipe_file(path, data, mode="create")
    except OSError:
        if fs.exists(path):
            return False
        raise
    return True


def _draft(path: str, data: bytes) -> str:
    """The data under a hidden name beside `path`, safely on disk."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = f"{os.path.dirname(path)}/.{os.path.basename(path)}.{uuid.uuid4().hex}"
    with open(draft, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return draft
