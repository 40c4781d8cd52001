"""Logits to answers: Transformers 4.57's own on real text, ours against a loop over all spans, and where the two differ."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distilray.model.checkpoint import Checkpoint
from distilray.model.decode import answer_spans, question_answering
from distilray.model.decode.question_answering import Answers, AskWindows, decode, hf_candidates, hf_merge
from distilray.model.packed import ragged_ranges
from distilray.model.tokenizer import Tokenizer
from distilray.model.windows import split, split_hf
from tests.golden import question_answering as golden

Answer = tuple[int, int, float]  # start, end, score

SCORE = 1e-6


@dataclass(frozen=True)
class Context:
    """Tokens of one context: characters [T] each, and word ids [T]."""

    start: np.ndarray
    end: np.ndarray
    word_ids: np.ndarray

    @property
    def tokens(self) -> int:
        return len(self.start)


@dataclass(frozen=True)
class Window:
    """Tokens first..last-1 of a context, their logits [last - first] each, and start and end logit of [CLS]."""

    context: Context
    first: int
    last: int
    start: np.ndarray
    end: np.ndarray
    null: tuple[float, float] = (0.0, 0.0)


Asks = Sequence[Sequence[Window]]


def words(sizes: Sequence[int]) -> Context:
    """Words of so many tokens; every token has two characters and every word a space after it."""
    word_ids = np.repeat(np.arange(len(sizes)), sizes)
    start = 2 * np.arange(len(word_ids)) + word_ids
    return Context(start, start + 2, word_ids)


def joined(asks: Asks) -> AskWindows:
    """The windows of all asks, the asks numbered by tens: they need not follow each other."""
    every = [(10 * number, window) for number, ask in enumerate(asks) for window in ask]

    def floats(parts: list[Any]) -> np.ndarray:
        return np.concatenate([np.zeros(0), *parts]).astype(np.float32)

    def tokens(name: str) -> np.ndarray:
        parts = [getattr(w.context, name)[w.first : w.last] for _, w in every]
        return np.concatenate([np.zeros(0, dtype=np.int32), *parts]).astype(np.int32)

    return AskWindows(
        ask=np.array([number for number, _ in every], dtype=np.int64),
        lengths=np.array([w.last - w.first for _, w in every], dtype=np.int64),
        start_logits=floats([w.start for _, w in every]),
        end_logits=floats([w.end for _, w in every]),
        null_start=floats([w.null[:1] for _, w in every]),
        null_end=floats([w.null[1:] for _, w in every]),
        start=tokens("start"),
        end=tokens("end"),
        word_ids=tokens("word_ids"),
    )


def listed(answers: Answers) -> dict[int, list[Answer]]:
    """The answers of each ask that has any, best first."""
    found: dict[int, list[Answer]] = {}
    columns = (column.tolist() for column in (answers.ask, answers.start, answers.end, answers.score))
    for ask, start, end, score in zip(*columns, strict=True):
        found.setdefault(ask // 10, []).append((start, end, score))
    return found


def hf(windows: AskWindows, texts: Sequence[str], *, null: bool = False, **options: Any) -> dict[int, list[Answer]]:
    """Transformers' answers; texts: the context of each ask."""
    candidates, nulls = hf_candidates(windows, **options)
    columns = (column.tolist() for column in (candidates.ask, candidates.start, candidates.end))
    lower = [texts[ask // 10][start:end].lower() for ask, start, end in zip(*columns, strict=True)]
    ids = {text: i for i, text in enumerate(dict.fromkeys(lower))}
    key = np.array([ids[text] for text in lower], dtype=np.int64)
    return listed(hf_merge(candidates, key, nulls if null else None, top_k=options.get("top_k", 1)))


def spans(answers: Sequence[Answer]) -> list[tuple[int, int]]:
    return [(start, end) for start, end, _ in answers]


# against Transformers 4.57


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(Checkpoint(str(golden.TOKENIZER)), "special")


def golden_windows(group: golden.Group) -> AskWindows:
    """The stored logits of all rows, on tokens and windows of our own making."""
    size = group.options.get("max_seq_len", 384)
    overlap = group.options.get("doc_stride", min(size // 2, 128))
    tokens = tokenizer()([row.text for row in group.rows])
    asked = np.diff(tokenizer()([row.question for row in group.rows]).offsets)
    parts = []
    for i, row in enumerate(group.rows):
        first, last = tokens.offsets[i : i + 2]
        windows = split_hf(np.array([0, last - first]), int(size - asked[i] - 3), overlap, least=1)
        assert windows.lengths.tolist() == row.windows
        at = first + ragged_ranges(windows.start, windows.lengths)
        inside, null = row.logits[:, : len(at)], row.logits[:, len(at) :]
        ask = np.full(len(row.windows), 10 * i)
        where = (tokens.start[at], tokens.end[at], tokens.word_ids[at])
        parts.append((ask, windows.lengths, *inside, *null, *where))
    return AskWindows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


@pytest.mark.parametrize("group", golden.load()[0], ids=lambda group: "-".join(map(str, group.options.values())))
def test_answers_are_those_of_transformers(group: golden.Group) -> None:
    options = {
        name: group.options[name] for name in ("top_k", "max_answer_len", "align_to_words") if name in group.options
    }
    null = group.options.get("handle_impossible_answer", False)
    ours = hf(golden_windows(group), [row.text for row in group.rows], null=null, **options)
    for i, row in enumerate(group.rows):
        # where a window has too few spans Transformers fills up with others, of probability 0
        theirs = [(int(start), int(end), score) for score, start, end in row.answers if score > 0]
        mine = ours.get(i, [])
        assert len(mine) == len(theirs)
        assert [score for *_, score in mine] == pytest.approx([score for *_, score in theirs], abs=SCORE, rel=SCORE)
        for (start, end, _), (_, _, score) in zip(mine, theirs, strict=True):
            tied = [(a, b) for a, b, other in theirs if other == pytest.approx(score, abs=0, rel=SCORE)]
            assert (start, end) in tied


def test_the_golden_rows_are_worth_asking() -> None:
    rows = [row for group in golden.load()[0] for row in group.rows]
    assert len(rows) >= 250
    assert sum(len(row.windows) > 1 for row in rows) >= 90
    assert max(len(row.text.split()) for row in rows) > 2000


@torch.inference_mode()
def test_the_golden_checkpoint_can_be_made_again() -> None:
    """So that whoever runs the whole way from text to answers runs the model that answered."""
    groups, fingerprint = golden.load()
    model = golden.build_model()
    assert golden.fingerprint(model) == pytest.approx(fingerprint, rel=1e-9)
    cls_id, sep_id = tokenizer().specials
    for row in [row for row in groups[0].rows if len(row.windows) == 1][:10]:
        question, context = (tokenizer()([text]).input_ids.tolist() for text in (row.question, row.text))
        out = model(torch.tensor([[cls_id, *question, sep_id, *context, sep_id]]))
        found = torch.cat([out.start_logits, out.end_logits]).numpy()
        inside = np.concatenate([found[:, len(question) + 2 : -1], found[:, :1]], axis=1)
        np.testing.assert_allclose(inside, row.logits, atol=1e-4)


# against a loop over all spans


def reference(ask: Sequence[Window], options: dict[str, Any], n_best: int) -> list[Answer]:
    """What `decode` says of one ask; n_best: how many spans share the probability, top_k or more."""
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
    found = sorted(((-worth, *span) for span, worth in best.items()))[: max(n_best, options["top_k"])]
    places = [(place, 0, (start, end), -place) for place, start, end in found]
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
    """Asks whose windows cover their context, sharing tokens and cutting words as may be; each has its own logits."""
    found = []
    for _ in range(draw(st.integers(0, 4))):
        context = words(draw(st.lists(st.integers(1, 4), max_size=16)))
        edges = sorted(draw(st.sets(st.integers(1, max(1, context.tokens - 1)), max_size=3)) | {0, context.tokens})
        windows = []
        for a, b in pairwise(edges) if context.tokens else [(0, 0)]:
            first, last = max(0, a - draw(st.integers(0, 4))), min(context.tokens, b + draw(st.integers(0, 4)))
            values = draw(st.lists(logits, min_size=2 * (last - first) + 2, max_size=2 * (last - first) + 2))
            start, end = np.array(values[2:]).reshape(2, -1)
            windows.append(Window(context, first, last, start, end, (values[0], values[1])))
        found.append(windows)
    return found


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
def test_decode_is_the_loop_over_all_spans(
    asks: list[list[Window]], options: dict[str, Any], cells: int, n_best: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(question_answering, "N_BEST", n_best)  # few: most spans are never looked at
        patch.setattr(answer_spans, "_CELLS", cells)  # few: the windows of an ask are looked at one by one
        found = listed(decode(joined(asks), **options))
    expected = {i: answers for i, ask in enumerate(asks) if (answers := reference(ask, options, n_best))}
    assert {i: spans(answers) for i, answers in found.items()} == {i: spans(a) for i, a in expected.items()}
    for i, answers in expected.items():
        assert [score for *_, score in found[i]] == pytest.approx([score for *_, score in answers], abs=SCORE)


@given(asks=asks(), options=options)
def test_how_much_is_looked_at_together_changes_nothing(asks: list[list[Window]], options: dict[str, Any]) -> None:
    names = ("max_answer_len", "top_k", "align_to_words")
    chosen = {name: options[name] for name in names}
    whole, nulls = hf_candidates(joined(asks), **chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer_spans, "_CELLS", 1)
        parts, _ = hf_candidates(joined(asks), **chosen)
    assert listed(parts) == listed(whole)
    assert len(nulls.ask) == len([ask for ask in asks if ask])


# what must not matter


@given(st.data())
def test_windows_of_the_same_logits_give_what_the_whole_context_gives(data: st.DataObject) -> None:
    """As long as they share max_answer_len - 1 tokens or more: then every span lies in one of them."""
    context = words(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=60)))
    n = context.tokens
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    start, end = rng.normal(0, 3, (2, n)).astype(np.float32)
    capacity = data.draw(st.integers(12, 24))
    cut = data.draw(st.sampled_from([split, split_hf]))
    # `split` may pull an edge by a third of the overlap, at both sides
    overlap = capacity // 2
    max_answer_len = 1 + overlap - 2 * (overlap // 3)
    offsets = np.array([0, n])
    windows = (
        split(offsets, context.word_ids, capacity, overlap) if cut is split else split_hf(offsets, capacity, overlap)
    )
    parts = [Window(context, a, b, start[a:b], end[a:b]) for a, b in zip(windows.start, windows.end, strict=True)]
    chosen = {"max_answer_len": max_answer_len, "top_k": 5, "handle_impossible_answer": True}
    found, whole = (listed(decode(joined([ask]), **chosen))[0] for ask in (parts, [Window(context, 0, n, start, end)]))
    assert spans(found) == spans(whole)
    assert [score for *_, score in found] == pytest.approx([score for *_, score in whole], abs=SCORE)


@given(asks=asks(), options=options)
def test_asks_know_nothing_of_each_other(asks: list[list[Window]], options: dict[str, Any]) -> None:
    together = listed(decode(joined(asks), **options))
    for i, ask in enumerate(asks):
        assert listed(decode(joined([ask]), **options)).get(0) == together.get(i)


@given(asks=asks(), options=options)
def test_only_differences_of_logits_count(asks: list[list[Window]], options: dict[str, Any]) -> None:
    moved = [
        [replace(w, start=w.start + 64, end=w.end - 32, null=(w.null[0] + 64, w.null[1] - 32)) for w in ask]
        for ask in asks
    ]
    found, expected = (listed(decode(joined(some), **options)) for some in (moved, asks))
    assert found.keys() == expected.keys()
    for i, answers in expected.items():
        assert spans(found[i]) == spans(answers)
        assert [s for *_, s in found[i]] == pytest.approx([s for *_, s in answers], abs=SCORE)


# where Transformers is wrong


def peak(
    context: Context, at: tuple[int, int], height: float, null: float = 0.0, first: int = 0, last: int = 0
) -> Window:
    """A window in which one span stands out: tokens at[0]..at[1], start and end logit `height` each, others -10."""
    last = last or context.tokens
    start, end = np.full((2, last - first), -10.0)
    start[at[0] - first], end[at[1] - first] = height, height
    return Window(context, first, last, start, end, (null, null))


def test_six_windows_of_one_answer_drown_the_null_answer_at_transformers_only() -> None:
    """Each of the windows gives "wa" 0.14 and no answer 0.39; Transformers adds the former up."""
    context, text = words([1] * 6), " ".join(["wa"] * 6)
    windows = joined([[peak(context, (i, i), 2.0, null=2.5, first=i, last=i + 1) for i in range(6)]])
    answers = hf(windows, [text], null=True, top_k=2)[0]
    assert spans(answers) == [(0, 2), (0, 0)]
    assert [score for *_, score in answers] == pytest.approx([0.855, 0.387], abs=1e-3)
    answers = listed(decode(windows, handle_impossible_answer=True, top_k=7))[0]
    assert spans(answers[:1]) == [(0, 0)]
    assert sum(score for *_, score in answers) == pytest.approx(1)


def test_six_windows_sure_of_one_answer_score_six_at_transformers() -> None:
    context = words([1] * 6)
    windows = joined([[peak(context, (i, i), 20.0, first=i, last=i + 1) for i in range(6)]])
    assert hf(windows, [" ".join(["wa"] * 6)])[0][0][2] == pytest.approx(6.0)
    assert listed(decode(windows))[0][0][2] == pytest.approx(1 / 6)


def test_transformers_itself_scores_more_than_one() -> None:
    """Forty windows of real output, the question so long that each holds a single "war"."""
    scores = [score for group in golden.load()[0] for row in group.rows for score, *_ in row.answers]
    assert max(scores) > 12
    for group in golden.load()[0]:
        ours = decode(golden_windows(group), top_k=3, handle_impossible_answer=True)
        assert np.bincount(ours.ask, ours.score).max() <= 1 + SCORE


def test_one_text_in_two_places_is_two_answers() -> None:
    """Transformers adds "wa" to "WA" and puts them before the better "xy"; its place is the first "wa"."""
    context, text = words([1, 1, 1]), "wa xy WA"
    start = np.array([1.0, 1.25, 1.0])
    windows = joined([[Window(context, 0, 3, start, start, (-9.0, -9.0))]])
    assert spans(hf(windows, [text], max_answer_len=1, top_k=3)[0]) == [(0, 2), (3, 5)]
    assert spans(listed(decode(windows, max_answer_len=1, top_k=3))[0]) == [(3, 5), (0, 2), (6, 8)]


def test_a_window_without_an_answer_does_not_win_by_being_sure_of_little() -> None:
    """One window finds two good answers, the other one bad: relative to itself the bad one is certain."""
    context, text = words([1] * 4), "aa bb cc dd"
    good = Window(context, 0, 2, np.array([9.0, 9.0]), np.array([9.0, 8.0]))
    bad = peak(context, (3, 3), -2.0, null=-10.0, first=2, last=4)
    windows = joined([[good, bad]])
    assert spans(hf(windows, [text], max_answer_len=1)[0]) == [(9, 11)]
    assert spans(listed(decode(windows, max_answer_len=1))[0]) == [(0, 2)]


# by hand


def test_texts_that_score_the_same_stay_in_order_of_their_first_candidate() -> None:
    """Whatever the numbers of their keys."""
    place = np.arange(5, dtype=np.int32)
    score = np.array([0.25, 0.25, 0.5, 0.125, 0.125], dtype=np.float32)
    candidates = Answers(np.zeros(5, dtype=np.int64), place, place + 1, score)
    merged = hf_merge(candidates, np.array([9, 2, 7, 9, 2]), None, top_k=3)
    assert listed(merged)[0] == [(2, 3, 0.5), (0, 1, 0.375), (1, 2, 0.375)]


def test_the_null_answer_comes_first_if_it_wins_by_more_than_the_threshold() -> None:
    windows = joined([[peak(words([1] * 5), (2, 3), 3.0, null=4.0)]])
    chosen = {"handle_impossible_answer": True, "top_k": 2}
    for threshold, first in ((0.0, (0, 0)), (1.9, (0, 0)), (2.0, (6, 11)), (5.0, (6, 11))):
        [best, second] = listed(decode(windows, null_threshold=threshold, **chosen))[0]
        assert spans([best]) == [first]
        assert {*spans([best, second])} == {(0, 0), (6, 11)}
        assert max(best[2], second[2]) == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5)


def test_the_null_answer_is_worth_the_least_that_a_window_gives_it() -> None:
    context = words([1] * 5)
    windows = joined([[peak(context, (2, 3), 3.0, null=1.0), peak(context, (1, 1), -5.0, null=9.0)]])
    assert spans(listed(decode(windows, handle_impossible_answer=True))[0]) == [(6, 11)]


def test_a_word_that_windows_cut_is_whole_again() -> None:
    """Ours sees all windows of the context; Transformers only the one that the span is in."""
    context, text = words([1, 4, 1]), "aa bbbbbbbb cc"
    windows = joined([[peak(context, (0, 1), 5.0, first=0, last=3), peak(context, (5, 5), 0.0, first=3, last=6)]])
    assert spans(listed(decode(windows))[0]) == [(0, 11)]
    assert spans(hf(windows, [text])[0]) == [(0, 7)]


def test_a_context_without_tokens_has_the_null_answer_or_none() -> None:
    empty = Window(words([]), 0, 0, np.zeros(0), np.zeros(0), (1.0, 2.0))
    windows = joined([[empty], [peak(words([1]), (0, 0), 5.0)], [empty]])
    assert {i: spans(a) for i, a in listed(decode(windows)).items()} == {1: [(0, 2)]}
    with_null = listed(decode(windows, handle_impossible_answer=True))
    assert with_null[0] == [(0, 0, 1.0)]
    assert spans(with_null[2]) == [(0, 0)]
    assert {i: spans(a) for i, a in hf(windows, ["", "aa", ""]).items()} == {1: [(0, 2)]}
    assert hf(windows, ["", "aa", ""], null=True)[0] == [(0, 0, 1.0)]


def test_nothing_was_asked() -> None:
    assert listed(decode(joined([]), handle_impossible_answer=True)) == {}
    assert hf(joined([]), [], null=True) == {}


@pytest.mark.parametrize("name", ["top_k", "max_answer_len"])
@pytest.mark.parametrize("function", [decode, hf_candidates])
def test_options_below_one_are_refused(name: str, function: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} to be at least 1, got 0"):
        function(joined([]), **{name: 0})


def test_arrays_that_do_not_fit_together_are_refused() -> None:
    windows = joined([[peak(words([1] * 5), (2, 3), 3.0)], [peak(words([1] * 5), (2, 3), 3.0)]])
    with pytest.raises(ValueError, match=r"2 windows with 10 context tokens in all, but .*'end_logits': 9"):
        replace(windows, end_logits=windows.end_logits[:-1])
    with pytest.raises(ValueError, match="expected `ask` not to decrease"):
        replace(windows, ask=np.array([1, 0]))
