"""Tests of windows: they cover all tokens and overlap, and each token is owned by the window with the most context."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from distilray.model.arrays import offsets_of
from distilray.model.errors import WindowError
from distilray.model.inference.windows import (
    Windows,
    best_context_ranges,
    split_into_hf_windows,
    split_into_windows,
    word_starts,
)


@dataclass(frozen=True)
class Corpus:
    """R texts. Each text is a list of the lengths of its words in tokens."""

    words: list[list[int]]

    @property
    def lengths(self) -> list[int]:
        return [sum(text) for text in self.words]

    @property
    def offsets(self) -> np.ndarray:
        return offsets_of(np.array(self.lengths, dtype=np.int64))

    @property
    def word_ids(self) -> np.ndarray:
        flat = [i for text in self.words for i, length in enumerate(text) for _ in range(length)]
        return np.array(flat, dtype=np.int32)

    def boundaries(self, text: int) -> set[int]:
        """Return the tokens of a text at which a word starts, and the end of the text."""
        return set(np.cumsum([0, *self.words[text]]).tolist())

    def cut_word(self, text: int, token: int) -> int:
        """Return the length of the word that a cut before `token` splits, or 0 at a word boundary."""
        ends = np.cumsum(self.words[text])
        return 0 if token in self.boundaries(text) else self.words[text][int(np.searchsorted(ends, token, "right"))]


corpora = st.builds(Corpus, st.lists(st.lists(st.integers(1, 6) | st.integers(7, 40), max_size=60), max_size=5))


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    """Draw a capacity and an overlap of at most half the capacity."""
    capacity = draw(st.integers(1, 60))
    return capacity, draw(st.integers(0, capacity // 2))


def of_text(windows: Windows, text: int) -> list[tuple[int, int]]:
    selected = windows.text == text
    return list(zip(windows.start[selected].tolist(), windows.end[selected].tolist(), strict=True))


def windows_of(corpus: Corpus, capacity: int, overlap: int) -> list[list[tuple[int, int]]]:
    windows = split_into_windows(corpus.offsets, corpus.word_ids, capacity, overlap)
    assert (np.diff(windows.text) >= 0).all()
    return [of_text(windows, text) for text in range(len(corpus.words))]


@given(corpora)
def test_word_starts_equal_a_loop(corpus: Corpus) -> None:
    expected = [place == 0 for text in corpus.words for length in text for place in range(length)]
    assert word_starts(corpus.offsets, corpus.word_ids).tolist() == expected


@given(corpora, sizes())
def test_every_token_is_covered_by_windows_that_fit(corpus: Corpus, size: tuple[int, int]) -> None:
    capacity, overlap = size
    for length, windows in zip(corpus.lengths, windows_of(corpus, capacity, overlap), strict=True):
        assert {token for start, end in windows for token in range(start, end)} == set(range(length))
        assert all(0 < end - start <= capacity for start, end in windows)
        assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(windows))


@given(corpora, sizes())
def test_windows_do_not_split_short_words(corpus: Corpus, size: tuple[int, int]) -> None:
    capacity, overlap = size
    for text, windows in enumerate(windows_of(corpus, capacity, overlap)):
        cut = [corpus.cut_word(text, edge) for window in windows for edge in window]
        assert all(length == 0 or length > overlap // 3 for length in cut)


@given(corpora, sizes())
def test_the_last_window_has_full_length(corpus: Corpus, size: tuple[int, int]) -> None:
    capacity, overlap = size
    for length, windows in zip(corpus.lengths, windows_of(corpus, capacity, overlap), strict=True):
        if len(windows) > 1:
            start, end = windows[-1]
            assert end == length
            assert capacity - overlap // 3 <= end - start <= capacity


@given(corpora, sizes())
def test_adjacent_windows_overlap(corpus: Corpus, size: tuple[int, int]) -> None:
    capacity, overlap = size
    for windows in windows_of(corpus, capacity, overlap):
        assert all(a[1] - b[0] >= overlap - 3 * (overlap // 3) for a, b in pairwise(windows))
        assert all(a[1] - b[0] >= overlap - 2 * (overlap // 3) for a, b in pairwise(windows[:-1]))


@given(corpora, sizes())
def test_a_text_that_fits_has_one_window(corpus: Corpus, size: tuple[int, int]) -> None:
    capacity, overlap = size
    for length, windows in zip(corpus.lengths, windows_of(corpus, capacity, overlap), strict=True):
        if length <= capacity:
            assert windows == [(0, length)] * bool(length)


@given(corpora, sizes())
def test_other_texts_do_not_change_the_windows_of_a_text(corpus: Corpus, size: tuple[int, int]) -> None:
    alone = [windows_of(Corpus([text]), *size)[0] for text in corpus.words]
    assert windows_of(corpus, *size) == alone


@pytest.mark.parametrize(("capacity", "overlap"), [(10, -1), (10, 6), (1, 1)])
def test_an_invalid_overlap_is_an_error(capacity: int, overlap: int) -> None:
    most = f"between 0 and {capacity // 2} in windows of {capacity} tokens, got {overlap}"
    with pytest.raises(WindowError, match=f"overlap must lie {most}"):
        split_into_windows(offsets_of(np.array([3])), np.arange(3), capacity, overlap)


# which window owns a token


def naive_owners(windows: list[tuple[int, int]], length: int) -> list[int]:
    """Return for each token of a text the number of the window with the most context, the first one on a tie."""
    owners = []
    for token in range(length):
        context = []
        for number, (start, end) in enumerate(windows):
            if start <= token < end:
                left = token - start if start else float("inf")
                right = end - 1 - token if end < length else float("inf")
                context.append((-min(left, right), number))
        owners.append(min(context)[1])
    return owners


def assert_owned_once(windows: Windows, lengths: list[int]) -> None:
    """Assert that each token is owned by one window, the one with the most context.

    Each window owns consecutive tokens, and the windows of a text own them in order.
    """
    first, last = best_context_ranges(windows)
    assert (windows.start <= first).all()
    assert (first <= last).all()
    assert (last <= windows.end).all()
    for text, length in enumerate(lengths):
        selected = np.flatnonzero(windows.text == text)
        owners = [number for number, w in enumerate(selected) for _ in range(first[w], last[w])]
        tokens = [token for w in selected for token in range(first[w], last[w])]
        assert tokens == list(range(length))
        assert owners == naive_owners(of_text(windows, text), length)


@given(corpora, sizes())
def test_the_window_with_the_most_context_owns_each_token(corpus: Corpus, size: tuple[int, int]) -> None:
    assert_owned_once(split_into_windows(corpus.offsets, corpus.word_ids, *size), corpus.lengths)


@given(corpora)
def test_a_single_window_owns_its_whole_text(corpus: Corpus) -> None:
    windows = split_into_windows(corpus.offsets, corpus.word_ids, 10_000, 100)
    first, last = best_context_ranges(windows)
    assert not first.any()
    assert last.tolist() == [length for length in corpus.lengths if length]


# limits per text


@st.composite
def limited(draw: st.DrawFn, *, hf: bool = False) -> tuple[Corpus, np.ndarray, np.ndarray, int]:
    """Draw a corpus, the capacity and overlap of each text, and the number of windows of an empty text."""
    corpus = draw(corpora)
    each = [draw(sizes()) for _ in corpus.words]
    if hf:
        each = [(capacity, draw(st.integers(0, capacity - 1))) for capacity, _ in each]
    capacity, overlap = np.array(each, dtype=np.int64).reshape(-1, 2).T
    return corpus, capacity, overlap, draw(st.integers(0, 1))


@given(limited())
def test_windows_with_limits_per_text_equal_the_windows_of_each_text_alone(drawn: tuple) -> None:
    corpus, capacity, overlap, least = drawn
    windows = split_into_windows(corpus.offsets, corpus.word_ids, capacity, overlap, min_windows=least)
    for text, words in enumerate(corpus.words):
        alone = Corpus([words])
        expected = split_into_windows(
            alone.offsets, alone.word_ids, int(capacity[text]), int(overlap[text]), min_windows=least
        )
        assert of_text(windows, text) == of_text(expected, 0)
    assert_owned_once(windows, corpus.lengths)


@given(limited(hf=True))
def test_hf_windows_with_limits_per_text_equal_the_windows_of_each_text_alone(drawn: tuple) -> None:
    corpus, capacity, overlap, least = drawn
    windows = split_into_hf_windows(corpus.offsets, capacity, overlap, min_windows=least)
    without = split_into_hf_windows(corpus.offsets, capacity, None, min_windows=least)
    for text, length in enumerate(corpus.lengths):
        alone = (offsets_of(np.array([length])), int(capacity[text]))
        assert of_text(windows, text) == of_text(
            split_into_hf_windows(*alone, int(overlap[text]), min_windows=least), 0
        )
        assert of_text(without, text) == of_text(split_into_hf_windows(*alone, None, min_windows=least), 0)


@given(limited())
def test_an_empty_text_has_the_requested_number_of_windows(drawn: tuple) -> None:
    corpus, capacity, overlap, least = drawn
    for windows in (
        split_into_windows(corpus.offsets, corpus.word_ids, capacity, overlap, min_windows=least),
        split_into_hf_windows(corpus.offsets, capacity, overlap // 2, min_windows=least),
        split_into_hf_windows(corpus.offsets, capacity, None, min_windows=least),
    ):
        empty = [text for text, length in enumerate(corpus.lengths) if not length]
        assert all(of_text(windows, text) == [(0, 0)] * least for text in empty)


@pytest.mark.parametrize(("capacity", "overlap"), [([10, 4], [5, 3]), ([10, 0], [5, 0]), ([10, 10], [0, -1])])
def test_an_invalid_limit_of_one_text_is_an_error(capacity: list[int], overlap: list[int]) -> None:
    offsets = offsets_of(np.array([3, 3]))
    with pytest.raises(WindowError):
        split_into_windows(offsets, np.arange(6), np.array(capacity), np.array(overlap))


# Transformers' windows

HF_TOKENIZER = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
HF_TOKENIZER.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()


@given(st.lists(st.integers(0, 150), max_size=5), st.integers(1, 40), st.data())
def test_hf_windows_equal_the_tokenizers_library(lengths: list[int], capacity: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, capacity - 1))
    windows = split_into_hf_windows(offsets_of(np.array(lengths, dtype=np.int64)), capacity, overlap)
    HF_TOKENIZER.enable_truncation(capacity, stride=overlap)
    for text, length in enumerate(lengths):
        encoding = HF_TOKENIZER.encode("a " * length)
        pieces = [encoding, *encoding.overflowing] if length else []
        assert of_text(windows, text) == [(p.offsets[0][0] // 2, p.offsets[-1][1] // 2 + 1) for p in pieces]


@given(st.lists(st.integers(0, 150), max_size=5), st.integers(1, 40))
def test_hf_without_an_overlap_truncates_the_text(lengths: list[int], capacity: int) -> None:
    windows = split_into_hf_windows(offsets_of(np.array(lengths, dtype=np.int64)), capacity, None)
    assert [of_text(windows, text) for text in range(len(lengths))] == [
        [(0, min(length, capacity))] * bool(length) for length in lengths
    ]


@pytest.mark.parametrize("overlap", [-1, 10, 11])
def test_an_invalid_hf_overlap_is_an_error(overlap: int) -> None:
    with pytest.raises(WindowError, match=f"overlap must lie between 0 and 9 in windows of 10 tokens, got {overlap}"):
        split_into_hf_windows(offsets_of(np.array([3])), 10, overlap)


@pytest.mark.parametrize("overlap", [None, 0])
def test_a_model_without_room_for_a_token_is_an_error(overlap: int | None) -> None:
    with pytest.raises(WindowError, match="at least 1 token, got a limit of 0"):
        split_into_hf_windows(offsets_of(np.array([3])), 0, overlap)
    with pytest.raises(WindowError, match="at least 1 token, got a limit of 0"):
        split_into_windows(offsets_of(np.array([3])), np.arange(3), 0, 0)
