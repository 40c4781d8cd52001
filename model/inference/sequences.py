"""Model inputs as slices of a pool of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distilray.model.arrays import Ints, offsets_of, ragged_ranges
from distilray.model.tokenizer.tokens import SpecialTokenIds

SINGLE, PAIR = 2, 3  # the number of special tokens of [CLS] a [SEP] and of [CLS] a [SEP] b [SEP]
_NO_PAIR = -1


@dataclass(frozen=True)
class Sequences:
    """S model inputs, [CLS] a [SEP] or [CLS] a [SEP] b [SEP]. Their texts are slices of one pool of tokens.

    first, length: the slice of a. pair_first, pair_length: the slice of b; a pair_length of -1 means that there is no
    b. All are int64 [S].
    """

    first: Ints
    length: Ints
    pair_first: Ints
    pair_length: Ints

    @property
    def lengths(self) -> Ints:
        """The number of tokens of each sequence, with special tokens."""
        return self.length + SINGLE + np.where(self.pair_length < 0, 0, self.pair_length + PAIR - SINGLE)

    def take(self, which: Ints) -> "Sequences":
        """Return the sequences with these indices."""
        return Sequences(self.first[which], self.length[which], self.pair_first[which], self.pair_length[which])

    def assemble(self, pool: Ints, specials: SpecialTokenIds) -> Ints:
        """Return the token ids of all sequences, end to end, int32."""
        cu_seqlens = offsets_of(self.lengths)
        ids = np.full(cu_seqlens[-1], specials.sep_id, dtype=np.int32)
        ids[cu_seqlens[:-1]] = specials.cls_id
        ids[ragged_ranges(cu_seqlens[:-1] + 1, self.length)] = pool[ragged_ranges(self.first, self.length)]
        pair_length = np.maximum(self.pair_length, 0)
        pair_indices = ragged_ranges(cu_seqlens[:-1] + 2 + self.length, pair_length)
        ids[pair_indices] = pool[ragged_ranges(self.pair_first, pair_length)]
        return ids


def single(first: Ints, length: Ints) -> Sequences:
    """Make sequences [CLS] a [SEP]."""
    return pair(first, length, np.zeros_like(length), np.full_like(length, _NO_PAIR))


def pair(first: Ints, length: Ints, pair_first: Ints, pair_length: Ints) -> Sequences:
    """Make sequences [CLS] a [SEP] b [SEP]."""
    return Sequences(*(np.asarray(values, dtype=np.int64) for values in (first, length, pair_first, pair_length)))


def join(parts: Sequence[Sequences]) -> Sequences:
    """Concatenate sequences, part by part."""
    fields = ("first", "length", "pair_first", "pair_length")
    return Sequences(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def union(parts: Sequence[Sequences]) -> tuple[Sequences, list[Ints]]:
    """Return each distinct sequence of the parts once, and for each part the indices of its sequences in this union."""
    if len(parts) == 1:  # nothing to share
        return parts[0], [np.arange(len(parts[0].first))]
    joined = join(parts)
    columns = (joined.first, joined.length, joined.pair_first, joined.pair_length)
    order = np.lexsort(columns)
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = np.logical_or.reduce([column[order][1:] != column[order][:-1] for column in columns])
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.cumsum(is_first) - 1
    part_ends = np.cumsum([len(part.first) for part in parts])[:-1]
    return joined.take(order[is_first]), np.split(numbers, part_ends)
