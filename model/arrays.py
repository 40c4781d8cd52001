"""Array types, and functions for ragged arrays: rows laid end to end, with lengths or offsets."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Arrays = tuple[npt.NDArray[Any], ...]


def budget_slices(lengths: Ints, tokens_per_pack: int) -> Iterator[slice]:
    """Cut sequences, in their order, into slices of at most `tokens_per_pack` tokens.

    A sequence longer than the budget gets a slice of its own. Nothing is dropped.
    """
    offsets, first = offsets_of(lengths), 0
    while first < len(lengths):
        last = pack_end(offsets, first, tokens_per_pack)
        yield slice(first, last)
        first = last


def pack_end(offsets: Ints, first: int, tokens_per_pack: int) -> int:
    """Return the number of the sequence after the last one of a pack that starts with sequence `first`.

    The pack has at most `tokens_per_pack` tokens. It has at least one sequence if `first` exists, even if that sequence
    is longer. offsets: [B + 1], the first token of each sequence.
    """
    last = int(np.searchsorted(offsets, offsets[first] + tokens_per_pack, side="right")) - 1
    return min(max(last, first + 1), len(offsets) - 1)


def offsets_of(lengths: Ints) -> npt.NDArray[np.int64]:
    """Return [0, l0, l0 + l1, ...]: int64 [len(lengths) + 1]."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ragged_arange(lengths: Ints) -> npt.NDArray[np.int64]:
    """Return 0..l0-1, 0..l1-1, ...: int64 [sum(lengths)]."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)


def ragged_ranges(starts: Ints, lengths: Ints) -> npt.NDArray[np.int64]:
    """Return s0..s0+l0-1, s1..s1+l1-1, ...: the indices that gather slices of a flat array."""
    return np.repeat(starts, lengths) + ragged_arange(lengths)


def run_lengths(values: Ints) -> tuple[Ints, npt.NDArray[np.int64]]:
    """Return the value and the length of each run of equal values."""
    if not len(values):
        return values, np.zeros(0, dtype=np.int64)
    first = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    return values[first], np.diff(np.append(first, len(values)))
