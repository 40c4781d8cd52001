"""A cache of words. The library tokenizes each chunk of text once; later occurrences are looked up."""

from itertools import count, repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from distilray.model.arrays import Ints, offsets_of
from distilray.model.tokenizer.pretokenize import Bytes, Int32s, Int64s, split
from distilray.model.tokenizer.tokens import Tokens, encode

_MAX_CHUNK_CHARS = 128  # longer chunks, such as base64, rarely occur again
# new chunks are joined into texts for the library, which is slow on very short and on very long texts
_CHUNKS_PER_TEXT = 100
_CHUNK_BYTES, _CHAR_BYTES, _TOKEN_BYTES = (
    200,
    4,
    16,
)  # upper bounds of the memory per chunk, per character and per token


class WordCache:
    """The numbers of chunks, and the tokens of chunks as ragged arrays.

    The cache keeps at most about `limit` bytes between calls. When these are used up, the next call starts with an
    empty cache. One cache must not be used by several threads at once.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, limit: int, *, chinese: bool) -> None:
        """Create an empty cache. chinese: whether the tokenizer separates Chinese characters."""
        self._tokenizer, self._limit, self._chinese = tokenizer, limit, chinese
        self._numbers: dict[str, int]
        self._free_bytes: int  # below 0 if the limit is used up
        self._size: int  # number of cached tokens
        self._entries: list[Int32s]  # of each chunk: first token, number of tokens, number of words
        self._tokens: list[Int32s]  # of each token: input_ids, and word_ids, start and end within the chunk
        self._clear()

    def __call__(self, data: Bytes, bounds: Int64s) -> Tokens:
        """Return the tokens of R texts.

        data: the UTF-8 of the texts, end to end, less than 2 GiB. bounds: [R + 1], the start of each text.
        """
        chunks = split(data, bounds, chinese=self._chinese)
        entries = self._look_up(chunks.distinct)[chunks.which]
        first_tokens, counts, words = (column[entries] for column in self._entries)
        token_offsets, word_offsets = offsets_of(counts).astype(np.int32), offsets_of(words).astype(np.int32)
        indices = np.repeat(first_tokens - token_offsets[:-1], counts) + np.arange(token_offsets[-1], dtype=np.int32)
        input_ids, word_ids, start, end = (column[indices] for column in self._tokens)
        word_ids += np.repeat(_relative_to_text(word_offsets, chunks.rows), counts)
        characters = np.repeat(_relative_to_text(chunks.start, chunks.rows), counts)
        start += characters
        end += characters
        return Tokens(token_offsets[chunks.rows].astype(np.int64), input_ids, word_ids, start, end)

    def _look_up(self, chunks: pa.StringArray) -> Int32s:
        """Return the number of each of these distinct chunks.

        The arrays hold the tokens of all these chunks until the next call.
        """
        if self._free_bytes < 0:
            self._clear()
        strings = chunks.to_pylist()
        numbers = np.fromiter(map(self._numbers.get, strings, repeat(-1)), dtype=np.int32, count=len(strings))
        new = np.flatnonzero(numbers < 0)
        lengths = pc.utf8_length(chunks).to_numpy()[new]
        order = np.argsort(lengths, kind="stable")  # chunks that are too long for the cache come last
        numbers[new[order]] = len(self._numbers) + np.arange(len(new), dtype=np.int32)
        if len(new):
            self._add([strings[i] for i in new[order].tolist()], lengths[order])
        return numbers

    def _add(self, chunks: list[str], lengths: Int32s) -> None:
        """Tokenize chunks, and keep the short ones that fit in the free bytes. lengths: the characters of each chunk."""
        counts, words, *columns = tokenize_chunks(self._tokenizer, chunks, lengths)
        chunk_count, token_count = len(self._numbers), self._size
        first = token_count + offsets_of(counts)
        self._entries = [
            _store(column, chunk_count, values)
            for column, values in zip(self._entries, (first[:-1], counts, words), strict=True)
        ]
        self._tokens = [
            _store(column, token_count, values) for column, values in zip(self._tokens, columns, strict=True)
        ]
        used_bytes = offsets_of(_CHUNK_BYTES + _CHAR_BYTES * lengths + _TOKEN_BYTES * counts)
        cacheable = int(np.searchsorted(lengths, _MAX_CHUNK_CHARS, side="right"))
        kept = min(cacheable, int(np.searchsorted(used_bytes, self._free_bytes, side="right")) - 1)
        self._numbers.update(zip(chunks[:kept], count(chunk_count)))
        self._size = int(first[kept])
        self._free_bytes = self._free_bytes - int(used_bytes[kept]) if kept == cacheable else -1

    def _clear(self) -> None:
        self._numbers, self._free_bytes, self._size = {}, self._limit, 0
        self._entries, self._tokens = ([np.zeros(0, dtype=np.int32)] * n for n in (3, 4))


def tokenize_chunks(tokenizer: tokenizers.Tokenizer, chunks: list[str], lengths: Ints) -> tuple[Ints, ...]:
    """Tokenize chunks. lengths: the number of characters of each chunk.

    Return six arrays. The first two are the number of tokens and the number of words of each chunk. The others are
    input_ids, word_ids, start and end of each token; the last three are counted within the chunk.
    """
    texts = [" ".join(chunks[i : i + _CHUNKS_PER_TEXT]) for i in range(0, len(chunks), _CHUNKS_PER_TEXT)]
    tokens = encode(tokenizer, texts)
    chunk_begin = offsets_of(lengths + 1)
    text_begin = np.repeat(chunk_begin[:-1:_CHUNKS_PER_TEXT], np.diff(tokens.offsets))
    start = tokens.start + text_begin
    chunk = np.searchsorted(chunk_begin, start, side="right") - 1
    counts = np.bincount(chunk, minlength=len(chunks))
    first = offsets_of(counts)
    nonempty = np.flatnonzero(counts)
    first_word, words = np.zeros((2, len(chunks)), dtype=np.int64)
    first_word[nonempty] = tokens.word_ids[first[nonempty]]
    words[nonempty] = tokens.word_ids[first[nonempty + 1] - 1] - first_word[nonempty] + 1
    columns = (
        tokens.word_ids - first_word[chunk],
        start - chunk_begin[chunk],
        tokens.end + text_begin - chunk_begin[chunk],
    )
    return (counts, words, tokens.input_ids, *columns)


def _relative_to_text(values: Int32s, rows: Int64s) -> Int32s:
    """Convert counts from the first text on to counts within the text of each chunk: [C].

    values: [C] or [C + 1], the counts from the first text on. rows: [R + 1], the first chunk of each text.
    """
    chunks = np.diff(rows)
    has_chunks = chunks > 0
    relative: Int32s = values[: rows[-1]] - np.repeat(values[rows[:-1][has_chunks]], chunks[has_chunks])
    return relative


def _store(column: Int32s, size: int, values: Ints) -> Int32s:
    """Write values after the first `size` of a column, which grows by doubling. Return the column."""
    if size + len(values) > len(column):
        grown = np.empty(2 * (size + len(values)), dtype=np.int32)
        grown[:size] = column[:size]
        column = grown
    column[size : size + len(values)] = values
    return column
