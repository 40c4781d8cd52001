"""Whether gold and predictions fit each other, and which rows have gold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints
from distilray.model.errors import MetricError

IGNORED = -100  # Transformers' mark for a row without gold


def labelled(gold: Ints, sizes: Ints) -> npt.NDArray[np.bool_]:
    """bool [N]: whether each row has gold. gold: [N], IGNORED or an index; sizes: [N], what each row can choose from.

    Raises MetricError for another number of rows, or an index that a row does not have.
    """
    check_choices("gold", gold, sizes, ignored=True)
    has_gold: npt.NDArray[np.bool_] = gold != IGNORED
    return has_gold


def check_choices(what: str, choice: Ints, sizes: Ints, *, ignored: bool = False) -> None:
    """Raises MetricError, naming `what`, unless 0 <= choice < sizes in every row. choice, sizes: [N].

    ignored: whether a choice may be IGNORED as well.
    """
    if choice.shape != sizes.shape:
        raise MetricError(f"expected {what} of {len(sizes)} rows, got the shape {choice.shape}")
    wrong = np.flatnonzero(((choice < 0) | (choice >= sizes)) & ~(ignored & (choice == IGNORED)))
    if len(wrong):
        row = wrong[0]
        raise MetricError(
            f"{what} of row {row} is {choice[row]}, expected 0 to {sizes[row] - 1}; {len(wrong)} such rows of {len(choice)}"
        )


def check_columns(gold: npt.NDArray[Any], found: npt.NDArray[Any], names: Sequence[str]) -> None:
    """Raises MetricError unless gold and found are [R, len(names)] and no name occurs twice."""
    if gold.shape != found.shape or gold.shape[1:] != (len(names),):
        raise MetricError(
            f"expected gold and predictions of one shape [rows, {len(names)}], got {gold.shape} and {found.shape}"
        )
    if len(set(names)) != len(names):
        raise MetricError(f"each column needs a name of its own to be reported under, got {list(names)}")
