"""The best spans among scored starts and ends, without a table of all spans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints, budget_slices, offsets_of, ragged_arange, ragged_ranges, run_lengths
from distilray.model.inference.windows import word_starts

Floats = npt.NDArray[np.float32]

_CELLS = 1 << 20  # possible spans looked at together: bounds the memory where all scores are alike


@dataclass(frozen=True)
class ContextTokens:
    """Tokens of windows as ends of spans. lengths: [W]; begin, finish: [N], what tells spans apart, growing within a
    window; opens, closes: [N], the score of a span that starts or ends here."""

    lengths: Ints
    begin: Ints
    finish: Ints
    opens: Floats
    closes: Floats


@dataclass(frozen=True)
class AnswerSpans:
    """S spans: their group, what tells them apart, and their score, [S] each."""

    group: Ints
    begin: Ints
    finish: Ints
    score: Floats

    def take(self, which: Ints) -> "AnswerSpans":
        return AnswerSpans(self.group[which], self.begin[which], self.finish[which], self.score[which])


def join(parts: Sequence[AnswerSpans]) -> AnswerSpans:
    """One after another."""
    columns = zip(*((part.group, part.begin, part.finish, part.score) for part in parts), strict=True)
    return AnswerSpans(*(np.concatenate(arrays) for arrays in columns))


def best_spans(tokens: ContextTokens, group: Ints, score: np.ufunc, max_answer_len: int, count: int) -> AnswerSpans:
    """The `count` best distinct spans of each group of windows, best first; group: [W], sorted.

    score: grows with both of its arguments. Spans that tie stand in order of begin and finish.
    """
    longest = max(1, min(max_answer_len, int(tokens.lengths.max(initial=0))))
    offsets = offsets_of(tokens.lengths)
    found = []
    for part in list(budget_slices(tokens.lengths, _CELLS // longest)) or [slice(0, 0)]:
        at = slice(offsets[part.start], offsets[part.stop])
        columns = (tokens.begin[at], tokens.finish[at], tokens.opens[at], tokens.closes[at])
        found.append(_good_spans(ContextTokens(tokens.lengths[part], *columns), group[part], score, longest, count))
    return _first_distinct(join(found), count)


def _good_spans(tokens: ContextTokens, group: Ints, score: np.ufunc, longest: int, count: int) -> AnswerSpans:
    """At least the `count` best distinct spans of each group, found without a look at all spans.

    The spans that start in different places are distinct: so many of them as good as a bound show that the best
    `count` reach the bound, and few starts reach it.
    """
    window = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
    left = offsets_of(tokens.lengths)[1:][window] - np.arange(len(window))
    best = score(tokens.opens, _reach(tokens.closes, left, longest))
    bound = _bound(best, window, tokens, group, count)[window]
    start = np.flatnonzero(best >= bound)
    ends = np.minimum(left[start], longest)
    last, start = ragged_ranges(start, ends), np.repeat(start, ends)
    worth = score(tokens.opens[start], tokens.closes[last])
    good = np.flatnonzero(worth >= bound[start])
    start, last = start[good], last[good]
    spans = AnswerSpans(group[window[start]], tokens.begin[start], tokens.finish[last], worth[good])
    return _first_distinct(spans, count)


def _reach(values: Floats, left: Ints, width: int) -> Floats:
    """[N]: the maximum of each token and the width - 1 that follow, if in its window; left: tokens to its end."""
    reach, covered = values, 1
    while covered < width:
        step = min(covered, width - covered)
        wider = reach.copy()
        np.maximum(reach[:-step], reach[step:], out=wider[:-step], where=left[:-step] > step)
        reach, covered = wider, covered + step
    return reach


def _bound(best: Floats, window: Ints, tokens: ContextTokens, group: Ints, count: int) -> Floats:
    """[W]: a score that the `count` best distinct spans of the window's group reach.

    The highest, over the windows of the group, of the `count`-th best over places to start in the window.
    """
    new = word_starts(offsets_of(tokens.lengths), tokens.begin)
    first = np.flatnonzero(new)
    places = np.bincount(window[first], minlength=len(group))
    widest = int(places.max(initial=0))
    if widest < count:
        return np.full(len(group), -np.inf, dtype=np.float32)
    table = np.full((len(group), widest), -np.inf, dtype=np.float32)
    table[window[first], ragged_arange(places)] = np.maximum.reduceat(best, first)
    bound = np.partition(table, widest - count)[:, widest - count]
    _, sizes = run_lengths(group)
    return np.repeat(np.maximum.reduceat(bound, offsets_of(sizes)[:-1]), sizes)


def _first_distinct(spans: AnswerSpans, count: int) -> AnswerSpans:
    """The first `count` of each group, best first, and of equal spans the best."""
    spans = spans.take(np.lexsort((-spans.score, spans.finish, spans.begin, spans.group)))
    same = np.zeros(len(spans.group), dtype=np.bool_)
    same[1:] = True
    for column in (spans.group, spans.begin, spans.finish):
        same[1:] &= column[1:] == column[:-1]
    spans = spans.take(np.flatnonzero(~same))
    spans = spans.take(np.lexsort((-spans.score, spans.group)))  # stable
    return spans.take(np.flatnonzero(ragged_arange(run_lengths(spans.group)[1]) < count))
