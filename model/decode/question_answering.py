"""Decoding of start and end logits into answers, by the rules of distilray or of Transformers 4.57.

See docs/tasks.md for the rules. An ask is one (row, question) pair. Its context has one or more windows. An answer is a span of context tokens within
one window (Devlin et al. 2019, arXiv:1810.04805, section 4.2), or the null answer "", whose logits are those at [CLS].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints, offsets_of, ragged_arange, run_lengths
from distilray.model.decode.answer_spans import AnswerSpans, ContextTokens, Floats, best_spans, join
from distilray.model.decode.scores import ragged_softmax
from distilray.model.inference.windows import word_starts

N_BEST = 20  # the number of answers in the softmax of an ask, as in BERT's own script


@dataclass(frozen=True)
class QuestionWindows:
    """W windows of asks, with their N context tokens end to end.

    ask: int64 [W], non-decreasing. lengths: int64 [W], the number of context tokens, 0 for an empty context.
    start_logits, end_logits: float32 [N], finite. null_start, null_end: float32 [W], the logits at [CLS]. start, end:
    [N], the characters of each token in its context. word_ids: [N], the word of each token, counted in its context.

    Raises ValueError for arrays that do not fit together.
    """

    ask: Ints
    lengths: Ints
    start_logits: Floats
    end_logits: Floats
    null_start: Floats
    null_end: Floats
    start: Ints
    end: Ints
    word_ids: Ints

    def __post_init__(self) -> None:
        """Check the sizes. The logits are checked where they are computed."""
        sizes = dict.fromkeys(("ask", "lengths", "null_start", "null_end"), len(self.ask))
        tokens = int(self.lengths.sum())
        sizes |= dict.fromkeys(("start_logits", "end_logits", "start", "end", "word_ids"), tokens)
        if mismatches := {
            name: len(getattr(self, name)) for name, size in sizes.items() if len(getattr(self, name)) != size
        }:
            raise ValueError(
                f"expected arrays for {len(self.ask)} windows with {tokens} context tokens in all, got the lengths {mismatches}"
            )
        if np.any(np.diff(self.ask) < 0):
            raise ValueError("the windows of an ask must be neighbours: expected `ask` not to decrease")


@dataclass(frozen=True)
class RankedAnswers:
    """The A answers of some asks.

    ask: int64 [A], sorted. start, end: int32 [A], characters of the context, both 0 for the null answer. score: float32
    [A]. Within an ask the best answer comes first, except in `hf_candidates`.
    """

    ask: npt.NDArray[np.int64]
    start: npt.NDArray[np.int32]
    end: npt.NDArray[np.int32]
    score: Floats


def decode(
    windows: QuestionWindows,
    *,
    max_answer_len: int = 15,
    top_k: int = 1,
    align_to_words: bool = True,
    handle_impossible_answer: bool = False,
    null_threshold: float = 0.0,
) -> RankedAnswers:
    """Return the `top_k` best answers of each ask. Logits are compared across windows.

    The score of a span of at most `max_answer_len` tokens is its start logit plus its end logit. `align_to_words` then
    widens the span to whole words. Spans of two windows with the same characters are one answer, with
    the better of the two scores.

    The score of the null answer is its minimum over the windows. The null answer comes before a span if its score is
    more than `null_threshold` above the score of the span. The returned scores are the softmax over the null
    answer and the N_BEST (or `top_k`, if more) best spans of the ask.

    An ask without context tokens gets the null answer if `handle_impossible_answer` is set, else no answer. Raises
    ValueError for a `max_answer_len` or `top_k` below 1.
    """
    _check_positive(max_answer_len=max_answer_len, top_k=top_k)
    asks, counts = run_lengths(windows.ask)
    group = np.repeat(np.arange(len(asks)), counts)
    begin, finish = _word_characters(windows, group) if align_to_words else (windows.start, windows.end)
    tokens = ContextTokens(windows.lengths, begin, finish, windows.start_logits, windows.end_logits)
    spans = best_spans(tokens, group, np.add, max_answer_len, max(N_BEST, top_k))
    rank_score = spans.score.astype(np.float64)
    if handle_impossible_answer:
        zero = np.zeros_like(asks)
        null = AnswerSpans(
            np.arange(len(asks)), zero, zero, _run_minimum(windows.null_start + windows.null_end, counts)
        )
        spans, rank_score = join([spans, null]), np.append(rank_score, null.score.astype(np.float64) - null_threshold)
    # stable: of equal scores, a span comes before the null answer
    spans = spans.take(np.lexsort((-rank_score, spans.group)))
    sizes = run_lengths(spans.group)[1]
    score = ragged_softmax(spans.score, sizes)
    return _answers(asks[spans.group], spans.begin, spans.finish, score, ragged_arange(sizes) < top_k)


def hf_candidates(
    windows: QuestionWindows, *, max_answer_len: int = 15, top_k: int = 1, align_to_words: bool = True
) -> tuple[RankedAnswers, RankedAnswers]:
    """Return Transformers' spans, window by window in its order, and the null answer of each ask, for `hf_merge`.

    Start and end probabilities are a softmax over the context tokens of a window and [CLS]. The score of a span is the
    product of the two. A word consists of its tokens in the window only. Spans of probability 0 are omitted.
    Transformers returns such spans if a window has too few others; some of these spans end before they start.

    Equal scores are in order of start, then of end; in Transformers their order depends on its sort. Raises ValueError
    for a `max_answer_len` or `top_k` below 1.
    """
    _check_positive(max_answer_len=max_answer_len, top_k=top_k)
    window_index, token_index = np.arange(len(windows.ask)), np.arange(len(windows.start))
    p_start, null_start = _window_softmax(windows.start_logits, windows.null_start, windows.lengths)
    p_end, null_end = _window_softmax(windows.end_logits, windows.null_end, windows.lengths)
    tokens = ContextTokens(windows.lengths, token_index, token_index, p_start, p_end)
    count = top_k * 2 + 10 if align_to_words else top_k  # some spans widen to the same words
    spans = best_spans(tokens, window_index, np.multiply, max_answer_len, count)
    begin, finish = _word_characters(windows, window_index) if align_to_words else (windows.start, windows.end)
    ask = windows.ask[spans.group]
    candidates = _answers(ask, begin[spans.begin], finish[spans.finish], spans.score, spans.score > 0)
    asks, counts = run_lengths(windows.ask)
    zero = np.zeros_like(asks)
    return candidates, _answers(asks, zero, zero, _run_minimum(null_start * null_end, counts), zero == 0)


def hf_merge(candidates: RankedAnswers, key: Ints, nulls: RankedAnswers | None, *, top_k: int = 1) -> RankedAnswers:
    """Merge candidates into Transformers' answers.

    Candidates of an ask with equal text become one answer. The answer takes the place of the first candidate. Its score
    is the sum of their scores, which may exceed 1. key: [A], equal for candidates of an ask whose text is the same after Python's `str.lower`. nulls: from
    `hf_candidates`, or None if impossible answers are not handled.
    """
    order = np.lexsort((key, candidates.ask))  # stable: of equal texts, the first stays first
    is_first = np.ones(len(order), dtype=np.bool_)
    is_first[1:] = (np.diff(candidates.ask[order]) != 0) | (np.diff(key[order]) != 0)
    total = np.zeros(len(order))  # float64, like the sums of Python
    total[order[is_first]] = np.bincount(np.cumsum(is_first) - 1, candidates.score[order])
    first = np.sort(order[is_first])
    ask, start, end, total = candidates.ask[first], candidates.start[first], candidates.end[first], total[first]
    if nulls is not None:
        ask, total = np.append(ask, nulls.ask), np.append(total, nulls.score)
        start, end = np.append(start, nulls.start), np.append(end, nulls.end)
    order = np.lexsort((-total, ask))  # stable
    rank = ragged_arange(run_lengths(ask[order])[1])
    return _answers(ask, start, end, total, order[rank < top_k])


def _window_softmax(logits: Floats, null: Floats, lengths: Ints) -> tuple[Floats, Floats]:
    """Return the probabilities of the context tokens [N] and of [CLS] [W]. Their sum is 1 in each window."""
    null_index = offsets_of(lengths)[1:] + np.arange(len(lengths))  # [CLS] after its window's tokens
    is_null = np.zeros(len(logits) + len(null), dtype=np.bool_)
    is_null[null_index] = True
    values = np.empty(len(is_null), dtype=np.float32)
    values[is_null], values[~is_null] = null, logits
    probabilities = ragged_softmax(values, lengths + 1)
    return probabilities[~is_null], probabilities[is_null]


def _word_characters(windows: QuestionWindows, group: Ints) -> tuple[Ints, Ints]:
    """Return the start and end of the word of each token, [N] each, in characters.

    A word consists of all of its tokens in the windows of its group. group: [W], the group of each window.
    """
    offsets = offsets_of(windows.lengths)
    first = np.flatnonzero(word_starts(offsets, windows.word_ids))
    sizes = np.diff(np.append(first, len(windows.word_ids)))
    word_group = np.repeat(group, windows.lengths)[first]
    word = windows.word_ids[first].astype(np.int64)
    min_word = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    max_word = np.full(len(min_word), -1)
    np.minimum.at(min_word, word_group, word)
    np.maximum.at(max_word, word_group, word)
    group_offsets = offsets_of(np.maximum(max_word - min_word, -1) + 1)
    word_index = group_offsets[word_group] + word - min_word[word_group]
    begin = np.full(group_offsets[-1], np.iinfo(np.int64).max)
    finish = np.zeros(group_offsets[-1], dtype=np.int64)
    np.minimum.at(begin, word_index, windows.start[first])
    np.maximum.at(finish, word_index, windows.end[first + sizes - 1])
    return np.repeat(begin[word_index], sizes), np.repeat(finish[word_index], sizes)


def _run_minimum(values: Floats, counts: Ints) -> Floats:
    """Return the minimum of each group of `counts` neighbours."""
    return np.minimum.reduceat(values, offsets_of(counts)[:-1]) if len(counts) else values


def _answers(
    ask: Ints, start: Ints, end: Ints, score: npt.NDArray[np.floating], selection: npt.NDArray[Any]
) -> RankedAnswers:
    types = (np.int64, np.int32, np.int32, np.float32)
    return RankedAnswers(
        *(column[selection].astype(dtype) for column, dtype in zip((ask, start, end, score), types, strict=True))
    )


def _check_positive(**options: int) -> None:
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"expected {name} to be at least 1, got {value}")
