"""A text and the spans in it, cut into the pieces that a terminal or a page shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from distilray.operators.tasks.task import Span

_LEAD = 20  # characters shown before the first span of a passage, more or less


@dataclass(frozen=True)
class Piece:
    """A part of a text. inside: the span that begins first of those it lies in, if any; starting, ending: spans that begin and
    end with it."""

    text: str
    inside: Span | None
    starting: tuple[Span, ...]
    ending: tuple[Span, ...]


@dataclass(frozen=True)
class Passage:
    """Pieces of a text, in order. begin, end: in characters of it; length: of all of it."""

    pieces: tuple[Piece, ...]
    begin: int
    end: int
    length: int


def passage(text: str, spans: Sequence[Span], size: int) -> Passage:
    """At most `size` characters of a text, about where most spans are; a span that does not end in it is not marked."""
    begin, end = _bounds(text, spans, size)
    inside = sorted(
        (span for span in spans if begin <= span.start < span.end <= end), key=lambda span: (span.start, -span.end)
    )
    cuts = sorted({begin, end, *(span.start for span in inside), *(span.end for span in inside)})
    pieces = (_piece(text, inside, first, last) for first, last in pairwise(cuts))
    return Passage(tuple(pieces), begin, end, len(text))


def _piece(text: str, spans: Iterable[Span], first: int, last: int) -> Piece:
    around = [span for span in spans if span.start <= first and last <= span.end]
    return Piece(
        text[first:last],
        around[0] if around else None,
        tuple(span for span in around if span.start == first),
        tuple(span for span in around if span.end == last),
    )


def _bounds(text: str, spans: Sequence[Span], size: int) -> tuple[int, int]:
    if len(text) <= size:
        return 0, len(text)
    starts = np.sort(np.array([span.start for span in spans], dtype=np.int64))
    within = np.searchsorted(starts, starts + size * 3 // 4) - np.arange(len(starts))
    first = int(starts[within.argmax()]) if len(starts) else 0
    begin = max(first - _LEAD, 0)
    begin = text.rfind(" ", max(begin - _LEAD, 0), begin) + 1 or begin  # a word is not cut, if there are words
    return begin, min(begin + size, len(text))
