"""What a model is given, as slices of a pool of tokens, and where its outputs are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from distilray.model.arrays import Ints, offsets_of, ragged_ranges
from distilray.model.tokenizer.tokens import SpecialTokenIds

SINGLE, PAIR = 2, 3  # special tokens of [CLS] a [SEP] and of [CLS] a [SEP] b [SEP]
_NO_PAIR = -1


@dataclass(frozen=True)
class Sequences:
    """S model inputs, [CLS] a [SEP] or [CLS] a [SEP] b [SEP], whose texts are slices of one pool of tokens.

    first, length, pair_first, pair_length: int64 [S]; a pair_length of -1: no second text.
    """

    first: Ints
    length: Ints
    pair_first: Ints
    pair_length: Ints

    @property
    def lengths(self) -> Ints:
        """Tokens of each, special ones included."""
        return self.length + SINGLE + np.where(self.pair_length < 0, 0, self.pair_length + PAIR - SINGLE)

    def take(self, which: Ints) -> "Sequences":
        """The chosen sequences, by index."""
        return Sequences(self.first[which], self.length[which], self.pair_first[which], self.pair_length[which])

    def assemble(self, pool: Ints, specials: SpecialTokenIds) -> Ints:
        """The token ids of all sequences end to end, int32."""
        cu = offsets_of(self.lengths)
        ids = np.full(cu[-1], specials.sep_id, dtype=np.int32)
        ids[cu[:-1]] = specials.cls_id
        ids[ragged_ranges(cu[:-1] + 1, self.length)] = pool[ragged_ranges(self.first, self.length)]
        pair_length = np.maximum(self.pair_length, 0)
        second = ragged_ranges(cu[:-1] + 2 + self.length, pair_length)
        ids[second] = pool[ragged_ranges(self.pair_first, pair_length)]
        return ids


def single(first: Ints, length: Ints) -> Sequences:
    """[CLS] a [SEP]."""
    return pair(first, length, np.zeros_like(length), np.full_like(length, _NO_PAIR))


def pair(first: Ints, length: Ints, pair_first: Ints, pair_length: Ints) -> Sequences:
    """[CLS] a [SEP] b [SEP]."""
    return Sequences(*(np.asarray(values, dtype=np.int64) for values in (first, length, pair_first, pair_length)))


def join(parts: Sequence[Sequences]) -> Sequences:
    """All sequences, part by part."""
    fields = ("first", "length", "pair_first", "pair_length")
    return Sequences(*(np.concatenate([getattr(part, name) for part in parts]) for name in fields))


def union(parts: Sequence[Sequences]) -> tuple[Sequences, list[Ints]]:
    """Each distinct sequence of several parts once, and for each part where its sequences are among them."""
    if len(parts) == 1:  # nothing to share
        return parts[0], [np.arange(len(parts[0].first))]
    every = join(parts)
    columns = (every.first, every.length, every.pair_first, every.pair_length)
    order = np.lexsort(columns)
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = np.logical_or.reduce([column[order][1:] != column[order][:-1] for column in columns])
    index = np.empty(len(order), dtype=np.int64)
    index[order] = np.cumsum(new) - 1
    bounds = np.cumsum([len(p.first) for p in parts])[:-1]
    return every.take(order[new]), np.split(index, bounds)
