"""Text to ragged token arrays, with the real `tokenizers` library and DistilBERT's rules."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise

import numpy as np
import numpy.typing as npt
import tokenizers

from distilray.model.checkpoint import Checkpoint
from distilray.model.config import CheckpointError
from distilray.model.packed import offsets_of
from distilray.model.sequences import Specials
from distilray.model.tokenizer_spec import SpecialTokens, read_spec

# texts are encoded in slices of this many characters, to bound the library's own memory (~300 bytes a token)
_SLICE_CHARS = 4_000_000


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


class Tokenizer:
    """A checkpoint's tokenizer; `special_tokens` says what a literal "[SEP]" in a text is."""

    def __init__(self, checkpoint: Checkpoint, special_tokens: SpecialTokens = "text") -> None:
        """CheckpointError if the tokenizer's files are missing, broken, or not this model's."""
        try:
            spec = read_spec(checkpoint, special_tokens)
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec.description))
        except CheckpointError:
            raise
        except Exception as error:  # the library raises bare Exception, and JSON may hold anything anywhere
            raise CheckpointError(f"{checkpoint.uri}: the tokenizer cannot be used: {error!r}") from error
        cls_id, sep_id, self.unk_id = (spec.ids[spec.special[role]] for role in ("cls_token", "sep_token", "unk_token"))
        self.specials = Specials(cls_id, sep_id)
        self.mask_id = spec.ids.get(spec.special.get("mask_token", ""))
        self.description = json.dumps(spec.description, sort_keys=True)  # equal for two tokenizers that agree
        self.vocabulary = _vocabulary(spec.ids)
        self.max_length = spec.max_length

    @cached_property
    def token_chars(self) -> npt.NDArray[np.int32]:
        """int32 [vocabulary]: how many characters each token's string has."""
        return np.fromiter(map(len, self.vocabulary), dtype=np.int32, count=len(self.vocabulary))

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokens of all texts, whole, whatever their length."""
        chars = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
        cuts = np.flatnonzero(np.diff(np.cumsum(chars) // _SLICE_CHARS)) + 1
        bounds = [0, *cuts.tolist(), len(texts)]
        parts = [self._encode(texts[a:b]) for a, b in pairwise(bounds)]
        lengths, ids, words, spans = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return Tokens(offsets_of(lengths), ids, words, spans[:, 0].copy(), spans[:, 1].copy())

    def _encode(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int32], ...]:
        # the library hands out one object a text; taking them apart here is the only walk over rows
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        lengths = np.fromiter(map(len, encodings), dtype=np.int32, count=len(encodings))
        total = int(lengths.sum())
        ids = np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int32, count=total)
        words = np.fromiter(chain.from_iterable(e.word_ids for e in encodings), dtype=np.int32, count=total)
        pairs = chain.from_iterable(e.offsets for e in encodings)
        spans = np.fromiter(chain.from_iterable(pairs), dtype=np.int32, count=2 * total).reshape(-1, 2)
        return lengths, ids, words, spans


def _vocabulary(ids: Mapping[str, int]) -> tuple[str, ...]:
    """Each id's token; "" for an id that has none."""
    tokens = [""] * (max(ids.values()) + 1)
    for token, i in ids.items():
        tokens[i] = token
    return tuple(tokens)
