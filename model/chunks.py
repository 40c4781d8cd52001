"""Texts cut where WordPiece cannot look across, on Arrow's own bytes.

BERT's tokenizer (Devlin et al. 2019, arXiv:1810.04805) never looks past white space or punctuation: what it makes of a
text is what it makes of the chunks between them, one after the other. Chunks end at ASCII white space, at ASCII punctuation
and at the ends of texts, and those are single bytes in UTF-8; whatever else there is, such as CJK, accents and control characters,
lies inside a chunk.
"""

import string
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

_WHITE_SPACE = " \t\n\r"  # other ASCII white space is a control character to BERT: it vanishes and separates nothing
_WORD, _SPACE, _PUNCTUATION = range(3)
_KINDS = np.full(256, _WORD, dtype=np.uint8)
_KINDS[list(_WHITE_SPACE.encode())] = _SPACE
_KINDS[list(string.punctuation.encode())] = _PUNCTUATION


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


def split(data: Bytes, bounds: Int64s) -> Chunks:
    """Chunks of R texts. data: their UTF-8, end to end, less than 2 GiB; bounds: [R + 1], where each begins."""
    starts = _starts(data, bounds)
    # a chunk reaches to the next one, so that nothing is copied; white space at its end comes off the distinct ones
    cuts = np.append(starts, np.int32(len(data)))
    coded = pa.StringArray.from_buffers(len(starts), pa.py_buffer(cuts), pa.py_buffer(data)).dictionary_encode()
    trimmed = pc.utf8_rtrim(coded.dictionary, _WHITE_SPACE).dictionary_encode()
    which = trimmed.indices.to_numpy()[coded.indices.to_numpy()]
    return Chunks(trimmed.dictionary, which, _in_characters(data, starts), np.searchsorted(starts, bounds))


def _starts(data: Bytes, bounds: Int64s) -> Int32s:
    """Where chunks begin: at each punctuation mark, at each word, and at each text that is not empty."""
    kinds = _KINDS[data]
    begins, is_word = kinds == _PUNCTUATION, kinds == _WORD
    begins[1:] |= is_word[1:] & ~is_word[:-1]
    begins[bounds[:-1][bounds[:-1] < bounds[1:]]] = True
    return np.flatnonzero(begins).astype(np.int32)


def _in_characters(data: Bytes, starts: Int32s) -> Int32s:
    """Bytes as characters: those before a place are as many as the bytes before it that begin one."""
    if data.max(initial=0) < 0x80:
        return starts
    begun = np.cumsum((data & 0xC0) != 0x80, dtype=np.int32)
    characters: Int32s = begun[starts] - 1
    return characters
