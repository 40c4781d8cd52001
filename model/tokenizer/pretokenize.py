"""Splitting of texts into chunks that WordPiece tokenizes independently, on the bytes of Arrow arrays.

BERT's tokenizer (Devlin et al. 2019, arXiv:1810.04805) never reads past white space or punctuation. The tokens of a
text are therefore the tokens of its chunks, one after the other.

Chunks end at ASCII white space, at ASCII punctuation and at the ends of texts. White space and ASCII punctuation are
single bytes in UTF-8. Common punctuation beyond ASCII also forms chunks, and so do Chinese characters if the tokenizer
separates them. All other characters, such as accents and control characters, are inside chunks.
"""

import string
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_THREE_BYTE_LEAD = 0xE0  # the first byte of a three-byte character in UTF-8, without its last four bits
_WHITE_SPACE = " \t\n\r"  # BERT removes other ASCII white space as control characters, without a split
_WORD, _SPACE, _PUNCTUATION = range(3)
_KINDS = np.full(256, _WORD, dtype=np.uint8)
_KINDS[list(_WHITE_SPACE.encode())] = _SPACE
_KINDS[list(string.punctuation.encode())] = _PUNCTUATION

# code points of three bytes in UTF-8 that are words of their own; the tests compare each with the library
_MARK_RANGES = [(0x2010, 0x2027), (0x3001, 0x3003), (0x3008, 0x3011), (0x3014, 0x301B)]
_MARK_RANGES += [(0xFF01, 0xFF03), (0xFF05, 0xFF0A), (0xFF0C, 0xFF0F)]
_MARK_RANGES += [(0xFF1A, 0xFF1B), (0xFF1F, 0xFF20), (0xFF3B, 0xFF3D)]
_CHINESE_RANGES = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF)]


def _code_point_table(ranges: Iterable[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    table = np.zeros(0x10000, dtype=np.bool_)
    for first, last in ranges:
        table[first : last + 1] = True
    return table


# by code point; the key is whether the tokenizer separates Chinese characters
STAND_ALONE = {
    True: _code_point_table(_MARK_RANGES + _CHINESE_RANGES),
    False: _code_point_table(_MARK_RANGES),
}


@dataclass(frozen=True)
class Chunks:
    """The C chunks of R texts.

    distinct: the distinct chunks, without white space at their ends. which: [C], the index of each chunk in
    `distinct`. start: [C], the start of each chunk, in characters from the start of the first text. rows: [R + 1], the first chunk of each
    text.
    """

    distinct: pa.StringArray
    which: Int32s
    start: Int32s
    rows: Int64s


def split(data: Bytes, bounds: Int64s, *, chinese: bool) -> Chunks:
    """Split R texts into chunks.

    data: the UTF-8 of the texts, end to end, less than 2 GiB. bounds: [R + 1], the start of each text. chinese: whether
    the tokenizer separates Chinese characters.
    """
    starts = _chunk_starts(data, bounds, STAND_ALONE[chinese])
    # a chunk extends to the next one, so that nothing is copied; white space is removed from the distinct chunks
    edges = np.append(starts, np.int32(len(data)))
    encoded = pa.StringArray.from_buffers(len(starts), pa.py_buffer(edges), pa.py_buffer(data)).dictionary_encode()
    trimmed = pc.utf8_rtrim(encoded.dictionary, _WHITE_SPACE).dictionary_encode()
    which = trimmed.indices.to_numpy()[encoded.indices.to_numpy()]
    return Chunks(trimmed.dictionary, which, _to_characters(data, starts), np.searchsorted(starts, bounds))


def _chunk_starts(data: Bytes, bounds: Int64s, stand_alone: npt.NDArray[np.bool_]) -> Int32s:
    """Find the starts of chunks: each punctuation mark, each word, and each text that is not empty."""
    kinds = _KINDS[data]
    begins, is_word = kinds == _PUNCTUATION, kinds == _WORD
    begins[1:] |= is_word[1:] & ~is_word[:-1]
    if data.max(initial=0) >= _THREE_BYTE_LEAD:
        alone = _stand_alone_starts(data, stand_alone)
        begins[alone] = True
        after = alone[alone + 3 < len(data)] + 3
        begins[after] |= is_word[after]
    begins[bounds[:-1][bounds[:-1] < bounds[1:]]] = True
    return np.flatnonzero(begins).astype(np.int32)


def _stand_alone_starts(data: Bytes, stand_alone: npt.NDArray[np.bool_]) -> Int64s:
    """Find the starts of characters that are words of their own."""
    leads = np.flatnonzero((data & 0xF0) == _THREE_BYTE_LEAD)
    first, second, third = (data[leads + i].astype(np.int32) for i in range(3))
    starts: Int64s = leads[stand_alone[(first & 0x0F) << 12 | (second & 0x3F) << 6 | third & 0x3F]]
    return starts


def _to_characters(data: Bytes, starts: Int32s) -> Int32s:
    """Convert byte positions to characters.

    The number of characters before a position is the number of bytes before it that start a character.
    """
    if data.max(initial=0) < 0x80:
        return starts
    character_count = np.cumsum((data & 0xC0) != 0x80, dtype=np.int32)
    characters: Int32s = character_count[starts] - 1
    return characters
