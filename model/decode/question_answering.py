"""Start and end logits to answers, by our rules and by those of Transformers 4.57 (spec: docs/tasks.md).

An ask is one (row, question) pair; it has one window or more over its context. An answer is a span of context tokens
within one window (Devlin et al. 2019, arXiv:1810.04805, section 4.2), or the null answer "", read at [CLS].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints, offsets_of, ragged_arange, run_lengths
from distilray.model.decode.answer_spans import AnswerSpans, ContextTokens, Floats, best_spans, join
from distilray.model.decode.scores import ragged_softmax
from distilray.model.inference.windows import word_starts

N_BEST = 20  # answers that share an ask's probability, as in BERT's own script


@dataclass(frozen=True)
class QuestionWindows:
    """W windows of asks, their N context tokens end to end.

    ask: int64 [W], non-decreasing; lengths: int64 [W], context tokens, 0 for a context without any;
    start_logits, end_logits: float32 [N], finite; null_start, null_end: float32 [W], the logits at [CLS];
    start, end: [N], characters of each token in its context; word_ids: [N], of the tokenizer, counted in the context.
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
        """Counts only: logits are checked where they are made."""
        sizes = dict.fromkeys(("ask", "lengths", "null_start", "null_end"), len(self.ask))
        tokens = int(self.lengths.sum())
        sizes |= dict.fromkeys(("start_logits", "end_logits", "start", "end", "word_ids"), tokens)
        if wrong := {
            name: len(getattr(self, name)) for name, size in sizes.items() if len(getattr(self, name)) != size
        }:
            raise ValueError(f"{len(self.ask)} windows with {tokens} context tokens in all, but {wrong}")
        if np.any(np.diff(self.ask) < 0):
            raise ValueError("the windows of an ask must stand together: expected `ask` not to decrease")


@dataclass(frozen=True)
class RankedAnswers:
    """A answers. ask: int64 [A], sorted; start, end: int32 [A], characters of the context, both 0 for the null answer;
    score: float32 [A]. Within an ask the best comes first, except in `hf_candidates`."""

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
    """The `top_k` best answers of each ask, by logits that compare across windows.

    A span of at most `max_answer_len` tokens is worth its start logit plus its end logit; `align_to_words` then widens
    it to whole words. The same characters in two windows are one answer, worth the better. The null answer is worth
    the least that a window gives it; it stands `null_threshold` lower when answers are put in order, so that it comes
    first if it beats the best span by more than that. Scores: softmax over the ask's N_BEST (or `top_k`, if more)
    spans and the null answer.
    An ask without context tokens gets the null answer if that is handled, and otherwise no answer at all.
    Raises ValueError for a `max_answer_len` or `top_k` below 1.
    """
    _check_positive(max_answer_len=max_answer_len, top_k=top_k)
    asks, counts = run_lengths(windows.ask)
    group = np.repeat(np.arange(len(asks)), counts)
    begin, finish = _word_characters(windows, group) if align_to_words else (windows.start, windows.end)
    tokens = ContextTokens(windows.lengths, begin, finish, windows.start_logits, windows.end_logits)
    spans = best_spans(tokens, group, np.add, max_answer_len, max(N_BEST, top_k))
    place = spans.score.astype(np.float64)
    if handle_impossible_answer:
        zero = np.zeros_like(asks)
        null = AnswerSpans(np.arange(len(asks)), zero, zero, _least(windows.null_start + windows.null_end, counts))
        spans, place = join([spans, null]), np.append(place, null.score.astype(np.float64) - null_threshold)
    spans = spans.take(np.lexsort((-place, spans.group)))  # stable: a span comes before its equal, the null answer
    sizes = run_lengths(spans.group)[1]
    score = ragged_softmax(spans.score, sizes)
    return _answers(asks[spans.group], spans.begin, spans.finish, score, ragged_arange(sizes) < top_k)


