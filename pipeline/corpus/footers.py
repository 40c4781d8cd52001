"""The footers of many Parquet files.

Each footer is read with one ranged request, or with two if it is long. Requests overlap if the file system is
asynchronous.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain

_TAIL = 2**15  # bytes: the footers of all but very wide or very long files fit
_END = 8  # bytes: the length of the footer, and "PAR1"
_FILES_PER_REQUEST = 512
_MAX_BYTES = 2**27  # the most bytes of footers in memory at one time, and of one footer: Arrow reads no longer ones


def read_footers(fs: Any, files: Sequence[tuple[str, int]]) -> Iterator[pq.FileMetaData | Exception]:
    """Read the footer of each file. A file without a valid footer yields Arrow's exception.

    files: (path, size in bytes) of files that distilray wrote. A footer of an untrusted file may end the process that
    parses it, so `footer_pool` parses those footers. Raises StoreError if the store fails.
    """
    return map(_parse, read_tails(fs, files))


def read_tails(fs: Any, files: Sequence[tuple[str, int]]) -> Iterator[bytes]:
    """Read the last bytes of each file, which contain the whole footer.

    files: (path, size in bytes). The asynchronous file systems of fsspec overlap the requests. On a disk, threads would
    not help. Raises StoreError if the store fails.
    """
    for i in range(0, len(files), _FILES_PER_REQUEST):
        batch = files[i : i + _FILES_PER_REQUEST]
        tails = _read_ends(fs, batch, [min(size, _TAIL) for _, size in batch])
        lengths = [max(len(tail), _footer_length(tail, size)) for tail, (_, size) in zip(tails, batch, strict=True)]
        parts = (np.cumsum(lengths) // _MAX_BYTES).tolist()
        for _, part in groupby(enumerate(parts), itemgetter(1)):
            numbers = [n for n, _ in part]
            long = [n for n in numbers if lengths[n] > len(tails[n])]
            ends = _read_ends(fs, [batch[n] for n in long], [lengths[n] for n in long])
            long_tails = dict(zip(long, ends, strict=True))
            for n in numbers:
                tail = long_tails.get(n, tails[n])
                yield tail[-_footer_length(tail, batch[n][1]) :]


def _footer_length(tail: bytes, size: int) -> int:
    """Return the length of the footer in bytes, as the end of a file declares it.

    Returns 0 if the end declares no length, or a length that does not fit the file.
    """
    length = int.from_bytes(tail[-_END:-4], "little") + _END
    return length if tail.endswith(b"PAR1") and length <= min(size, _MAX_BYTES) else 0


def _read_ends(fs: Any, files: Sequence[tuple[str, int]], lengths: Sequence[int]) -> list[bytes]:
    """Read the last bytes of each file. lengths: the number of bytes to read, by file."""
    starts = [size - length for (_, size), length in zip(files, lengths, strict=True)]
    tails = fs.cat_ranges([path for path, _ in files], starts, [size for _, size in files], on_error="return")
    for (path, size), length, tail in zip(files, lengths, tails, strict=True):
        if isinstance(tail, StoreError):
            raise tail
        if isinstance(tail, Exception):
            raise StoreError(f"{path}: {explain(tail)}") from tail
        if len(tail) != length:
            raise StoreError(
                f"{path}: expected the last {length} of {size} bytes, got {len(tail)}: the file may have changed; "
                "run again once nothing writes to it"
            )
    return list(tails)


def _parse(tail: bytes) -> pq.FileMetaData | Exception:
    try:
        return pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowException, OSError) as error:
        return error
