"""A cache of words: every chunk of text is tokenized by the library once, and looked up from then on."""

from itertools import count, repeat

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from distilray.model.arrays import Ints, offsets_of
from distilray.model.tokenizer.pretokenize import Bytes, Int32s, Int64s, split
from distilray.model.tokenizer.tokens import Tokens, encode

_LONGEST = 128  # characters; longer chunks, such as base64, hardly come again
_GROUP = 100  # new chunks go to the library so many in a text: it is slow on very short texts and on very long ones
_CHUNK_BYTES, _CHAR_BYTES, _TOKEN_BYTES = 200, 4, 16  # at most, in the dictionary and the arrays


class WordCache:
    """Chunks by number, and their tokens as ragged arrays.

    At most `limit` bytes, by estimate, are kept from call to call; when they are used up it starts afresh. Not for
    several threads at once.
    """

    def __init__(self, tokenizer: tokenizers.Tokenizer, limit: int, *, chinese: bool) -> None:
        """chinese: whether the tokenizer sets Chinese characters apart."""
        self._tokenizer, self._limit, self._chinese = tokenizer, limit, chinese
        self._numbers: dict[str, int]
        self._room: int  # bytes left; less than 0: used up
        self._size: int  # tokens kept
        self._entries: list[Int32s]  # of each chunk: first token, tokens, words
        self._tokens: list[Int32s]  # of each token: input_ids, and counted in the chunk, word_ids, start, end
        self._clear()

    def __call__(self, data: Bytes, bounds: Int64s) -> Tokens:
        """Tokens of R texts. data: their UTF-8, end to end, less than 2 GiB; bounds: [R + 1], where each begins."""
        chunks = split(data, bounds, chinese=self._chinese)
        entries = self._find(chunks.distinct)[chunks.which]
        first, counts, words = (column[entries] for column in self._entries)
        token_at, word_at = offsets_of(counts).astype(np.int32), offsets_of(words).astype(np.int32)
        at = np.repeat(first - token_at[:-1], counts) + np.arange(token_at[-1], dtype=np.int32)
        input_ids, word_ids, start, end = (column[at] for column in self._tokens)
        word_ids += np.repeat(_since_row(word_at, chunks.rows), counts)
        characters = np.repeat(_since_row(chunks.start, chunks.rows), counts)
        start += characters
        end += characters
        return Tokens(token_at[chunks.rows].astype(np.int64), input_ids, word_ids, start, end)

    def _find(self, chunks: pa.StringArray) -> Int32s:
        """The number of each of these different chunks; the arrays have the tokens of all of them until the next call."""
        if self._room < 0:
            self._clear()
        strings = chunks.to_pylist()
        numbers = np.fromiter(map(self._numbers.get, strings, repeat(-1)), dtype=np.int32, count=len(strings))
        new = np.flatnonzero(numbers < 0)
        lengths = pc.utf8_length(chunks).to_numpy()[new]
        order = np.argsort(lengths, kind="stable")  # what is too long to be kept comes last
        numbers[new[order]] = len(self._numbers) + np.arange(len(new), dtype=np.int32)
        if len(new):
            self._add([strings[i] for i in new[order].tolist()], lengths[order])
        return numbers

    def _add(self, chunks: list[str], lengths: Int32s) -> None:
        """Tokenizes chunks, of so many characters, and keeps those that are short and that there is room for."""
        counts, words, *columns = tokenize_chunks(self._tokenizer, chunks, lengths)
        known, tokens = len(self._numbers), self._size
        first = tokens + offsets_of(counts)
        self._entries = [_put(c, known, v) for c, v in zip(self._entries, (first[:-1], counts, words), strict=True)]
        self._tokens = [_put(c, tokens, v) for c, v in zip(self._tokens, columns, strict=True)]
        used = offsets_of(_CHUNK_BYTES + _CHAR_BYTES * lengths + _TOKEN_BYTES * counts)
        short = int(np.searchsorted(lengths, _LONGEST, side="right"))
        kept = min(short, int(np.searchsorted(used, self._room, side="right")) - 1)
        self._numbers.update(zip(chunks[:kept], count(known)))
        self._size = int(first[kept])
        self._room = self._room - int(used[kept]) if kept == short else -1

    def _clear(self) -> None:
        self._numbers, self._room, self._size = {}, self._limit, 0
        self._entries, self._tokens = ([np.zeros(0, dtype=np.int32)] * n for n in (3, 4))


def tokenize_chunks(tokenizer: tokenizers.Tokenizer, chunks: list[str], lengths: Ints) -> tuple[Ints, ...]:
    """Of each chunk, of so many characters, its tokens and words; of each token input_ids, and counted in its chunk word_ids, start
    and end."""
    texts = [" ".join(chunks[i : i + _GROUP]) for i in range(0, len(chunks), _GROUP)]
    tokens = encode(tokenizer, texts)
    begin = offsets_of(lengths + 1)
    text_begin = np.repeat(begin[:-1:_GROUP], np.diff(tokens.offsets))
    start = tokens.start + text_begin
    chunk = np.searchsorted(begin, start, side="right") - 1
    counts = np.bincount(chunk, minlength=len(chunks))
    first = offsets_of(counts)
    some = np.flatnonzero(counts)
    first_word, words = np.zeros((2, len(chunks)), dtype=np.int64)
    first_word[some] = tokens.word_ids[first[some]]
    words[some] = tokens.word_ids[first[some + 1] - 1] - first_word[some] + 1
    columns = tokens.word_ids - first_word[chunk], start - begin[chunk], tokens.end + text_begin - begin[chunk]
    return (counts, words, tokens.input_ids, *columns)


def _since_row(counted: Int32s, rows: Int64s) -> Int32s:
    """What is counted from the first text on, [C] or [C + 1], counted from each chunk's own text on: [C]."""
    chunks = np.diff(rows)
    some = chunks > 0
    since: Int32s = counted[: rows[-1]] - np.repeat(counted[rows[:-1][some]], chunks[some])
    return since


def _put(column: Int32s, size: int, values: Ints) -> Int32s:
    """The first `size` values of a column, and then these; it grows by doubling."""
    if size + len(values) > len(column):
        grown = np.empty(2 * (size + len(values)), dtype=np.int32)
        grown[:size] = column[:size]
        column = grown
    column[size : size + len(values)] = values
    return column
