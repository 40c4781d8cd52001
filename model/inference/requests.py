"""The positions of sequences that a head reads, and the outputs that come back from the device."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from distilray.model.arrays import Ints

if TYPE_CHECKING:  # a task describes its request without torch
    from torch import Tensor

# called with float32 outputs [P, ...] and the numbers of the P positions
Reduce = Callable[["Tensor", Ints], tuple["Tensor", ...]]


@dataclass(frozen=True)
class OutputPositions:
    """R ranges of consecutive positions. The ranges may have any order and may overlap.

    sequence: the sequence of each range. start: its first position in that sequence. length: its number of positions.
    All are int64 [R].
    """

    sequence: Ints
    start: Ints
    length: Ints


def first_positions(count: int) -> OutputPositions:
    """Return the position of [CLS] in each of `count` sequences."""
    return OutputPositions(np.arange(count), np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64))


@dataclass(frozen=True)
class HeadRequest:
    """The positions that a head reads, and the function that is applied to its outputs.

    reduce: a function that runs on the device and returns less data than the logits. None means that the logits are
    returned. The function gets float32 outputs [P, ...] and the numbers of the P positions in the order of `positions`.
    It must not wait for the device, except to compare with gold.

    at_once: the maximum number of positions that are computed together. This limits the memory of wide outputs, such as
    those over a vocabulary.
    """

    positions: OutputPositions
    reduce: Reduce | None = None
    at_once: int | None = None
