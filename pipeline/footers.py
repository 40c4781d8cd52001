"""The footers of many Parquet files: one ranged request each, many at once where the store can do so."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

_TAIL = 2**15  # bytes: holds the footer of all but very wide or very long files
_END = 8  # bytes: the length of the footer, and "PAR1"
_AT_ONCE = 512


class StoreError(OSError):
    """A store that does not give what it has listed."""


def read_footers(fs: AbstractFileSystem, files: Sequence[tuple[str, int]]) -> Iterator[pq.FileMetaData | Exception]:
    """For each (path, size in bytes) the footer, or what Arrow says of a file that has none. Raises StoreError.

    The asynchronous file systems of fsspec overlap the requests; on a disk threads would only wait for each other.
    """
    for i in range(0, len(files), _AT_ONCE):
        some = files[i : i + _AT_ONCE]
        tails = _tails(fs, some, [min(size, _TAIL) for _, size in some])
        wanted = [int.from_bytes(tail[-_END:-4], "little") + _END for tail in tails]
        longer = [n for n, (_, size) in enumerate(some) if len(tails[n]) < wanted[n] <= size]
        for n, tail in zip(longer, _tails(fs, [some[n] for n in longer], [wanted[n] for n in longer]), strict=True):
            tails[n] = tail
        yield from map(_parse, tails)


def _tails(fs: AbstractFileSystem, files: Sequence[tuple[str, int]], wanted: Sequence[int]) -> list[bytes]:
    """The last `wanted` bytes of each file."""
    starts = [size - last for (_, size), last in zip(files, wanted, strict=True)]
    tails = fs.cat_ranges([path for path, _ in files], starts, [size for _, size in files], on_error="return")
    for (path, size), last, tail in zip(files, wanted, tails, strict=True):
        if isinstance(tail, Exception):
            raise StoreError(f"{path}: {type(tail).__name__}: {tail}") from tail
        if len(tail) != last:
            raise StoreError(f"{path}: expected {last} bytes at the end of {size}, got {len(tail)}: has it changed?")
    return list(tails)


def _parse(tail: bytes) -> pq.FileMetaData | Exception:
    try:
        return pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowException, OSError) as error:
        return error
