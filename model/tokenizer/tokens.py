"""The tokens of many texts as flat arrays."""

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
    """The tokens of R texts, end to end, without [CLS] and [SEP].

    offsets: int64 [R + 1], the first token of each text. input_ids: int32 [N]. word_ids: int32 [N], the word of each
    token, counted from 0 in each text. start, end: int32 [N], in characters of the original text.
    """

    offsets: npt.NDArray[np.int64]
    input_ids: npt.NDArray[np.int32]
    word_ids: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]


_TOKEN_FIELDS = [field.name for field in fields(Tokens)][1:]


def encode(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> Tokens:
    """Tokenize texts with the library."""
    # the library returns one object per text; only this function loops over rows
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    lengths = np.fromiter(map(len, encodings), dtype=np.int64, count=len(encodings))
    total = int(lengths.sum())
    ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int32, count=total)
    words = np.fromiter(chain.from_iterable(e.word_ids for e in encodings), dtype=np.int32, count=total)
    pairs = chain.from_iterable(e.offsets for e in encodings)
    spans = np.fromiter(chain.from_iterable(pairs), dtype=np.int32, count=2 * total).reshape(-1, 2)
    return Tokens(offsets_of(lengths), ids, words, spans[:, 0].copy(), spans[:, 1].copy())


def join(parts: Sequence[Tokens]) -> Tokens:
    """Concatenate the texts of at least one part, in order."""
    if len(parts) == 1:
        return parts[0]
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Tokens(
        offsets_of(lengths), *(np.concatenate([getattr(part, name) for part in parts]) for name in _TOKEN_FIELDS)
    )


def take(tokens: Tokens, rows: Ints) -> Tokens:
    """Return the tokens of the texts with these numbers, in the given order."""
    lengths = np.diff(tokens.offsets)[rows]
    indices = ragged_ranges(tokens.offsets[rows], lengths)
    return Tokens(offsets_of(lengths), *(getattr(tokens, name)[indices] for name in _TOKEN_FIELDS))


class SpecialTokenIds(NamedTuple):
    """The ids of the special tokens around texts."""

    cls_id: int
    sep_id: int
