"""Texts of a column at any position and with any offsets."""

import numpy as np
import pyarrow as pa
import pytest

from distilray.operators.rows import columns
from distilray.pipeline.errors import USER_ERRORS

BIG = 2**31 + 5


def large(sizes: list[int], kind: pa.DataType) -> pa.Array:
    """Make texts of zero bytes. Memory that is only read takes no physical pages."""
    offsets = np.cumsum([0, *sizes]).astype(np.int64)
    data = pa.py_buffer(np.zeros(offsets[-1], dtype=np.uint8))
    return pa.Array.from_buffers(kind, len(sizes), [None, pa.py_buffer(offsets), data])


@pytest.mark.parametrize("kind", [pa.large_string(), pa.large_binary()], ids=str)
def test_texts_after_two_gib_of_a_column_are_read(kind: pa.DataType) -> None:
    column = large([BIG, 3, 0, 2], kind).slice(1)
    text, (reason, _) = columns.valid_texts(pa.chunked_array([column]), "the text")
    assert text.equals(pa.array(["\0\0\0", "", "\0\0"]))
    assert reason.null_count == 3


@pytest.mark.parametrize("sizes", [[[BIG]], [[2**30, 2**30], [7]], [[2**31 - 1, 1]]], ids=str)
def test_more_text_than_a_column_can_hold_is_an_error(sizes: list[list[int]]) -> None:
    column = pa.chunked_array([large(chunk, pa.large_string()) for chunk in sizes])
    with pytest.raises(columns.ColumnSizeError, match="at most 2147483647; write the shard with smaller row groups"):
        columns.valid_texts(column, "the text")


def test_a_kept_column_of_large_strings_holds_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_MAX_BYTES", 10)
    values = pa.chunked_array([["eight by", "eight bi"]], pa.large_string())
    alive = columns.all_dead(2, "", "")
    kept, _ = columns.convert_kept(values, pa.field("body", pa.large_string()), alive)
    assert kept.equals(values.chunk(0))
    with pytest.raises(columns.ColumnSizeError, match="has 16 bytes in 2 rows"):
        columns.convert_kept(values, pa.field("body", pa.string()), alive)


def test_a_column_size_error_is_not_a_corrupt_shard() -> None:
    assert not issubclass(columns.ColumnSizeError, columns.CORRUPT)
    assert issubclass(columns.ColumnSizeError, USER_ERRORS)
