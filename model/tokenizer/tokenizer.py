"""Text to ragged token arrays, with the real `tokenizers` library and DistilBERT's rules."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.errors import CheckpointError
from distilray.model.tokenizer.pretokenize import Bytes, Int64s
from distilray.model.tokenizer.spec import SpecialTokens, read_spec
from distilray.model.tokenizer.tokens import SpecialTokenIds, Tokens, encode, join, take
from distilray.model.tokenizer.word_cache import WordCache

__all__ = ["Tokenizer", "Tokens"]

Texts: TypeAlias = pa.Array | pa.ChunkedArray | Sequence[str]

_SLICE_BYTES = 4_000_000  # of texts at a time, to bound temporary memory (the library's own is ~300 bytes a token)
_LONGEST_BYTES = 2**31 - 1 - _SLICE_BYTES  # of a text: offsets in it are int32
_BERT = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}


class Tokenizer:
    """A checkpoint's tokenizer; `special_tokens` says what a literal "[SEP]" in a text is.

    Words are looked up in a cache of at most `cache_bytes` and the library tokenizes new ones; it gets whole texts where
    that would not be exact, see `library_only`.
    """

    def __init__(
        self, checkpoint: Checkpoint, special_tokens: SpecialTokens = "text", *, cache_bytes: int = 64 * 2**20
    ) -> None:
        """CheckpointError if the tokenizer's files are missing, broken, or not this model's."""
        try:
            spec = read_spec(checkpoint, special_tokens)
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec.description))
        except CheckpointError:
            raise
        except Exception as error:  # the library raises bare Exception, and JSON may hold anything anywhere
            raise CheckpointError(f"{checkpoint.uri}: the tokenizer cannot be used: {error!r}") from error
        cls_id, sep_id, self.unk_id = (spec.ids[spec.special[role]] for role in ("cls_token", "sep_token", "unk_token"))
        self.specials = SpecialTokenIds(cls_id, sep_id)
        self.mask_id = spec.ids.get(spec.special.get("mask_token", ""))
        self.description = json.dumps(spec.description, sort_keys=True)  # equal for two tokenizers that agree
        self.vocabulary = _vocabulary(spec.ids)
        self.max_length = spec.max_length
        self.library_only = _library_only(spec.description)
        self._added = [token["content"] for token in spec.description["added_tokens"]]
        normalizer = spec.description["normalizer"] or {}
        self._cache = WordCache(self._tokenizer, cache_bytes, chinese=normalizer.get("handle_chinese_chars") is True)

    @cached_property
    def token_chars(self) -> npt.NDArray[np.int32]:
        """int32 [vocabulary]: how many characters each token's string has."""
        return np.fromiter(map(len, self.vocabulary), dtype=np.int32, count=len(self.vocabulary))

    def __call__(self, texts: Texts) -> Tokens:
        """Tokens of all texts, whole, whatever their length; a null has none.

        Raises TypeError for an Arrow array that is not of strings, ValueError for a text of 2 GiB or more.
        """
        column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string())
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise TypeError(f"expected an Arrow array of string or large_string, got {column.type}: cast it")
        arrays = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        parts = [part for array in arrays for part in _parts(pc.fill_null(array, ""))]
        return join([self._encode(part) for part in parts or [pa.array([], pa.string())]])

    def _encode(self, texts: pa.Array) -> Tokens:
        if self.library_only:
            return encode(self._tokenizer, texts.to_pylist())
        # these tokens match the text as it is, before anything is done to it: no text without one can have a match
        found = [pc.match_substring(texts, content) for content in self._added]
        is_whole = reduce(pc.or_, found, pa.repeat(False, len(texts)))
        if not pc.any(is_whole).as_py():
            return self._cache(*_bytes(texts))
        cached = self._cache(*_bytes(pc.if_else(is_whole, pa.scalar("", texts.type), texts)))
        whole = encode(self._tokenizer, texts.filter(is_whole).to_pylist())
        rows = np.arange(len(texts))
        rows[is_whole.to_numpy(zero_copy_only=False)] = len(texts) + np.arange(len(whole.offsets) - 1)
        return take(join([cached, whole]), rows)


def _library_only(description: Mapping[str, Any]) -> str | None:
    """Why whole texts must go through the library; None where chunks are known to give the same."""
    types = {part: (description.get(part) or {}).get("type") for part in _BERT}
    if types != _BERT:
        return f"words are cut as {', '.join(_BERT.values())} cut them, and this tokenizer has {types}"
    if any(token["normalized"] for token in description["added_tokens"]):
        return "an added token matches normalized text, where it may reach over several words"
    return None


def _parts(texts: pa.Array) -> Iterator[pa.Array]:
    """The array in runs of about _SLICE_BYTES, none of them without a text."""
    sizes = pc.binary_length(texts).to_numpy().astype(np.int64)
    if (longest := sizes.max(initial=0)) > _LONGEST_BYTES:
        raise ValueError(f"a text has {longest} bytes: expected at most {_LONGEST_BYTES}, cut it into several rows")
    cuts = np.flatnonzero(np.diff(np.cumsum(sizes) // _SLICE_BYTES)) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(texts)]):
        if first < last:
            yield texts.slice(first, last - first)


def _bytes(texts: pa.Array) -> tuple[Bytes, Int64s]:
    """The UTF-8 of an array without nulls, end to end, and where each text begins in it."""
    _, offsets, data = texts.buffers()
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    bounds = np.frombuffer(offsets or bytes(8), dtype=width)[texts.offset :][: len(texts) + 1].astype(np.int64)
    return np.frombuffer(data or b"", dtype=np.uint8)[bounds[0] : bounds[-1]], bounds - bounds[0]


def _vocabulary(ids: Mapping[str, int]) -> tuple[str, ...]:
    """Each id's token; "" for an id that has none."""
    tokens = [""] * (max(ids.values()) + 1)
    for token, i in ids.items():
        tokens[i] = token
    return tuple(tokens)
