"""Long texts as windows of tokens, and the way back: one prediction a token."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints, ragged_arange
from distilray.model.errors import WindowError


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


def split(offsets: Ints, word_ids: Ints, capacity: int | Ints, overlap: int | Ints, *, least: int = 0) -> Windows:
    """Windows of at most `capacity` tokens; neighbours share about `overlap`, and none begins or ends inside a word.

    capacity, overlap: of every text, or [R] of each. least: windows of a text without tokens, 0 or 1. The last window of a text
    is shifted back to full length, so that it has all the context there is. A word of more than overlap // 3 tokens may
    be cut; its tokens are still all covered. A text that fits gets one window.
    Raises WindowError for an overlap of more than half a window.
    """
    lengths = np.diff(offsets)
    capacity, overlap = (np.broadcast_to(np.asarray(value), lengths.shape) for value in (capacity, overlap))
    check_windows(capacity, overlap, capacity // 2)
    slack = overlap // 3  # start, end and last start may each move this far without opening a gap
    text, nth, counts = _number(lengths, capacity, capacity - overlap, least)
    first, length, full, slack = offsets[:-1][text], lengths[text], capacity[text], slack[text]
    is_last = nth == counts[text] - 1
    edges = np.append(np.flatnonzero(word_starts(offsets, word_ids)), len(word_ids))

    def back(at: Ints) -> Ints:
        """Tokens from the start of the word at `at`, if few enough."""
        move = at - edges[np.searchsorted(edges, at, "right") - 1]
        return np.where(move <= slack, move, 0)

    def ahead(at: Ints) -> Ints:
        move = edges[np.searchsorted(edges, at)] - at
        return np.where(move <= slack, move, 0)

    start = np.where(is_last, np.maximum(length - full, 0), nth * (full - overlap[text]))
    at = first + start
    start = start + np.where(is_last, ahead(at), -back(at))
    end = np.minimum(start + full, length)
    end -= np.where(end < length, back(first + end), 0)
    return Windows(text, start, end)


def split_hf(offsets: Ints, capacity: int | Ints, overlap: int | Ints | None, *, least: int = 0) -> Windows:
    """Transformers' windows: a fixed grid that may cut words; without an overlap the first window only.

    capacity, overlap: of every text, or [R] of each; least: windows of a text without tokens, 0 or 1. Raises WindowError for an
    overlap that leaves no room for new tokens.
    """
    lengths = np.diff(offsets)
    capacity, shared = (
        np.broadcast_to(np.asarray(v), lengths.shape) for v in (capacity, 0 if overlap is None else overlap)
    )
    check_windows(capacity, shared, capacity - 1)
    covered = lengths if overlap is not None else np.minimum(lengths, capacity)
    text, nth, _ = _number(covered, capacity, capacity - shared, least)
    start = nth * (capacity - shared)[text]
    return Windows(text, start, np.minimum(start + capacity[text], lengths[text]))


def best_context_ranges(windows: Windows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and last + 1 token of its text that each window sees with most context: every token is owned once.

    Context is min(tokens to the left, tokens to the right) within the window; a text's own edge is no limit.
    The windows of a text must cover it, in order, start and end both growing.
    """
    later = np.flatnonzero(windows.text[1:] == windows.text[:-1]) + 1
    # both ends grow from window to window: the later one sees more from the middle of what they share onwards
    cut = (windows.start[later] + windows.end[later - 1] - 1) // 2 + 1
    first, last = windows.start.copy(), windows.end.copy()
    first[later], last[later - 1] = cut, cut
    return first, last


def check_windows(capacity: int | Ints, overlap: int | Ints, most: int | Ints) -> None:
    """WindowError if a window holds no token, or shares more than `most` with its neighbour."""
    if np.any(np.asarray(capacity) < 1):
        raise WindowError(f"expected windows of at least 1 token, got a limit of {np.min(capacity)}")
    if np.any(np.asarray(overlap) < 0) or np.any(np.asarray(overlap) > most):
        raise WindowError(
            f"overlap must lie between 0 and {np.min(most)} in windows of {np.min(capacity)} tokens, got {np.max(overlap)}"
        )


def _number(
    lengths: Ints, capacity: Ints, step: Ints, least: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The text of each window, its number in that text, and the number of windows of each text."""
    beyond = np.maximum(lengths - capacity, 0)
    counts = np.where(lengths > 0, 1 + -(-beyond // step), least)
    return np.repeat(np.arange(len(lengths)), counts), ragged_arange(counts), counts
