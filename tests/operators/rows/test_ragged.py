"""Ragged lists, and slices of texts by characters without Python strings."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from distilray.operators.rows.ragged import ragged, slice_characters


@given(st.data())
def test_slices_equal_those_of_python(data: st.DataObject) -> None:
    texts = data.draw(st.lists(st.one_of(st.none(), st.text(max_size=20)), min_size=1, max_size=8))
    skipped = data.draw(st.integers(0, len(texts) - 1))
    rows = [i for i, text in enumerate(texts[skipped:]) if text]
    row = data.draw(st.lists(st.sampled_from(rows), max_size=8)) if rows else []
    spans = [sorted(data.draw(st.tuples(*[st.integers(0, len(texts[skipped + i]))] * 2))) for i in row]
    start, end = np.array([*zip(*spans, strict=True)] or [[], []], dtype=np.int64)
    column = pa.array(texts, pa.string()).slice(skipped)
    sliced = slice_characters(column, np.array(row, dtype=np.int64), start, end).to_pylist()
    assert sliced == [texts[skipped + i][a:b] for i, (a, b) in zip(row, spans, strict=True)]


@given(st.lists(st.lists(st.integers(0, 1000), max_size=5), min_size=1, max_size=8))
def test_ragged_lists_are_made_of_lengths_and_values(values: list[list[int]]) -> None:
    lengths, flat = np.array([len(value) for value in values]), [x for value in values for x in value]
    assert ragged(lengths, pa.array(flat, pa.int32())).to_pylist() == values
