"""The footers of many Parquet files: one ranged request each, many at once where the store can do so."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain

_TAIL = 2**15  # bytes: holds the footer of all but very wide or very long files
_END = 8  # bytes: the length of the footer, and "PAR1"
_AT_ONCE = 512
_HELD = 2**27  # bytes of footers that are held at once: of one at most, for Arrow reads no longer ones


def read_footers(fs: Any, files: Sequence[tuple[str, int]]) -> Iterator[pq.FileMetaData | Exception]:
    """For each (path, size in bytes) of our own the footer, or what Arrow says of a file that has none. Raises StoreError.

    Strangers' files may end the process: `footer_pool` is for them.
    """
    return map(_parse, read_tails(fs, files))


def read_tails(fs: Any, files: Sequence[tuple[str, int]]) -> Iterator[bytes]:
    """For each (path, size in bytes) its last bytes, the whole footer among them. Raises StoreError.

    The asynchronous file systems of fsspec overlap the requests; on a disk threads would only wait for each other.
    """
    for i in range(0, len(files), _AT_ONCE):
        some = files[i : i + _AT_ONCE]
        tails = _tails(fs, some, [min(size, _TAIL) for _, size in some])
        wanted = [max(len(tail), _footer(tail, size)) for tail, (_, size) in zip(tails, some, strict=True)]
        held = (np.cumsum(wanted) // _HELD).tolist()
        for _, part in groupby(enumerate(held), itemgetter(1)):
            numbers = [n for n, _ in part]
            longer = [n for n in numbers if wanted[n] > len(tails[n])]
            more = dict(zip(longer, _tails(fs, [some[n] for n in longer], [wanted[n] for n in longer]), strict=True))
            for n in numbers:
                tail = more.get(n, tails[n])
                yield tail[-_footer(tail, some[n][1]) :]


def _footer(tail: bytes, size: int) -> int:
    """Bytes that the footer of a file of that size says it has; 0 if it says nothing that can be."""
    said = int.from_bytes(tail[-_END:-4], "little") + _END
    return said if tail.endswith(b"PAR1") and said <= min(size, _HELD) else 0


def _tails(fs: Any, files: Sequence[tuple[str, int]], wanted: Sequence[int]) -> list[bytes]:
    """The last `wanted` bytes of each file."""
    starts = [size - last for (_, size), last in zip(files, wanted, strict=True)]
    tails = fs.cat_ranges([path for path, _ in files], starts, [size for _, size in files], on_error="return")
    for (path, size), last, tail in zip(files, wanted, tails, strict=True):
        if isinstance(tail, StoreError):
            raise tail
        if isinstance(tail, Exception):
            raise StoreError(f"{path}: {explain(tail)}") from tail
        if len(tail) != last:
            raise StoreError(f"{path}: expected {last} bytes at the end of {size}, got {len(tail)}: has it changed?")
    return list(tails)


def _parse(tail: bytes) -> pq.FileMetaData | Exception:
    try:
        return pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowException, OSError) as error:
        return error
