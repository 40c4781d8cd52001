"""Texts that may be longer than a model, for tasks that give one answer a text."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Bools, Floats, Ints
from distilray.model.inference.windows import Windows, split, split_hf
from distilray.model.tokenizer.tokenizer import Tokens
from distilray.operators.tasks.task import Rejection

# what becomes of a text longer than the model: a dead letter, its beginning only, or all of it in windows
LongTexts = Literal["error", "truncate", "mean", "max"]

TOO_LONG = "text_too_long"


def least_room(limit: int) -> int:
    """Tokens that a window must have for the text beside a second one, if the text needs several windows.

    With fewer a text takes windows without end: a stranger's question could make one row cost a million tokens.
    """
    return max(1, limit // 8)


def default_overlap(capacity: int | Ints) -> Ints:
    """32 tokens or more around every token, for 14 % more compute on long texts."""
    overlap: Ints = np.minimum(64, np.asarray(capacity) // 4)
    return overlap


@dataclass(frozen=True)
class WindowedTexts:
    """Windows of R texts, one or more of each. beyond: the texts that do not fit one, [R]."""

    windows: Windows
    beyond: Bools

    def rejections(self, long_texts: LongTexts, limit: int) -> tuple[Rejection, ...]:
        """The texts that are too long for the model's `limit` tokens, if that is an error."""
        if long_texts != "error":
            return ()
        says = f"the text does not fit the model's {limit} tokens; choose what is read of it with long_texts"
        return (Rejection(self.beyond, TOO_LONG, says),)

    def pooled(self, values: Floats, long_texts: LongTexts) -> Floats:
        """Values [W, ...] of the windows as one of each text, [R, ...]: their largest, or their mean."""
        if long_texts == "max":
            return np.maximum.reduceat(values, self._first, axis=0) if len(values) else values
        return self.averaged(values, np.ones(len(values)))

    def averaged(self, values: Floats, weights: npt.NDArray[np.number]) -> Floats:
        """Values [W, D] of the windows, weighted by [W], as one of each text, [R, D]."""
        first = self._first
        if len(first) == len(values):
            return values
        share = weights / np.repeat(np.add.reduceat(weights, first), np.diff(np.append(first, len(values))))
        mean: Floats = np.add.reduceat(values * share[:, None], first, axis=0).astype(np.float32)
        return mean

    @property
    def _first(self) -> Ints:
        """The first window of each text."""
        return np.flatnonzero(np.diff(self.windows.text, prepend=-1))


def window_texts(tokens: Tokens, capacity: int | Ints, long_texts: LongTexts) -> WindowedTexts:
    """Windows of at most `capacity` tokens (of every text, or [R] of each) as asked for; a text without tokens gets one."""
    capacity = np.maximum(capacity, 1)
    if long_texts in ("mean", "max"):
        windows = split(tokens.offsets, tokens.word_ids, capacity, default_overlap(capacity), min_windows=1)
    else:
        windows = split_hf(tokens.offsets, capacity, None, min_windows=1)
    return WindowedTexts(windows, np.diff(tokens.offsets) > capacity)
