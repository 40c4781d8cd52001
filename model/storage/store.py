"""Stores through fsspec, with retries of transient errors and rejection of truncated reads.

All access goes through `open_store`.
"""

import errno
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from distilray.model.errors import PackageError, StoreError
from distilray.model.storage.redact import redacted

Result = TypeVar("Result")

_ATTEMPTS, _PAUSE = 4, 1.0  # attempts of a whole call, besides those of the store's client; seconds, doubled each time
# settings of botocore by the environment variable that overrides each
_RETRY_SETTINGS = {"AWS_RETRY_MODE": ("mode", "standard"), "AWS_MAX_ATTEMPTS": ("max_attempts", 5)}
_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 30}  # seconds
# the package and the extra of each store that is not installed with distilray
_PACKAGES = {
    **dict.fromkeys(("gs", "gcs"), ("gcsfs", "gcs")),
    **dict.fromkeys(("az", "abfs", "abfss"), ("adlfs", "azure")),
    "hf": ("huggingface_hub", "hub"),
}
_REQUEST_BYTES = 2**24  # bytes of a file per request

# errors that no retry can fix; all other errors of a store may be transient
_PERMANENT_ERRORS = (
    FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError,
    ImportError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError,
)  # fmt: skip
_PERMANENT_ERROR_NAMES = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError"}
_PERMANENT_ERRNOS = {errno.EINVAL, errno.ENOSYS, errno.ENAMETOOLONG, errno.ENOSPC, errno.EROFS}
# s3 error codes of damaged transfers; a retry may succeed, although s3fs raises EINVAL for them
_DAMAGED_TRANSFER_CODES = {"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}


def open_store(uri: str, storage_options: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the file system of `uri` and the path on it, without a slash at the end.

    Every call of a file system other than the local disk is retried as `call_with_retries` does. The client of S3 has
    its own retries with jitter and its own timeouts, unless `storage_options` or the environment set others. Raises
    PackageError if the package of the store is not installed, and the errors of fsspec for invalid options.
    """
    scheme = uri.rpartition("::")[2].partition("://")[0]
    package, extra = _PACKAGES.get(scheme, ("", ""))
    if package and find_spec(package) is None:
        raise PackageError(f"{scheme}:// needs the package {package}: pip install 'distilray[{extra}]'")
    fs, path = fsspec.url_to_fs(uri, **_client_options(uri, storage_options))
    return fs if isinstance(fs, LocalFileSystem) else RetryingFileSystem(fs), path.rstrip("/")


def _client_options(uri: str, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's options. For S3, add retries and timeouts of botocore that the user did not set."""
    if not uri.startswith(("s3://", "s3a://")):
        return dict(storage_options)
    retries = dict(option for variable, option in _RETRY_SETTINGS.items() if variable not in os.environ)
    config = {"retries": retries, **_TIMEOUTS, **(storage_options.get("config_kwargs") or {})}
    return {**storage_options, "config_kwargs": config}


class RetryingFileSystem:
    """A file system of fsspec that retries all calls. A read returns the whole file or raises an error.

    Open files do not retry their reads; `read_exactly` reads from them with retries.
    """

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._fs, name)
        if not callable(attribute):
            return attribute
        return lambda *args, **options: call_with_retries(str(args[0]) if args else name, attribute, *args, **options)

    def put_file(self, file: str, path: str) -> None:
        """Upload a file of this machine to `path`. Raises the errors of `call_with_retries`."""
        call_with_retries(path, self._fs.put_file, file, path)

    def cat_file(self, path: str) -> bytes:
        """Read a whole file.

        Raises IsADirectoryError for a folder, StoreError for a truncated read, and the errors of `call_with_retries`.
        """
        self._fs.invalidate_cache(path)  # an older listing may have another length
        info = self.info(path)
        if info["type"] != "file":
            raise IsADirectoryError(f"expected a file, got a folder: {path}")
        if "s3" not in self._fs.protocol:
            return call_with_retries(path, self._read_whole, path, info["size"])
        starts = range(0, info["size"], _REQUEST_BYTES)  # a long read of s3fs fills a truncated piece with zeros
        ends = [min(start + _REQUEST_BYTES, info["size"]) for start in starts]
        pieces = self.cat_ranges([path] * len(starts), list(starts), ends)
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
        return b"".join(pieces)

    def _read_whole(self, path: str, size: int | None) -> bytes:
        data: bytes = self._fs.cat_file(path)
        return data if size is None else _check_length(data, size)

    def cat_ranges(self, paths: list[str], starts: list[int], ends: list[int], on_error: str = "return") -> list[Any]:
        """Read byte ranges. Return the bytes of each, or its error after the last attempt of `call_with_retries`."""
        del on_error  # errors are always returned, which is fsspec's default
        results: list[Any] = [None] * len(paths)
        pending = list(range(len(paths)))
        for _ in _attempts():
            arguments = ([values[i] for i in pending] for values in (paths, starts, ends))
            for i, data in zip(pending, self._fs.cat_ranges(*arguments, on_error="return"), strict=True):
                results[i] = data if isinstance(data, Exception) else _data_or_error(data, ends[i] - starts[i])
            pending = [i for i in pending if isinstance(results[i], Exception) and is_transient(results[i])]
            if not pending:
                break
        for i in pending:
            results[i] = _final_error(results[i], paths[i])
        return results


def call_with_retries(where: str, call: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Return the result of a call. Retry it, after a pause of random length, while its error is transient.

    Raises StoreError, which names `where`, if the last attempt fails. An error that no retry can fix is raised without a
    retry.
    """
    last_error: Exception = StoreError()
    for _ in _attempts():
        try:
            return call(*args, **options)
        except Exception as error:  # every store has its own exceptions
            if not is_transient(error):
                raise
            last_error = error
    raise _final_error(last_error, where) from last_error


def _attempts() -> Iterator[int]:
    for i in range(_ATTEMPTS):
        if i:
            time.sleep(random.uniform(0, _PAUSE * 2**i))  # noqa: S311 (workers must not retry in step)
        yield i


def is_transient(error: Exception) -> bool:
    """Return whether a retry may succeed after this exception of a store."""
    if isinstance(error, _PERMANENT_ERRORS) or type(error).__name__ in _PERMANENT_ERROR_NAMES:
        return False
    if isinstance(error, OSError) and error.errno in _PERMANENT_ERRNOS:
        response = getattr(error.__cause__, "response", {})
        return response.get("Error", {}).get("Code") in _DAMAGED_TRANSFER_CODES
    return True


def _final_error(error: Exception, where: str) -> StoreError:
    return StoreError(f"{where}: {explain(error)} (failed {_ATTEMPTS} times)")


def read_exactly(file: Any, size: int, path: str) -> bytes:
    """Read the next `size` bytes of an open file.

    Raises StoreError if the file has fewer, and the errors of `call_with_retries`.
    """
    start = file.tell()

    def read_once() -> bytes:
        file.seek(start)
        return _check_length(file.read(size), size)

    return call_with_retries(path, read_once)


def _check_length(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise StoreError(f"expected {size} bytes, got {len(data)}: the transfer was cut off, or the file has changed")
    return data


def _data_or_error(data: bytes, size: int) -> bytes | StoreError:
    try:
        return _check_length(data, size)
    except StoreError as error:
        return error


def explain(error: Exception) -> str:
    """Describe an exception of a store in one line. The type is included, because the text alone is often unclear."""
    text = redacted(str(error)).strip().splitlines()
    name = type(error).__name__
    return text[0] if isinstance(error, (StoreError, PackageError)) and text else f"{name}: {text[0]}" if text else name
