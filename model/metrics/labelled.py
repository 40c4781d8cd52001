"""Checks that gold and predictions fit each other, and the selection of rows with gold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints
from distilray.model.errors import MetricError

IGNORED = -100  # Transformers' value for a row without gold


def labelled(gold: Ints, sizes: Ints) -> npt.NDArray[np.bool_]:
    """Return whether each row has gold, bool [N].

    gold: [N], IGNORED or an index. sizes: [N], the number of choices of each row. Raises MetricError for a different
    number of rows, or for an index that a row does not have.
    """
    check_choices("gold", gold, sizes, ignored=True)
    has_gold: npt.NDArray[np.bool_] = gold != IGNORED
    return has_gold


def check_choices(what: str, choice: Ints, sizes: Ints, *, ignored: bool = False) -> None:
    """Raise MetricError, which names `what`, unless 0 <= choice < sizes in every row.

    choice, sizes: [N]. ignored: whether a choice may also be IGNORED.
    """
    if choice.shape != sizes.shape:
        raise MetricError(f"expected {what} of {len(sizes)} rows, got the shape {choice.shape}")
    invalid = np.flatnonzero(((choice < 0) | (choice >= sizes)) & ~(ignored & (choice == IGNORED)))
    if len(invalid):
        row = invalid[0]
        raise MetricError(
            f"{what} of row {row} is {choice[row]}, expected 0 to {sizes[row] - 1}; "
            f"{len(invalid)} such rows of {len(choice)}"
        )


def check_columns(gold: npt.NDArray[Any], predicted: npt.NDArray[Any], names: Sequence[str]) -> None:
    """Raise MetricError unless gold and predicted are [R, len(names)] and the names are distinct."""
    if gold.shape != predicted.shape or gold.shape[1:] != (len(names),):
        raise MetricError(
            f"expected gold and predictions of one shape [rows, {len(names)}], got {gold.shape} and {predicted.shape}"
        )
    if len(set(names)) != len(names):
        raise MetricError(f"expected a name of its own for each column, got {list(names)}")
