"""The losses that Transformers computes for each head's `labels`, in float64 and term by term.

`count` adds the terms up, `figures` gives {"loss": their mean}: over the whole corpus, each term counting once.
Transformers gives the mean of one batch: the two are equal for a corpus that is one batch, and the mean of its batches'
losses differs as soon as these hold different numbers of terms. A mean over nothing is None here, NaN there.
"""

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints
from distilray.model.errors import MetricError
from distilray.model.metrics.exact import Floats, exact_sum, exact_value, rounded
from distilray.model.metrics.labelled import IGNORED, labelled

Terms = npt.NDArray[np.float64]


def cross_entropy(logits: Floats, gold: Ints) -> Terms:
    """-log softmax(logits)[gold] of the rows whose gold is not -100: float64 [rows with gold].

    Of single labels, of tokens (word labels), and of masked tokens. logits: [N, L]; gold: [N]. Takes 12 bytes a logit;
    counts add up, so a large batch can be given in slices. Raises MetricError for gold outside 0 to L - 1.
    """
    rows, width = logits.shape
    return ragged_cross_entropy(logits.ravel(), np.arange(rows + 1) * width, gold)


def ragged_cross_entropy(logits: Floats, offsets: Ints, gold: Ints) -> Terms:
    """The same for rows of any number (at least one) of choices. logits: [sum of choices]; offsets: [N + 1]; gold: [N]."""
    lengths = np.diff(offsets)
    rows = labelled(gold, lengths)
    if not len(lengths):
        return np.zeros(0)
    if lengths.min() < 1:
        raise MetricError(f"row {lengths.argmin()} has nothing to choose from; each row needs at least one logit")
    first = np.asarray(offsets[:-1])
    below_top = logits.astype(np.float64)
    below_top -= np.repeat(np.maximum.reduceat(logits, first), lengths)
    of_gold = below_top[first[rows] + gold[rows]]
    np.exp(below_top, out=below_top)
    terms: Terms = np.log(np.add.reduceat(below_top, first)[rows]) - of_gold
    return terms


def question_answering(
    start_logits: Floats, end_logits: Floats, offsets: Ints, start: Ints, end: Ints
) -> dict[str, Terms]:
    """Cross entropy of start and end over the positions of each of W windows, as {"start": terms, "end": terms}.

    start_logits, end_logits: [sum of lengths]; offsets: [W + 1]; start, end: [W], positions in the window ([CLS] is 0).
    As in Transformers a position below 0 counts as 0, and one past the window is ignored. A window here is as long as
    its tokens; there it is as long as the batch's longest, whose padding then takes part in the softmax.
    """
    lengths = np.diff(offsets)

    def terms(logits: Floats, position: Ints) -> Terms:
        gold = np.where(position >= lengths, IGNORED, np.maximum(position, 0))
        return ragged_cross_entropy(logits, offsets, gold)

    return {"start": terms(start_logits, start), "end": terms(end_logits, end)}


def binary_cross_entropy(logits: Floats, gold: Floats) -> Terms:
    """Of the sigmoid of each logit: float64 [R * L]. logits, gold: [R, L]; gold between 0 and 1."""
    _same_shape(logits, gold)
    outside = np.argwhere(~((gold >= 0) & (gold <= 1)))
    if len(outside):
        row, label = outside[0]
        raise MetricError(f"gold of row {row}, label {label} is {gold[row, label]}; expected 0 to 1")
    x = logits.astype(np.float64)
    return (np.maximum(x, 0) - x * gold + np.log1p(np.exp(-np.abs(x)))).ravel()


def squared_error(logits: Floats, gold: Floats) -> Terms:
    """(logits - gold)^2 of every output: float64 [R * K]. logits: [R, K]; gold: [R, K], or [R] for one output."""
    gold = gold[:, None] if gold.ndim == 1 else gold
    _same_shape(logits, gold)
    return np.square(logits.astype(np.float64) - gold).ravel()


def count(**parts: Terms) -> dict[str, Any]:
    """Sum and number of the terms of each part: one, or start and end for question answering."""
    return {part: {"sum": exact_sum(terms), "count": len(terms)} for part, terms in parts.items()}


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """{"loss": the mean of the parts' means}; None if a part has no terms, or past float64."""
    if not counts or not all(part["count"] for part in counts.values()):
        return {"loss": None}
    means = [exact_value(part["sum"]) / part["count"] for part in counts.values()]
    return {"loss": rounded(sum(means, Fraction(0)) / len(means))}


def _same_shape(logits: Floats, gold: Floats) -> None:
    if logits.shape != gold.shape:
        raise MetricError(f"expected gold of the logits' shape {logits.shape}, got {gold.shape}")
