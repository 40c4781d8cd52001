"""Texts cut where WordPiece cannot look across, on Arrow's own bytes.

BERT's tokenizer (Devlin et al. 2019, arXiv:1810.04805) never looks past white space or punctuation: what it makes of a
text is what it makes of the chunks between them, one after the other. Chunks end at ASCII white space, at ASCII punctuation
and at the ends of texts, which are single bytes in UTF-8; common punctuation beyond ASCII, and Chinese characters if the
tokenizer sets them apart, are chunks too. Whatever else there is, such as accents and control characters, lies inside a chunk.
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

_THREE_BYTES = 0xE0  # a byte that begins a character of three bytes in UTF-8, less its last four bits
_WHITE_SPACE = " \t\n\r"  # other ASCII white space is a control character to BERT: it vanishes and separates nothing
_WORD, _SPACE, _PUNCTUATION = range(3)
_KINDS = np.full(256, _WORD, dtype=np.uint8)
_KINDS[list(_WHITE_SPACE.encode())] = _SPACE
_KINDS[list(string.punctuation.encode())] = _PUNCTUATION

# code points, three bytes each in UTF-8, that are words of their own; the library agrees on each, see the tests
_MARKS = [(0x2010, 0x2027), (0x3001, 0x3003), (0x3008, 0x3011), (0x3014, 0x301B)]
_MARKS += [(0xFF01, 0xFF03), (0xFF05, 0xFF0A), (0xFF0C, 0xFF0F), (0xFF1A, 0xFF1B), (0xFF1F, 0xFF20), (0xFF3B, 0xFF3D)]
_CHINESE = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF)]


def _table(ranges: Iterable[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    table = np.zeros(0x10000, dtype=np.bool_)
    for first, last in ranges:
        table[first : last + 1] = True
    return table


# by code point, if Chinese characters are set apart and if not
STAND_ALONE = {True: _table(_MARKS + _CHINESE), False: _table(_MARKS)}


@dataclass(frozen=True)
class Chunks:
    """The C chunks of R texts.

    distinct: the different ones, less white space at their ends; which: [C], the number of each among them;
    start: [C], where each begins, in characters from the first text on; rows: [R + 1], where those of each text begin.
    """

    distinct: pa.StringArray
    which: Int32s
    start: Int32s
    rows: Int64s


def split(data: Bytes, bounds: Int64s, *, chinese: bool) -> Chunks:
    """Chunks of R texts. data: their UTF-8, end to end, less than 2 GiB; bounds: [R + 1], where each begins; chinese:
    whether the tokenizer sets Chinese characters apart."""
    starts = _starts(data, bounds, STAND_ALONE[chinese])
    # a chunk reaches to the next one, so that nothing is copied; white space at its end comes off the distinct ones
    cuts = np.append(starts, np.int32(len(data)))
    coded = pa.StringArray.from_buffers(len(starts), pa.py_buffer(cuts), pa.py_buffer(data)).dictionary_encode()
    trimmed = pc.utf8_rtrim(coded.dictionary, _WHITE_SPACE).dictionary_encode()
    which = trimmed.indices.to_numpy()[coded.indices.to_numpy()]
    return Chunks(trimmed.dictionary, which, _in_characters(data, starts), np.searchsorted(starts, bounds))


def _starts(data: Bytes, bounds: Int64s, stand_alone: npt.NDArray[np.bool_]) -> Int32s:
    """Where chunks begin: at each punctuation mark, at each word, and at each text that is not empty."""
    kinds = _KINDS[data]
    begins, is_word = kinds == _PUNCTUATION, kinds == _WORD
    begins[1:] |= is_word[1:] & ~is_word[:-1]
    if data.max(initial=0) >= _THREE_BYTES:
        alone = _alone(data, stand_alone)
        begins[alone] = True
        after = alone[alone + 3 < len(data)] + 3
        begins[after] |= is_word[after]
    begins[bounds[:-1][bounds[:-1] < bounds[1:]]] = True
    return np.flatnonzero(begins).astype(np.int32)


def _alone(data: Bytes, stand_alone: npt.NDArray[np.bool_]) -> Int64s:
    """Where characters begin that are words of their own."""
    at = np.flatnonzero((data & 0xF0) == _THREE_BYTES)
    first, second, third = (data[at + i].astype(np.int32) for i in range(3))
    found: Int64s = at[stand_alone[(first & 0x0F) << 12 | (second & 0x3F) << 6 | third & 0x3F]]
    return found


def _in_characters(data: Bytes, starts: Int32s) -> Int32s:
    """Bytes as characters: those before a place are as many as the bytes before it that begin one."""
    if data.max(initial=0) < 0x80:
        return starts
    begun = np.cumsum((data & 0xC0) != 0x80, dtype=np.int32)
    characters: Int32s = begun[starts] - 1
    return characters
