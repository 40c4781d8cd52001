"""Windows of texts that may be longer than a model, for tasks with one answer for each text."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Bools, Floats, Ints
from distilray.model.inference.windows import Windows, split_into_hf_windows, split_into_windows
from distilray.model.tokenizer.tokenizer import Tokens
from distilray.operators.tasks.task import Rejection

# for a text longer than the model: reject it, read its beginning, or read all of it in windows
LongTexts = Literal["error", "truncate", "mean", "max"]

TOO_LONG = "text_too_long"


def least_room(limit: int) -> int:
    """Return the least number of tokens that a second text must leave for the text in each of several windows.

    With fewer tokens, one text would need very many windows: an untrusted question could make one row cost a million
    tokens.
    """
    return max(1, limit // 8)


def default_overlap(capacity: int | Ints) -> Ints:
    """Return an overlap that gives 32 or more tokens of context to every token, for 14 % more compute on long texts."""
    overlap: Ints = np.minimum(64, np.asarray(capacity) // 4)
    return overlap


@dataclass(frozen=True)
class WindowedTexts:
    """Windows of R texts, one or more for each text. too_long: bool [R], the texts that do not fit one window."""

    windows: Windows
    too_long: Bools

    def rejections(self, long_texts: LongTexts, limit: int) -> tuple[Rejection, ...]:
        """Return a rejection of the texts that do not fit the model's `limit` tokens, if `long_texts` is error."""
        if long_texts != "error":
            return ()
        message = f"the text does not fit the model's {limit} tokens; set long_texts to choose what is read"
        return (Rejection(self.too_long, TOO_LONG, message),)

    def pooled(self, values: Floats, long_texts: LongTexts) -> Floats:
        """Reduce values [W, ...] of the windows to one value of each text, [R, ...]: the maximum or the mean."""
        if long_texts == "max":
            return np.maximum.reduceat(values, self._first, axis=0) if len(values) else values
        return self.averaged(values, np.ones(len(values)))

    def averaged(self, values: Floats, weights: npt.NDArray[np.number]) -> Floats:
        """Reduce values [W, D] of the windows to the weighted mean of each text, [R, D]. weights: [W]."""
        first = self._first
        if len(first) == len(values):
            return values
        share = weights / np.repeat(np.add.reduceat(weights, first), np.diff(np.append(first, len(values))))
        mean: Floats = np.add.reduceat(values * share[:, None], first, axis=0).astype(np.float32)
        return mean

    @property
    def _first(self) -> Ints:
        """The number of the first window of each text."""
        return np.flatnonzero(np.diff(self.windows.text, prepend=-1))


def window_texts(tokens: Tokens, capacity: int | Ints, long_texts: LongTexts) -> WindowedTexts:
    """Split texts into windows of at most `capacity` tokens, as `long_texts` requires.

    capacity: one number for all texts, or [R]. A text without tokens has one window.
    """
    capacity = np.maximum(capacity, 1)
    if long_texts in ("mean", "max"):
        windows = split_into_windows(
            tokens.offsets, tokens.word_ids, capacity, default_overlap(capacity), min_windows=1
        )
    else:
        windows = split_into_hf_windows(tokens.offsets, capacity, None, min_windows=1)
    return WindowedTexts(windows, np.diff(tokens.offsets) > capacity)
