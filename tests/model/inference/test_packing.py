"""Tests of packs and of ragged arrays, against loops."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilray.model.arrays import budget_slices, offsets_of, ragged_arange, ragged_ranges, run_lengths
from distilray.model.network.pack import make_pack

Lengths = st.lists(st.integers(1, 600), max_size=60)
MaybeEmpty = st.lists(st.integers(0, 9), max_size=40)


def ints(values: list[int]) -> np.ndarray:
    return np.array(values, dtype=np.int64)


@given(Lengths, st.integers(1, 2000))
def test_budget_slices_cover_all_sequences_in_order_within_the_budget(lengths: list[int], budget: int) -> None:
    slices = list(budget_slices(ints(lengths), budget))
    assert [i for s in slices for i in range(s.start, s.stop)] == list(range(len(lengths)))
    assert all(sum(lengths[s]) <= budget or s.stop - s.start == 1 for s in slices)


@given(Lengths, st.integers(1, 2000))
def test_a_budget_slice_ends_only_where_the_next_sequence_would_not_fit(lengths: list[int], budget: int) -> None:
    slices = list(budget_slices(ints(lengths), budget))
    assert all(sum(lengths[s]) + lengths[s.stop] > budget for s in slices[:-1])


@given(MaybeEmpty)
def test_offsets_are_the_running_sum(lengths: list[int]) -> None:
    assert offsets_of(ints(lengths)).tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]


@given(MaybeEmpty)
def test_ragged_arange_counts_within_each_sequence(lengths: list[int]) -> None:
    assert ragged_arange(ints(lengths)).tolist() == [i for length in lengths for i in range(length)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=40))
def test_ragged_ranges_equal_the_indices_of_the_slices(slices: list[tuple[int, int]]) -> None:
    starts, lengths = (ints([pair[i] for pair in slices]) for i in (0, 1))
    expected = [i for start, length in slices for i in range(start, start + length)]
    assert ragged_ranges(starts, lengths).tolist() == expected


@given(st.lists(st.integers(0, 3), max_size=40))
def test_run_lengths_rebuild_the_values(values: list[int]) -> None:
    distinct, lengths = run_lengths(ints(values))
    assert np.repeat(distinct, lengths).tolist() == values
    assert (distinct[1:] != distinct[:-1]).all()
    assert (lengths > 0).all()


@given(Lengths, st.booleans())
def test_a_pack_describes_its_sequences(lengths: list[int], descending: bool) -> None:
    lengths = sorted(lengths, reverse=descending)
    ids = np.arange(sum(lengths), dtype=np.int32)
    pack = make_pack(ids, ints(lengths))
    assert pack.input_ids.tolist() == ids.tolist()
    assert pack.input_ids.dtype == pack.position_ids.dtype == torch.int32
    assert pack.position_ids.tolist() == [i for length in lengths for i in range(length)]
    assert pack.cu_seqlens.dtype == torch.int32
    assert pack.cu_seqlens.tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    assert pack.max_seqlen == max(lengths, default=0)
    assert [length for _, count, length in pack.groups for _ in range(count)] == lengths
    assert [first for first, _, _ in pack.groups] == [sum(lengths[: lengths.index(n)]) for _, _, n in pack.groups]
