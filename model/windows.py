"""Long texts as windows of tokens, and the way back: one prediction a token."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distilray.model.packed import Ints, ragged_arange, ragged_ranges

_UNLIMITED = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Windows:
    """W windows over R texts, in order: int64 [W] each. start and end count tokens of the window's text."""

    text: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return self.end - self.start


def word_starts(offsets: Ints, word_ids: Ints) -> npt.NDArray[np.bool_]:
    """bool [N]: whether each token starts a word. offsets: [R + 1]; word_ids: [N]."""
    starts = np.ones(len(word_ids), dtype=np.bool_)
    starts[1:] = word_ids[1:] != word_ids[:-1]
    starts[offsets[:-1][np.diff(offsets) > 0]] = True
    return starts


def split(offsets: Ints, word_ids: Ints, capacity: int, overlap: int) -> Windows:
    """Windows of at most `capacity` tokens; neighbours share about `overlap`, and none begins or ends inside a word.

    The last window of a text is shifted back to full length, so that it has all the context there is. A word of
    more than overlap // 3 tokens may be cut; its tokens are still all covered. A text that fits gets one window.
    """
    if not 0 <= overlap <= capacity // 2:
        raise ValueError(f"overlap must lie between 0 and half of the window's {capacity} tokens, got {overlap}")
    slack = overlap // 3  # start, end and last start may each move this far without opening a gap
    lengths = np.diff(offsets)
    text, nth, counts = _number(lengths, capacity, capacity - overlap)
    first = offsets[:-1][text]
    length = lengths[text]
    is_last = nth == counts[text] - 1
    position = np.arange(len(word_ids))
    starts = word_starts(offsets, word_ids)
    this_word = np.maximum.accumulate(np.where(starts, position, 0))
    next_word = np.minimum.accumulate(np.where(starts, position, len(word_ids))[::-1])[::-1]

    start = np.where(is_last, np.maximum(length - capacity, 0), nth * (capacity - overlap))
    at = first + start
    back, ahead = at - this_word[at], next_word[at] - at
    start = start + np.where(is_last, np.where(ahead <= slack, ahead, 0), -np.where(back <= slack, back, 0))
    end = np.minimum(start + capacity, length)
    inside = end < length
    at = (first + end)[inside]
    back = at - this_word[at]
    end[inside] -= np.where(back <= slack, back, 0)
    return Windows(text, start, end)


def split_hf(offsets: Ints, capacity: int, overlap: int | None) -> Windows:
    """Transformers' windows: a fixed grid that may cut words; without an overlap the first window only."""
    if overlap is not None and not 0 <= overlap < capacity:
        raise ValueError(f"overlap must be less than the window's {capacity} tokens, got {overlap}")
    lengths = np.diff(offsets)
    step = capacity - (overlap or 0)
    text, nth, _ = _number(lengths if overlap is not None else np.minimum(lengths, capacity), capacity, step)
    start = nth * step
    return Windows(text, start, np.minimum(start + capacity, lengths[text]))


def best_window(windows: Windows, offsets: Ints) -> npt.NDArray[np.int64]:
    """For each token the place, among all windows' tokens laid end to end, of its prediction with most context.

    Context is min(tokens to the left, tokens to the right) within the window; a text's own edge is no limit.
    windows must cover every token. Returns int64 [N].
    """
    n = windows.lengths
    length = np.diff(offsets)[windows.text]
    token = ragged_ranges(offsets[:-1][windows.text] + windows.start, n)
    place = ragged_arange(n)
    left = np.where(np.repeat(windows.start == 0, n), _UNLIMITED, place)
    right = np.where(np.repeat(windows.end == length, n), _UNLIMITED, np.repeat(n, n) - 1 - place)
    context = np.minimum(left, right)
    order = np.lexsort((-context, token))  # stable: of two equal windows the earlier
    _, first = np.unique(token[order], return_index=True)
    return order[first]


def _number(
    lengths: Ints, capacity: int, step: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The text of each window, its number in that text, and the number of windows of each text."""
    beyond = np.maximum(lengths - capacity, 0)
    counts = np.where(lengths > 0, 1 + -(-beyond // step), 0)
    return np.repeat(np.arange(len(lengths)), counts), ragged_arange(counts), counts
