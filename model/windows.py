"""Long texts as windows of tokens, and the way back: one prediction a token."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distilray.model.packed import Ints, offsets_of, ragged_arange, ragged_ranges


class WindowError(ValueError):
    """Windows that cannot be laid as asked."""


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
    Raises WindowError for an overlap of more than half a window.
    """
    _check_capacity(capacity)
    if not 0 <= overlap <= capacity // 2:
        raise WindowError(f"overlap must lie between 0 and half of the window's {capacity} tokens, got {overlap}")
    slack = overlap // 3  # start, end and last start may each move this far without opening a gap
    lengths = np.diff(offsets)
    text, nth, counts = _number(lengths, capacity, capacity - overlap)
    first = offsets[:-1][text]
    length = lengths[text]
    is_last = nth == counts[text] - 1
    edges = np.append(np.flatnonzero(word_starts(offsets, word_ids)), len(word_ids))

    def back(at: Ints) -> Ints:
        """Tokens from the start of the word at `at`, if few enough."""
        return _at_most(slack, at - edges[np.searchsorted(edges, at, "right") - 1])

    def ahead(at: Ints) -> Ints:
        return _at_most(slack, edges[np.searchsorted(edges, at)] - at)

    start = np.where(is_last, np.maximum(length - capacity, 0), nth * (capacity - overlap))
    at = first + start
    start = start + np.where(is_last, ahead(at), -back(at))
    end = np.minimum(start + capacity, length)
    end -= np.where(end < length, back(first + end), 0)
    return Windows(text, start, end)


def split_hf(offsets: Ints, capacity: int, overlap: int | None) -> Windows:
    """Transformers' windows: a fixed grid that may cut words; without an overlap the first window only.

    Raises WindowError for an overlap that leaves no room for new tokens.
    """
    _check_capacity(capacity)
    if overlap is not None and not 0 <= overlap < capacity:
        raise WindowError(f"overlap must be less than the window's {capacity} tokens, got {overlap}")
    lengths = np.diff(offsets)
    step = capacity - (overlap or 0)
    text, nth, _ = _number(lengths if overlap is not None else np.minimum(lengths, capacity), capacity, step)
    start = nth * step
    return Windows(text, start, np.minimum(start + capacity, lengths[text]))


def best_window(windows: Windows) -> npt.NDArray[np.int64]:
    """For each token the place, among all windows' tokens laid end to end, of its prediction with most context.

    Context is min(tokens to the left, tokens to the right) within the window; a text's own edge is no limit.
    The windows of a text must cover it, in order, start and end both growing. Returns int64 [N].
    """
    later = np.flatnonzero(windows.text[1:] == windows.text[:-1]) + 1
    # both ends grow from window to window: the later one sees more from the middle of what they share onwards
    cut = (windows.start[later] + windows.end[later - 1] - 1) // 2 + 1
    first, last = windows.start.copy(), windows.end.copy()
    first[later], last[later - 1] = cut, cut
    laid = offsets_of(windows.lengths)[:-1]
    return ragged_ranges(laid + first - windows.start, last - first)


def _at_most(limit: int, move: Ints) -> Ints:
    return np.where(move <= limit, move, 0)


def _check_capacity(capacity: int) -> None:
    if capacity < 1:
        raise WindowError(f"expected windows of at least 1 token, got a limit of {capacity}")


def _number(
    lengths: Ints, capacity: int, step: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The text of each window, its number in that text, and the number of windows of each text."""
    beyond = np.maximum(lengths - capacity, 0)
    counts = np.where(lengths > 0, 1 + -(-beyond // step), 0)
    return np.repeat(np.arange(len(lengths)), counts), ragged_arange(counts), counts
