"""A text with spans, cut into the pieces that a terminal or a page shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from distilray.operators.tasks.task import Span

_LEAD = 20  # about how many characters are shown before the first span of a passage


@dataclass(frozen=True)
class Piece:
    """A part of a text.

    inside: the span that contains the piece, or None. If several contain it, this is the one that starts first.
    starting: the spans that start where the piece starts. ending: the spans that end where the piece ends.
    """

    text: str
    inside: Span | None
    starting: tuple[Span, ...]
    ending: tuple[Span, ...]


@dataclass(frozen=True)
class Passage:
    """A part of a text as pieces, in order.

    begin, end: the offsets of the part in the text. length: the length of the whole text. All three count characters.
    """

    pieces: tuple[Piece, ...]
    begin: int
    end: int
    length: int


def passage(text: str, spans: Sequence[Span], size: int) -> Passage:
    """Return the passage of at most `size` characters of a text in which most spans start.

    A span that is not completely in the passage is left out.
    """
    begin, end = _bounds(text, spans, size)
    complete = sorted(
        (span for span in spans if begin <= span.start < span.end <= end), key=lambda span: (span.start, -span.end)
    )
    cuts = sorted({begin, end, *(span.start for span in complete), *(span.end for span in complete)})
    pieces = (_piece(text, complete, first, last) for first, last in pairwise(cuts))
    return Passage(tuple(pieces), begin, end, len(text))


def _piece(text: str, spans: Iterable[Span], first: int, last: int) -> Piece:
    containing = [span for span in spans if span.start <= first and last <= span.end]
    return Piece(
        text[first:last],
        containing[0] if containing else None,
        tuple(span for span in containing if span.start == first),
        tuple(span for span in containing if span.end == last),
    )


def _bounds(text: str, spans: Sequence[Span], size: int) -> tuple[int, int]:
    if len(text) <= size:
        return 0, len(text)
    starts = np.sort(np.array([span.start for span in spans], dtype=np.int64))
    following = np.searchsorted(starts, starts + size * 3 // 4) - np.arange(len(starts))  # spans in the next characters
    first = int(starts[following.argmax()]) if len(starts) else 0
    begin = max(first - _LEAD, 0)
    begin = text.rfind(" ", max(begin - _LEAD, 0), begin) + 1 or begin  # start at a word, if there is one
    return begin, min(begin + size, len(text))
