"""Tokens of many texts as flat arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import tokenizers

from distilray.model.arrays import Ints, offsets_of, ragged_ranges


@dataclass(frozen=True)
class Tokens:
    """The tokens of R texts end to end, without [CLS] and [SEP].

    offsets: int64 [R + 1], where each text's tokens start; input_ids, word_ids: int32 [N], words counted from
    0 in each text; start, end: int32 [N], in characters of the original text.
    """

    offsets: npt.NDArray[np.int64]
    input_ids: npt.NDArray[np.int32]
    word_ids: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]


_FLAT = [field.name for field in fields(Tokens)][1:]


def encode(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> Tokens:
    """What the library makes of the texts."""
    # the library hands out one object a text; taking them apart here is the only walk over rows
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    lengths = np.fromiter(map(len, encodings), dtype=np.int64, count=len(encodings))
    total = int(lengths.sum())
    ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int32, count=total)
    words = np.fromiter(chain.from_iterable(e.word_ids for e in encodings), dtype=np.int32, count=total)
    pairs = chain.from_iterable(e.offsets for e in encodings)
    spans = np.fromiter(chain.from_iterable(pairs), dtype=np.int32, count=2 * total).reshape(-1, 2)
    return Tokens(offsets_of(lengths), ids, words, spans[:, 0].copy(), spans[:, 1].copy())


def join(parts: Sequence[Tokens]) -> Tokens:
    """The texts of all parts, of which there is at least one, in order."""
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Tokens(offsets_of(lengths), *(np.concatenate([getattr(part, name) for part in parts]) for name in _FLAT))


def take(tokens: Tokens, rows: Ints) -> Tokens:
    """The texts of these numbers, in their order."""
    lengths = np.diff(tokens.offsets)[rows]
    at = ragged_ranges(tokens.offsets[rows], lengths)
    return Tokens(offsets_of(lengths), *(getattr(tokens, name)[at] for name in _FLAT))


class SpecialTokenIds(NamedTuple):
    """The ids that stand around texts."""

    cls_id: int
    sep_id: int
