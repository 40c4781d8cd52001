"""Conversions between Arrow list columns and flat arrays."""

import numpy as np
import pyarrow as pa

from distilray.model.arrays import Ints, offsets_of, ragged_ranges


def ragged(lengths: Ints, values: pa.Array) -> pa.ListArray:
    """Build a list column over flat values. lengths: [R], the length of each list."""
    return pa.ListArray.from_arrays(pa.array(offsets_of(lengths), pa.int32()), values)


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """Return the column as one array, without a copy if it has one chunk."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.nulls(0, column.type)])


def slice_characters(texts: pa.StringArray, row: Ints, start: Ints, end: Ints) -> pa.StringArray:
    """Return texts[row][start:end] for E slices, counted in characters, without creating Python strings."""
    data = np.frombuffer(texts.buffers()[2] or b"", dtype=np.uint8)
    bounds = np.frombuffer(texts.buffers()[1] or bytes(4), dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    base = int(bounds[0])
    data = data[base : int(bounds[-1])]
    # a character starts at every byte that is not a UTF-8 continuation; the last entry is the end of the data
    char_at = np.append(np.flatnonzero((data & 0xC0) != 0x80), len(data))
    first_char = np.searchsorted(char_at, bounds[:-1] - base)[row]
    first, last = char_at[first_char + start], char_at[first_char + end]
    cut = data[ragged_ranges(first, last - first)]
    cuts = offsets_of(last - first).astype(np.int32)
    return pa.StringArray.from_buffers(len(row), pa.py_buffer(cuts), pa.py_buffer(cut))