def hf_candidates(
    windows: QuestionWindows, *, max_answer_len: int = 15, top_k: int = 1, align_to_words: bool = True
) -> tuple[RankedAnswers, RankedAnswers]:
    """Transformers' spans, window by window in its order, and the null answer of each ask: input of `hf_merge`.

    Start and end probabilities are those of the window, [CLS] included; a span's score is their product. Words are
    whole as far as they lie in the window. Left out are spans of probability 0, with which Transformers fills up
    where a window has too few (among them some that end before they start).
    Among equal scores the earlier start, then the earlier end comes first; Transformers' order is its sort's whim.
    Raises ValueError for a `max_answer_len` or `top_k` below 1.
    """
    _check_positive(max_answer_len=max_answer_len, top_k=top_k)
    each, number = np.arange(len(windows.ask)), np.arange(len(windows.start))
    p_start, null_start = _window_softmax(windows.start_logits, windows.null_start, windows.lengths)
    p_end, null_end = _window_softmax(windows.end_logits, windows.null_end, windows.lengths)
    tokens = ContextTokens(windows.lengths, number, number, p_start, p_end)
    wanted = top_k * 2 + 10 if align_to_words else top_k  # some turn out to be the same words
    spans = best_spans(tokens, each, np.multiply, max_answer_len, wanted)
    begin, finish = _word_characters(windows, each) if align_to_words else (windows.start, windows.end)
    ask = windows.ask[spans.group]
    candidates = _answers(ask, begin[spans.begin], finish[spans.finish], spans.score, spans.score > 0)
    asks, counts = run_lengths(windows.ask)
    zero = np.zeros_like(asks)
    return candidates, _answers(asks, zero, zero, _least(null_start * null_end, counts), zero == 0)


def hf_merge(candidates: RankedAnswers, key: Ints, nulls: RankedAnswers | None, *, top_k: int = 1) -> RankedAnswers:
    """Transformers' answers: candidates of an ask that read the same are one, at the first's place, scores summed.

    key: [A], equal for candidates of an ask whose text is the same after Python's `str.lower`. nulls: from
    `hf_candidates`, or None where impossible answers are not handled. Scores may exceed 1.
    """
    order = np.lexsort((key, candidates.ask))  # stable: the first of its text stays first
    new = np.ones(len(order), dtype=np.bool_)
    new[1:] = (np.diff(candidates.ask[order]) != 0) | (np.diff(key[order]) != 0)
    total = np.zeros(len(order))  # float64, as Python's
    total[order[new]] = np.bincount(np.cumsum(new) - 1, candidates.score[order])
    first = np.sort(order[new])
    ask, start, end, total = candidates.ask[first], candidates.start[first], candidates.end[first], total[first]
    if nulls is not None:
        ask, total = np.append(ask, nulls.ask), np.append(total, nulls.score)
        start, end = np.append(start, nulls.start), np.append(end, nulls.end)
    order = np.lexsort((-total, ask))  # stable
    nth = ragged_arange(run_lengths(ask[order])[1])
    return _answers(ask, start, end, total, order[nth < top_k])


def _window_softmax(logits: Floats, null: Floats, lengths: Ints) -> tuple[Floats, Floats]:
    """Probabilities of the context tokens [N] and of [CLS] [W], together 1 in each window."""
    at_null = offsets_of(lengths)[1:] + np.arange(len(lengths))  # [CLS] after its window's tokens
    is_null = np.zeros(len(logits) + len(null), dtype=np.bool_)
    is_null[at_null] = True
    values = np.empty(len(is_null), dtype=np.float32)
    values[is_null], values[~is_null] = null, logits
    probabilities = ragged_softmax(values, lengths + 1)
    return probabilities[~is_null], probabilities[is_null]


def _word_characters(windows: QuestionWindows, group: Ints) -> tuple[Ints, Ints]:
    """Where the word of each token starts and ends, [N] each, as far as the windows of its group [W] show the word."""
    offsets = offsets_of(windows.lengths)
    first = np.flatnonzero(word_starts(offsets, windows.word_ids))
    sizes = np.diff(np.append(first, len(windows.word_ids)))
    owner = np.repeat(group, windows.lengths)[first]
    word = windows.word_ids[first].astype(np.int64)
    low = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
    high = np.full(len(low), -1)
    np.minimum.at(low, owner, word)
    np.maximum.at(high, owner, word)
    base = offsets_of(np.maximum(high - low, -1) + 1)
    nth = base[owner] + word - low[owner]
    begin = np.full(base[-1], np.iinfo(np.int64).max)
    finish = np.zeros(base[-1], dtype=np.int64)
    np.minimum.at(begin, nth, windows.start[first])
    np.maximum.at(finish, nth, windows.end[first + sizes - 1])
    return np.repeat(begin[nth], sizes), np.repeat(finish[nth], sizes)


def _least(values: Floats, counts: Ints) -> Floats:
    """The minimum of each run."""
    return np.minimum.reduceat(values, offsets_of(counts)[:-1]) if len(counts) else values


def _answers(
    ask: Ints, start: Ints, end: Ints, score: npt.NDArray[np.floating], which: npt.NDArray[Any]
) -> RankedAnswers:
    types = (np.int64, np.int32, np.int32, np.float32)
    return RankedAnswers(*(column[which].astype(t) for column, t in zip((ask, start, end, score), types, strict=True)))


def _check_positive(**options: int) -> None:
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"expected {name} to be at least 1, got {value}")
