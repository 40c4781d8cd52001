"""Tests of model inputs as slices of a pool, against the templates of the tokenizers library."""

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from distilray.model.arrays import offsets_of
from distilray.model.inference.requests import first_positions
from distilray.model.inference.sequences import Sequences, join, pair, single, union
from distilray.model.tokenizer.tokens import SpecialTokenIds

CLS, SEP = 101, 102
WORDS = {f"w{i}": i for i in range(9)}
LIBRARY = tokenizers.Tokenizer(tokenizers.models.WordLevel({**WORDS, "[CLS]": CLS, "[SEP]": SEP}, unk_token="w0"))
LIBRARY.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
LIBRARY.post_processor = TemplateProcessing(
    single="[CLS] $A [SEP]",
    pair="[CLS] $A [SEP] $B:1 [SEP]:1",
    special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
)

pools = st.lists(st.integers(0, 8), max_size=30)


@st.composite
def slices(draw: st.DrawFn, size: int) -> tuple[int, int]:
    """Draw the first token and the length of a slice, which may be empty."""
    first = draw(st.integers(0, size))
    return first, draw(st.integers(0, size - first))


@st.composite
def inputs(draw: st.DrawFn, size: int) -> tuple[int, int, int, int]:
    """Draw a row of Sequences with one or two texts."""
    second = draw(st.just((0, -1)) | slices(size))
    return (*draw(slices(size)), *second)


def sequences_of(rows: list[tuple[int, int, int, int]]) -> Sequences:
    return pair(*np.array(rows, dtype=np.int64).reshape(-1, 4).T)


def rows_of(sequences: Sequences) -> list[tuple[int, ...]]:
    columns = (sequences.first, sequences.length, sequences.pair_first, sequences.pair_length)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def library_ids(pool: list[int], row: tuple[int, int, int, int]) -> list[int]:
    first, length, pair_first, pair_length = row
    texts = [
        " ".join(f"w{token}" for token in pool[a : a + n]) for a, n in ((first, length), (pair_first, pair_length))
    ]
    return LIBRARY.encode(texts[0], texts[1] if pair_length >= 0 else None).ids


@given(pools, st.data())
def test_assembled_ids_equal_the_tokenizers_library(pool: list[int], data: st.DataObject) -> None:
    rows = data.draw(st.lists(inputs(len(pool)), max_size=8))
    sequences = sequences_of(rows)
    expected = [library_ids(pool, row) for row in rows]
    ids = sequences.assemble(np.array(pool, dtype=np.int32), SpecialTokenIds(CLS, SEP))
    assert ids.dtype == np.int32
    assert ids.tolist() == [i for sequence in expected for i in sequence]
    assert sequences.lengths.tolist() == [len(sequence) for sequence in expected]


def test_an_empty_second_text_has_a_separator() -> None:
    empty = np.zeros(1, dtype=np.int64)
    specials = SpecialTokenIds(CLS, SEP)
    assert single(empty, empty).assemble(empty, specials).tolist() == [CLS, SEP]
    assert pair(empty, empty, empty, empty).assemble(empty, specials).tolist() == [CLS, SEP, SEP]


def test_no_sequences_have_no_ids() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    assert single(nothing, nothing).assemble(nothing, SpecialTokenIds(CLS, SEP)).tolist() == []


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=8))
def test_a_single_text_has_no_second(texts: list[tuple[int, int]]) -> None:
    first, length = np.array(texts, dtype=np.int32).reshape(-1, 2).T
    sequences = single(first, length)
    assert all(row[3] == -1 for row in rows_of(sequences))
    assert sequences.lengths.tolist() == [n + 2 for _, n in texts]


batches = st.lists(st.lists(inputs(6), max_size=6), min_size=1, max_size=4)


@given(batches)
def test_a_union_holds_each_distinct_sequence_once(parts: list[list[tuple[int, int, int, int]]]) -> None:
    every, where = union([sequences_of(rows) for rows in parts])
    assert len(where) == len(parts)
    for rows, at in zip(parts, where, strict=True):
        assert rows_of(every.take(at)) == rows
    if len(parts) > 1:
        assert len(set(rows_of(every))) == len(every.first)
    assert set(rows_of(every)) == {row for rows in parts for row in rows}


def test_a_text_and_its_pair_with_an_empty_text_are_distinct() -> None:
    zero = np.zeros(1, dtype=np.int64)
    every, _ = union([single(zero, zero + 3), pair(zero, zero + 3, zero, zero)])
    assert len(every.first) == 2


@given(batches)
def test_join_concatenates_the_parts_in_order(parts: list[list[tuple[int, int, int, int]]]) -> None:
    assert rows_of(join([sequences_of(rows) for rows in parts])) == [row for rows in parts for row in rows]


@given(st.lists(inputs(6), min_size=1, max_size=6), st.data())
def test_take_returns_the_selected_sequences(rows: list[tuple[int, int, int, int]], data: st.DataObject) -> None:
    which = data.draw(st.lists(st.integers(0, len(rows) - 1)))
    assert rows_of(sequences_of(rows).take(np.array(which, dtype=np.int64))) == [rows[i] for i in which]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_first_positions_are_the_first_token_of_every_sequence(count: int) -> None:
    positions = first_positions(count)
    assert positions.sequence.tolist() == list(range(count))
    assert offsets_of(positions.length).tolist() == list(range(count + 1))
    assert not positions.start.any()
