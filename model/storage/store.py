"""Stores through fsspec: one way to reach them, which tries again what may pass and takes nothing short for data."""

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

Got = TypeVar("Got")

_ATTEMPTS, _PAUSE = 4, 1.0  # of a whole call, beyond what the store's own client tries; seconds, doubled each time
_RETRIES = {"AWS_RETRY_MODE": ("mode", "standard"), "AWS_MAX_ATTEMPTS": ("max_attempts", 5)}  # of botocore
_PATIENCE = {"connect_timeout": 10, "read_timeout": 30}  # seconds
# package and extra of stores that are not installed with distilray
_PACKAGES = {
    **dict.fromkeys(("gs", "gcs"), ("gcsfs", "gcs")),
    **dict.fromkeys(("az", "abfs", "abfss"), ("adlfs", "azure")),
    "hf": ("huggingface_hub", "hub"),
}
_PIECE = 2**24  # bytes of a file that are asked for at once

# what no second try mends; anything else that a store raises may pass
_FINAL = (
    FileNotFoundError, PermissionError, FileExistsError, IsADirectoryError, NotADirectoryError,
    ImportError, ValueError, TypeError, LookupError, AttributeError, NotImplementedError,
)  # fmt: skip
_FINAL_NAMES = {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "ParamValidationError"}
_FINAL_NUMBERS = {errno.EINVAL, errno.ENOSYS, errno.ENAMETOOLONG, errno.ENOSPC, errno.EROFS}
_DAMAGED = {"BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch"}  # EINVAL to s3fs, but it was on the way


def open_store(uri: str, storage_options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system of `uri` and the path on it, without a slash at the end.

    Every call of a file system that is not this machine's own disk is tried again as `retried` does; S3's client has
    retries with jitter and time limits of its own, unless `storage_options` or the environment say others. Raises
    PackageError, and what fsspec raises for arguments that it cannot take.
    """
    scheme = uri.rpartition("::")[2].partition("://")[0]
    package, extra = _PACKAGES.get(scheme, ("", ""))
    if package and find_spec(package) is None:
        raise PackageError(f"{scheme}:// needs the package {package}: pip install 'distilray[{extra}]'")
    fs, path = fsspec.url_to_fs(uri, **_options(uri, storage_options))
    return fs if isinstance(fs, LocalFileSystem) else RetryingFileSystem(fs), path.rstrip("/")


def _options(uri: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """What the user gave, and how botocore is to try again where the user gave nothing."""
    if not uri.startswith(("s3://", "s3a://")):
        return dict(given)
    retries = dict(option for variable, option in _RETRIES.items() if variable not in os.environ)
    return {**given, "config_kwargs": {"retries": retries, **_PATIENCE, **(given.get("config_kwargs") or {})}}


class RetryingFileSystem:
    """A file system of fsspec whose calls are all tried again; files come whole or not at all.

    What it opens is not: `read_exactly` reads from that.
    """

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        if not callable(found):
            return found
        return lambda *args, **options: call_with_retries(str(args[0]) if args else name, found, *args, **options)

    def put_file(self, file: str, path: str) -> None:
        """A file of this machine to `path`. Raises what `retried` does."""
        call_with_retries(path, self._fs.put_file, file, path)

    def cat_file(self, path: str) -> bytes:
        """All of a file. Raises StoreError, and what `retried` does."""
        self._fs.invalidate_cache(path)  # its length, of an older listing
        info = self.info(path)
        if info["type"] != "file":
            raise IsADirectoryError(f"expected a file, got a folder: {path}")
        if "s3" not in self._fs.protocol:
            return call_with_retries(path, self._whole, path, info["size"])
        starts = range(0, info["size"], _PIECE)  # s3fs on its own takes a short piece of a long file for zeros
        ends = [min(start + _PIECE, info["size"]) for start in starts]
        pieces = self.cat_ranges([path] * len(starts), list(starts), ends)
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
        return b"".join(pieces)

    def _whole(self, path: str, size: int | None) -> bytes:
        data: bytes = self._fs.cat_file(path)
        return data if size is None else _whole(data, size)

    def cat_ranges(self, paths: list[str], starts: list[int], ends: list[int], on_error: str = "return") -> list[Any]:
        """The bytes of each range, or what became of it after as many tries as `retried` has."""
        del on_error  # errors are always returned, as cat_ranges of fsspec has it by default
        found: list[Any] = [None] * len(paths)
        left = list(range(len(paths)))
        for _ in _attempts():
            asked = ([values[i] for i in left] for values in (paths, starts, ends))
            for i, got in zip(left, self._fs.cat_ranges(*asked, on_error="return"), strict=True):
                found[i] = got if isinstance(got, Exception) else _or_error(got, ends[i] - starts[i])
            left = [i for i in left if isinstance(found[i], Exception) and is_transient(found[i])]
            if not left:
                break
        for i in left:
            found[i] = _given_up(found[i], paths[i])
        return found


def call_with_retries(where: str, call: Callable[..., Got], *args: Any, **options: Any) -> Got:
    """What the call gives, which is tried again, after a pause of random length, while its error may pass.

    Raises StoreError, which says `where`, when it does not, and at once what no second try mends.
    """
    last: Exception = StoreError()
    for _ in _attempts():
        try:
            return call(*args, **options)
        except Exception as error:  # every store has its own exceptions
            if not is_transient(error):
                raise
            last = error
    raise _given_up(last, where) from last


def _attempts() -> Iterator[int]:
    for i in range(_ATTEMPTS):
        if i:
            time.sleep(random.uniform(0, _PAUSE * 2**i))  # noqa: S311 (many workers must not come back at once)
        yield i


def is_transient(error: Exception) -> bool:
    """Whether a store's exception is one that a later try may not meet."""
    if isinstance(error, _FINAL) or type(error).__name__ in _FINAL_NAMES:
        return False
    if isinstance(error, OSError) and error.errno in _FINAL_NUMBERS:
        response = getattr(error.__cause__, "response", {})
        return response.get("Error", {}).get("Code") in _DAMAGED
    return True


def _given_up(error: Exception, where: str) -> StoreError:
    return StoreError(f"{where}: {explain(error)} (tried {_ATTEMPTS} times)")


def read_exactly(file: Any, size: int, path: str) -> bytes:
    """The next `size` bytes of an open file that has them. Raises StoreError, and what `retried` does."""
    start = file.tell()

    def once() -> bytes:
        file.seek(start)
        return _whole(file.read(size), size)

    return call_with_retries(path, once)


def _whole(data: bytes, size: int) -> bytes:
    if len(data) != size:
        raise StoreError(f"expected {size} bytes, got {len(data)}: cut off on the way, or has it changed?")
    return data


def _or_error(data: bytes, size: int) -> bytes | StoreError:
    try:
        return _whole(data, size)
    except StoreError as error:
        return error


def explain(error: Exception) -> str:
    """One line for an exception of a store; the type tells what its text often does not."""
    text = redacted(str(error)).strip().splitlines()
    kind = type(error).__name__
    return text[0] if isinstance(error, (StoreError, PackageError)) and text else f"{kind}: {text[0]}" if text else kind
