"""Tests of the decoding of logits to answers, against a loop over all spans and hand-computed values."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilray.model.decode import answer_spans, question_answering
from distilray.model.decode.question_answering import RankedAnswers, decode, hf_candidates, hf_merge
from distilray.model.inference.windows import split_into_hf_windows, split_into_windows
from tests.model.decode.asking import SCORE, Answer, Window, hf, joined, listed, peak, spans, words

# against a loop over all spans


def reference(ask: Sequence[Window], options: dict[str, Any], n_best: int) -> list[Answer]:
    """Return the answers of one ask. n_best: the number of spans that share the probability, at least top_k."""
    best: dict[tuple[int, int], float] = {}
    for w in ask:
        for i in range(w.first, w.last):
            for j in range(i, min(w.last, i + options["max_answer_len"])):
                start, end = int(w.context.start[i]), int(w.context.end[j])
                if options["align_to_words"]:
                    start = int(w.context.start[w.context.word_ids == w.context.word_ids[i]].min())
                    end = int(w.context.end[w.context.word_ids == w.context.word_ids[j]].max())
                worth = float(np.float32(w.start[i - w.first]) + np.float32(w.end[j - w.first]))
                best[start, end] = max(worth, best.get((start, end), -np.inf))
    ranked = sorted(((-worth, *span) for span, worth in best.items()))[: max(n_best, options["top_k"])]
    places = [(place, 0, (start, end), -place) for place, start, end in ranked]
    if options["handle_impossible_answer"]:
        null = min(float(np.float32(w.null[0]) + np.float32(w.null[1])) for w in ask)
        places.append((-(null - options["null_threshold"]), 1, (0, 0), null))
    places.sort(key=lambda p: p[:2])
    total = sum(np.exp(worth) for *_, worth in places)
    return [(*span, float(np.exp(worth) / total)) for _, _, span, worth in places][: options["top_k"]]


# few values, so that many spans tie
logits = st.integers(-8, 8).map(lambda n: n / 2)


@st.composite
def asks(draw: st.DrawFn) -> list[list[Window]]:
    """Draw asks whose windows cover their context.

    Windows may share tokens and split words. Each window has its own logits.
    """
    drawn = []
    for _ in range(draw(st.integers(0, 4))):
        context = words(draw(st.lists(st.integers(1, 4), max_size=16)))
        edges = sorted(draw(st.sets(st.integers(1, max(1, context.tokens - 1)), max_size=3)) | {0, context.tokens})
        windows = []
        for a, b in pairwise(edges) if context.tokens else [(0, 0)]:
            first, last = max(0, a - draw(st.integers(0, 4))), min(context.tokens, b + draw(st.integers(0, 4)))
            values = draw(st.lists(logits, min_size=2 * (last - first) + 2, max_size=2 * (last - first) + 2))
            start, end = np.array(values[2:]).reshape(2, -1)
            windows.append(Window(context, first, last, start, end, (values[0], values[1])))
        drawn.append(windows)
    return drawn


options = st.fixed_dictionaries(
    {
        "max_answer_len": st.sampled_from([1, 2, 3, 7, 15, 1000]),
        "top_k": st.sampled_from([1, 3, 20, 25]),
        "align_to_words": st.booleans(),
        "handle_impossible_answer": st.booleans(),
        "null_threshold": st.sampled_from([0.0, -3.0, 1.5]),
    }
)


@given(asks=asks(), options=options, cells=st.sampled_from([20, 1 << 20]), n_best=st.sampled_from([1, 4, 20]))
def test_decode_equals_a_loop_over_all_spans(
    asks: list[list[Window]], options: dict[str, Any], cells: int, n_best: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(question_answering, "N_BEST", n_best)  # few: most spans are never ranked
        patch.setattr(answer_spans, "_MAX_CELLS", cells)  # few: the windows of an ask are searched one by one
        actual = listed(decode(joined(asks), **options))
    expected = {i: answers for i, ask in enumerate(asks) if (answers := reference(ask, options, n_best))}
    assert {i: spans(answers) for i, answers in actual.items()} == {i: spans(a) for i, a in expected.items()}
    for i, answers in expected.items():
        assert [score for *_, score in actual[i]] == pytest.approx([score for *_, score in answers], abs=SCORE)


@given(asks=asks(), options=options)
def test_the_size_of_the_search_block_does_not_change_the_answers(
    asks: list[list[Window]], options: dict[str, Any]
) -> None:
    names = ("max_answer_len", "top_k", "align_to_words")
    chosen = {name: options[name] for name in names}
    whole, nulls = hf_candidates(joined(asks), **chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_spans, "_MAX_CELLS", 1)
        parts, _ = hf_candidates(joined(asks), **chosen)
    assert listed(parts) == listed(whole)
    assert len(nulls.ask) == len([ask for ask in asks if ask])


# invariances


@given(st.data())
def test_windows_with_equal_logits_give_the_answers_of_the_whole_context(data: st.DataObject) -> None:
    """This holds if adjacent windows share at least max_answer_len - 1 tokens.

    Each span then lies in one window.
    """
    context = words(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=60)))
    n = context.tokens
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    start, end = rng.normal(0, 3, (2, n)).astype(np.float32)
    capacity = data.draw(st.integers(12, 24))
    cut = data.draw(st.sampled_from([split_into_windows, split_into_hf_windows]))
    # `split` may move both edges of a window by a third of the overlap
    overlap = capacity // 2
    max_answer_len = 1 + overlap - 2 * (overlap // 3)
    offsets = np.array([0, n])
    windows = (
        split_into_windows(offsets, context.word_ids, capacity, overlap)
        if cut is split_into_windows
        else split_into_hf_windows(offsets, capacity, overlap)
    )
    parts = [Window(context, a, b, start[a:b], end[a:b]) for a, b in zip(windows.start, windows.end, strict=True)]
    chosen = {"max_answer_len": max_answer_len, "top_k": 5, "handle_impossible_answer": True}
    actual, whole = (listed(decode(joined([ask]), **chosen))[0] for ask in (parts, [Window(context, 0, n, start, end)]))
    assert spans(actual) == spans(whole)
    assert [score for *_, score in actual] == pytest.approx([score for *_, score in whole], abs=SCORE)


@given(asks=asks(), options=options)
def test_asks_are_independent_of_each_other(asks: list[list[Window]], options: dict[str, Any]) -> None:
    together = listed(decode(joined(asks), **options))
    for i, ask in enumerate(asks):
        assert listed(decode(joined([ask]), **options)).get(0) == together.get(i)


@given(asks=asks(), options=options)
def test_only_differences_of_logits_matter(asks: list[list[Window]], options: dict[str, Any]) -> None:
    moved = [
        [replace(w, start=w.start + 64, end=w.end - 32, null=(w.null[0] + 64, w.null[1] - 32)) for w in ask]
        for ask in asks
    ]
    actual, expected = (listed(decode(joined(some), **options)) for some in (moved, asks))
    assert actual.keys() == expected.keys()
    for i, answers in expected.items():
        assert spans(actual[i]) == spans(answers)
        assert [s for *_, s in actual[i]] == pytest.approx([s for *_, s in answers], abs=SCORE)


# hand-computed values


def test_texts_with_equal_scores_keep_the_order_of_their_first_candidates() -> None:
    """The numbers of their keys do not matter."""
    place = np.arange(5, dtype=np.int32)
    score = np.array([0.25, 0.25, 0.5, 0.125, 0.125], dtype=np.float32)
    candidates = RankedAnswers(np.zeros(5, dtype=np.int64), place, place + 1, score)
    merged = hf_merge(candidates, np.array([9, 2, 7, 9, 2]), None, top_k=3)
    assert listed(merged)[0] == [(2, 3, 0.5), (0, 1, 0.375), (1, 2, 0.375)]


def test_the_null_answer_ranks_first_if_it_exceeds_the_threshold() -> None:
    windows = joined([[peak(words([1] * 5), (2, 3), 3.0, null=4.0)]])
    chosen = {"handle_impossible_answer": True, "top_k": 2}
    for threshold, first in ((0.0, (0, 0)), (1.9, (0, 0)), (2.0, (6, 11)), (5.0, (6, 11))):
        [best, second] = listed(decode(windows, null_threshold=threshold, **chosen))[0]
        assert spans([best]) == [first]
        assert {*spans([best, second])} == {(0, 0), (6, 11)}
        assert max(best[2], second[2]) == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5)


def test_the_null_answer_gets_its_lowest_score_of_all_windows() -> None:
    context = words([1] * 5)
    windows = joined([[peak(context, (2, 3), 3.0, null=1.0), peak(context, (1, 1), -5.0, null=9.0)]])
    assert spans(listed(decode(windows, handle_impossible_answer=True))[0]) == [(6, 11)]


def test_decode_restores_a_word_that_windows_split() -> None:
    """`decode` uses all windows of the context. Transformers uses only the window that holds the span."""
    context, text = words([1, 4, 1]), "aa bbbbbbbb cc"
    windows = joined([[peak(context, (0, 1), 5.0, first=0, last=3), peak(context, (5, 5), 0.0, first=3, last=6)]])
    assert spans(listed(decode(windows))[0]) == [(0, 11)]
    assert spans(hf(windows, [text])[0]) == [(0, 7)]


def test_a_context_without_tokens_has_only_the_null_answer_or_no_answer() -> None:
    empty = Window(words([]), 0, 0, np.zeros(0), np.zeros(0), (1.0, 2.0))
    windows = joined([[empty], [peak(words([1]), (0, 0), 5.0)], [empty]])
    assert {i: spans(a) for i, a in listed(decode(windows)).items()} == {1: [(0, 2)]}
    with_null = listed(decode(windows, handle_impossible_answer=True))
    assert with_null[0] == [(0, 0, 1.0)]
    assert spans(with_null[2]) == [(0, 0)]
    assert {i: spans(a) for i, a in hf(windows, ["", "aa", ""]).items()} == {1: [(0, 2)]}
    assert hf(windows, ["", "aa", ""], null=True)[0] == [(0, 0, 1.0)]


def test_no_asks_give_no_answers() -> None:
    assert listed(decode(joined([]), handle_impossible_answer=True)) == {}
    assert hf(joined([]), [], null=True) == {}


@pytest.mark.parametrize("name", ["top_k", "max_answer_len"])
@pytest.mark.parametrize("function", [decode, hf_candidates])
def test_options_below_one_are_an_error(name: str, function: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} to be at least 1, got 0"):
        function(joined([]), **{name: 0})


def test_arrays_of_inconsistent_lengths_are_an_error() -> None:
    windows = joined([[peak(words([1] * 5), (2, 3), 3.0)], [peak(words([1] * 5), (2, 3), 3.0)]])
    with pytest.raises(ValueError, match=r"2 windows with 10 context tokens in all, got the lengths .*'end_logits': 9"):
        replace(windows, end_logits=windows.end_logits[:-1])
    with pytest.raises(ValueError, match="expected `ask` not to decrease"):
        replace(windows, ask=np.array([1, 0]))
