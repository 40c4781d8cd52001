"""Windows of tokens over long texts, and the window that decides each token."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints, ragged_arange
from distilray.model.errors import WindowError


@dataclass(frozen=True)
class Windows:
    """W windows over R texts, in order of text.

    text: the text of each window. start, end: the half-open range of its tokens, counted in that text. All are int64
    [W].
    """

    text: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        return self.end - self.start


def word_starts(offsets: Ints, word_ids: Ints) -> npt.NDArray[np.bool_]:
    """Return whether each token starts a word, bool [N]. offsets: [R + 1]. word_ids: [N]."""
    starts = np.ones(len(word_ids), dtype=np.bool_)
    starts[1:] = word_ids[1:] != word_ids[:-1]
    starts[offsets[:-1][np.diff(offsets) > 0]] = True
    return starts


def split_into_windows(
    offsets: Ints, word_ids: Ints, capacity: int | Ints, overlap: int | Ints, *, min_windows: int = 0
) -> Windows:
    """Split texts into windows of at most `capacity` tokens. Neighbours share about `overlap` tokens.

    capacity, overlap: one value for all texts, or one per text [R]. min_windows: the number of windows of a text
    without tokens, 0 or 1.

    A text that fits gets one window. The last window of a longer text starts early enough to have full
    length, so that it has all available context. No window starts or ends inside a word of up to overlap // 3 tokens. A longer word may be split.
    The windows always cover all tokens.

    Raises WindowError for an overlap of more than half a window.
    """
    lengths = np.diff(offsets)
    capacity, overlap = (np.broadcast_to(np.asarray(value), lengths.shape) for value in (capacity, overlap))
    check_windows(capacity, overlap, capacity // 2)
    slack = overlap // 3  # each start and end may move this far without a gap between windows
    text, nth, counts = _number_windows(lengths, capacity, capacity - overlap, min_windows)
    first, length, full, slack = offsets[:-1][text], lengths[text], capacity[text], slack[text]
    is_last = nth == counts[text] - 1
    edges = np.append(np.flatnonzero(word_starts(offsets, word_ids)), len(word_ids))

    def distance_back(position: Ints) -> Ints:
        """Return the distance from the start of the word at each position, or 0 if it is more than the slack."""
        distance = position - edges[np.searchsorted(edges, position, "right") - 1]
        return np.where(distance <= slack, distance, 0)

    def distance_forward(position: Ints) -> Ints:
        """Return the distance to the next start of a word, or 0 if it is more than the slack."""
        distance = edges[np.searchsorted(edges, position)] - position
        return np.where(distance <= slack, distance, 0)

    start = np.where(is_last, np.maximum(length - full, 0), nth * (full - overlap[text]))
    position = first + start
    start = start + np.where(is_last, distance_forward(position), -distance_back(position))
    end = np.minimum(start + full, length)
    end -= np.where(end < length, distance_back(first + end), 0)
    return Windows(text, start, end)


def split_into_hf_windows(
    offsets: Ints, capacity: int | Ints, overlap: int | Ints | None, *, min_windows: int = 0
) -> Windows:
    """Split texts into Transformers' windows, a fixed grid that may cut words.

    capacity, overlap: one value for all texts, or one per text [R]. Without an overlap, a text has its first window
    only. min_windows: the number of windows of a text without tokens, 0 or 1. Raises WindowError for an overlap that
    leaves no room for new tokens.
    """
    lengths = np.diff(offsets)
    capacity, shared = (
        np.broadcast_to(np.asarray(v), lengths.shape) for v in (capacity, 0 if overlap is None else overlap)
    )
    check_windows(capacity, shared, capacity - 1)
    covered = lengths if overlap is not None else np.minimum(lengths, capacity)
    text, nth, _ = _number_windows(covered, capacity, capacity - shared, min_windows)
    start = nth * (capacity - shared)[text]
    return Windows(text, start, np.minimum(start + capacity[text], lengths[text]))


def best_context_ranges(windows: Windows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the half-open range of tokens that each window decides, as starts and ends. One window decides each token.

    The window that decides a token has the most context around it: min(tokens to the left, tokens to the right) within
    the window. The edges of the text do not limit context. The windows of a text must cover it, in order, with growing
    starts and ends.
    """
    later = np.flatnonzero(windows.text[1:] == windows.text[:-1]) + 1
    # starts and ends grow, so the later window has more context from the middle of the shared tokens on
    boundary = (windows.start[later] + windows.end[later - 1] - 1) // 2 + 1
    first, last = windows.start.copy(), windows.end.copy()
    first[later], last[later - 1] = boundary, boundary
    return first, last


def check_windows(capacity: int | Ints, overlap: int | Ints, max_overlap: int | Ints) -> None:
    """Raise WindowError if a window holds no token, or shares more than `max_overlap` with its neighbour."""
    if np.any(np.asarray(capacity) < 1):
        raise WindowError(f"expected windows of at least 1 token, got a limit of {np.min(capacity)}")
    if np.any(np.asarray(overlap) < 0) or np.any(np.asarray(overlap) > max_overlap):
        raise WindowError(
            f"overlap must lie between 0 and {np.min(max_overlap)} in windows of {np.min(capacity)} tokens, "
            f"got {np.max(overlap)}"
        )


def _number_windows(
    lengths: Ints, capacity: Ints, step: Ints, min_windows: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the text of each window, its number in that text, and the number of windows of each text."""
    excess = np.maximum(lengths - capacity, 0)
    counts = np.where(lengths > 0, 1 + -(-excess // step), min_windows)
    return np.repeat(np.arange(len(lengths)), counts), ragged_arange(counts), counts
