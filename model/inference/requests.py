"""Which positions of a sequence a head reads, and what is brought back from them."""

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
    """R runs of consecutive positions. The runs may have any order and may overlap.

    sequence: the sequence of each run; start: the first position in that sequence; length: number of positions. All are
    int64 [R].
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

    reduce: runs on the device and returns less data than the logits; None returns the logits. It gets float32 outputs
    [P, ...] and the numbers of the P positions in the order of `positions`. It must not wait for the device, except
    where it compares with gold. at_once: the maximum number of positions that are computed together. It limits memory
    where outputs are wide, as those over a vocabulary.
    """

    positions: OutputPositions
    reduce: Reduce | None = None
    at_once: int | None = None
