"""The search for the best spans among scored starts and ends. It builds no table of all spans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints, budget_slices, offsets_of, ragged_arange, ragged_ranges, run_lengths
from distilray.model.inference.windows import word_starts

Floats = npt.NDArray[np.float32]

_MAX_CELLS = 1 << 20  # possible spans per step; this limits the memory if all scores are equal


@dataclass(frozen=True)
class ContextTokens:
    """The N tokens of W windows, each a possible start and a possible end of a span.

    lengths: [W], the number of tokens of each window. begin, finish: [N], the values that identify a span which starts
    or ends at each token; both grow within a window. start_score, end_score: [N], the score of each token as the start
    or as the end of a span.
    """

    lengths: Ints
    begin: Ints
    finish: Ints
    start_score: Floats
    end_score: Floats


@dataclass(frozen=True)
class AnswerSpans:
    """S spans, [S] each.

    group: the group of windows of each span. begin, finish: the values that identify the span. score: its score.
    """

    group: Ints
    begin: Ints
    finish: Ints
    score: Floats

    def take(self, which: Ints) -> "AnswerSpans":
        return AnswerSpans(self.group[which], self.begin[which], self.finish[which], self.score[which])


def join(parts: Sequence[AnswerSpans]) -> AnswerSpans:
    """Concatenate spans, part by part."""
    columns = zip(*((part.group, part.begin, part.finish, part.score) for part in parts), strict=True)
    return AnswerSpans(*(np.concatenate(arrays) for arrays in columns))


def best_spans(tokens: ContextTokens, group: Ints, score: np.ufunc, max_answer_len: int, count: int) -> AnswerSpans:
    """Return the `count` best distinct spans of each group of windows, best first.

    group: [W], the group of each window, sorted. score: the function of start score and end score; it grows with both.
    Spans with equal scores are in order of begin and finish.
    """
    max_length = max(1, min(max_answer_len, int(tokens.lengths.max(initial=0))))
    offsets = offsets_of(tokens.lengths)
    candidates = []
    for part in list(budget_slices(tokens.lengths, _MAX_CELLS // max_length)) or [slice(0, 0)]:
        token_slice = slice(offsets[part.start], offsets[part.stop])
        columns = (
            tokens.begin[token_slice],
            tokens.finish[token_slice],
            tokens.start_score[token_slice],
            tokens.end_score[token_slice],
        )
        candidates.append(
            _candidate_spans(ContextTokens(tokens.lengths[part], *columns), group[part], score, max_length, count)
        )
    return _first_distinct(join(candidates), count)


def _candidate_spans(tokens: ContextTokens, group: Ints, score: np.ufunc, max_length: int, count: int) -> AnswerSpans:
    """Return at least the `count` best distinct spans of each group, without a search of all spans.

    Spans with different starts are distinct. If `count` such spans reach a bound, the `count` best spans reach it, too.
    Only the few starts that reach the bound are searched.
    """
    window = np.repeat(np.arange(len(tokens.lengths)), tokens.lengths)
    tokens_left = offsets_of(tokens.lengths)[1:][window] - np.arange(len(window))
    best_from_start = score(tokens.start_score, _window_maximum(tokens.end_score, tokens_left, max_length))
    bounds = _score_bound(best_from_start, window, tokens, group, count)[window]
    start = np.flatnonzero(best_from_start >= bounds)
    lengths = np.minimum(tokens_left[start], max_length)
    last, start = ragged_ranges(start, lengths), np.repeat(start, lengths)
    scores = score(tokens.start_score[start], tokens.end_score[last])
    kept = np.flatnonzero(scores >= bounds[start])
    start, last = start[kept], last[kept]
    spans = AnswerSpans(group[window[start]], tokens.begin[start], tokens.finish[last], scores[kept])
    return _first_distinct(spans, count)


def _window_maximum(values: Floats, tokens_left: Ints, width: int) -> Floats:
    """Return the maximum of each token and the width - 1 tokens after it in its window: [N].

    tokens_left: the number of tokens to the end of the window.
    """
    maximum, covered = values, 1
    while covered < width:
        step = min(covered, width - covered)
        wider = maximum.copy()
        np.maximum(maximum[:-step], maximum[step:], out=wider[:-step], where=tokens_left[:-step] > step)
        maximum, covered = wider, covered + step
    return maximum


def _score_bound(best_from_start: Floats, window: Ints, tokens: ContextTokens, group: Ints, count: int) -> Floats:
    """Return a score that all of the `count` best distinct spans of each window's group reach: [W].

    Each start in a window has a best span. The bound of a window is the `count`-th best score of these spans. The
    result is the largest bound among the windows of the group.
    """
    is_start = word_starts(offsets_of(tokens.lengths), tokens.begin)
    starts = np.flatnonzero(is_start)
    start_counts = np.bincount(window[starts], minlength=len(group))
    max_starts = int(start_counts.max(initial=0))
    if max_starts < count:
        return np.full(len(group), -np.inf, dtype=np.float32)
    table = np.full((len(group), max_starts), -np.inf, dtype=np.float32)
    table[window[starts], ragged_arange(start_counts)] = np.maximum.reduceat(best_from_start, starts)
    bound = np.partition(table, max_starts - count)[:, max_starts - count]
    _, sizes = run_lengths(group)
    return np.repeat(np.maximum.reduceat(bound, offsets_of(sizes)[:-1]), sizes)


def _first_distinct(spans: AnswerSpans, count: int) -> AnswerSpans:
    """Return the `count` best spans of each group, best first. Of spans with equal begin and finish, keep the best."""
    spans = spans.take(np.lexsort((-spans.score, spans.finish, spans.begin, spans.group)))
    same = np.zeros(len(spans.group), dtype=np.bool_)
    same[1:] = True
    for column in (spans.group, spans.begin, spans.finish):
        same[1:] &= column[1:] == column[:-1]
    spans = spans.take(np.flatnonzero(~same))
    spans = spans.take(np.lexsort((-spans.score, spans.group)))  # stable
    return spans.take(np.flatnonzero(ragged_arange(run_lengths(spans.group)[1]) < count))
