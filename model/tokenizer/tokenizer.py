"""Tokenization of texts into ragged arrays, with the `tokenizers` library and DistilBERT's rules."""

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

_SLICE_BYTES = 4_000_000  # per step; this bounds temporary memory (the library takes about 300 bytes per token)
_MAX_TEXT_BYTES = 2**31 - 1 - _SLICE_BYTES  # of one text; its offsets are int32
_BERT_PARTS = {"normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer", "model": "WordPiece"}


class Tokenizer:
    """The tokenizer of a checkpoint. `special_tokens` states how it treats a literal "[SEP]" in a text.

    It finds words in a cache of at most `cache_bytes`, and the library tokenizes new words. If a cache of
    words would not be exact, the library gets whole texts, and `library_only` gives the reason.
    """

    def __init__(
        self, checkpoint: Checkpoint, special_tokens: SpecialTokens = "text", *, cache_bytes: int = 64 * 2**20
    ) -> None:
        """Load the tokenizer. Raises CheckpointError if its files are missing, broken, or do not fit the model."""
        try:
            spec = read_spec(checkpoint, special_tokens)
            self._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(spec.description))
        except CheckpointError:
            raise
        except Exception as error:  # the library raises bare Exception, and JSON may have any content
            raise CheckpointError(f"{checkpoint.uri}: the tokenizer cannot be used: {error!r}") from error
        cls_id, sep_id, self.unk_id = (spec.ids[spec.special[role]] for role in ("cls_token", "sep_token", "unk_token"))
        self.specials = SpecialTokenIds(cls_id, sep_id)
        self.mask_id = spec.ids.get(spec.special.get("mask_token", ""))
        # equal for two tokenizers that give the same tokens
        self.description = json.dumps(spec.description, sort_keys=True)
        self.vocabulary = _vocabulary(spec.ids)
        self.max_length = spec.max_length
        self.library_only = _library_only(spec.description)
        self._added = [token["content"] for token in spec.description["added_tokens"]]
        normalizer = spec.description["normalizer"] or {}
        self._cache = WordCache(self._tokenizer, cache_bytes, chinese=normalizer.get("handle_chinese_chars") is True)

    @cached_property
    def token_chars(self) -> npt.NDArray[np.int32]:
        """The number of characters of each token's string, int32 [vocabulary]."""
        return np.fromiter(map(len, self.vocabulary), dtype=np.int32, count=len(self.vocabulary))

    def __call__(self, texts: Texts) -> Tokens:
        """Tokenize all texts, without truncation. A null has no tokens.

        Raises TypeError for an Arrow array that does not hold strings, ValueError for a text of 2 GiB or more.
        """
        column = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(texts, pa.string())
        if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
            raise TypeError(f"expected an Arrow array of string or large_string, got {column.type}: cast it")
        arrays = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        parts = [part for array in arrays for part in _slices(pc.fill_null(array, ""))]
        return join([self._encode(part) for part in parts or [pa.array([], pa.string())]])

    def _encode(self, texts: pa.Array) -> Tokens:
        if self.library_only:
            return encode(self._tokenizer, texts.to_pylist())
        # added tokens match the text before it is normalized, so only texts that contain one need the library
        matches = [pc.match_substring(texts, content) for content in self._added]
        has_added = reduce(pc.or_, matches, pa.repeat(False, len(texts)))
        if not pc.any(has_added).as_py():
            return self._cache(*_utf8(texts))
        cached = self._cache(*_utf8(pc.if_else(has_added, pa.scalar("", texts.type), texts)))
        uncached = encode(self._tokenizer, texts.filter(has_added).to_pylist())
        rows = np.arange(len(texts))
        rows[has_added.to_numpy(zero_copy_only=False)] = len(texts) + np.arange(len(uncached.offsets) - 1)
        return take(join([cached, uncached]), rows)


def _library_only(description: Mapping[str, Any]) -> str | None:
    """Return why the library must tokenize whole texts, or None if chunks are known to give the same tokens."""
    types = {part: (description.get(part) or {}).get("type") for part in _BERT_PARTS}
    if types != _BERT_PARTS:
        return f"the word cache needs {', '.join(_BERT_PARTS.values())}, and this tokenizer has {types}"
    if any(token["normalized"] for token in description["added_tokens"]):
        return "an added token matches normalized text, where it may span several words"
    return None


def _slices(texts: pa.Array) -> Iterator[pa.Array]:
    """Yield the array in slices of about _SLICE_BYTES. Each slice holds at least one text."""
    sizes = pc.binary_length(texts).to_numpy().astype(np.int64)
    if (longest := sizes.max(initial=0)) > _MAX_TEXT_BYTES:
        raise ValueError(f"a text has {longest} bytes: expected at most {_MAX_TEXT_BYTES}; split it into several rows")
    bounds = np.flatnonzero(np.diff(np.cumsum(sizes) // _SLICE_BYTES)) + 1
    for first, last in pairwise([0, *bounds.tolist(), len(texts)]):
        if first < last:
            yield texts.slice(first, last - first)


def _utf8(texts: pa.Array) -> tuple[Bytes, Int64s]:
    """Return the UTF-8 bytes of an array without nulls, end to end, and the start of each text in them."""
    _, offsets, data = texts.buffers()
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    bounds = np.frombuffer(offsets or bytes(8), dtype=width)[texts.offset :][: len(texts) + 1].astype(np.int64)
    return np.frombuffer(data or b"", dtype=np.uint8)[bounds[0] : bounds[-1]], bounds - bounds[0]


def _vocabulary(ids: Mapping[str, int]) -> tuple[str, ...]:
    """Return the token of each id; "" for an id without a token."""
    tokens = [""] * (max(ids.values()) + 1)
    for token, token_id in ids.items():
        tokens[token_id] = token
    return tuple(tokens)
