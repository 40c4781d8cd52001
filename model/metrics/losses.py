"""The losses that Transformers computes for the `labels` of each head, in float64 and term by term.

`count` adds the terms. `figures` gives {"loss": their mean} over the whole corpus, where each term counts once.
Transformers gives the mean of one batch. The two are equal for a corpus of one batch. For several batches, the mean of
their losses differs if they hold different numbers of terms. A mean over nothing is None here, and NaN in Transformers.
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
    """Return -log softmax(logits)[gold] of the rows whose gold is not -100: float64 [rows with gold].

    This is the loss of single labels, of tokens (word labels), and of masked tokens. logits: [N, L]. gold: [N]. The
    computation takes 12 bytes per logit. A large batch can be processed in slices, because counts can be added. Raises MetricError for
    gold outside 0 to L - 1.
    """
    rows, width = logits.shape
    return ragged_cross_entropy(logits.ravel(), np.arange(rows + 1) * width, gold)


def ragged_cross_entropy(logits: Floats, offsets: Ints, gold: Ints) -> Terms:
    """Return the cross entropy of rows with any number (at least one) of choices.

    logits: [sum of choices]. offsets: [N + 1]. gold: [N]. The terms are as in `cross_entropy`.
    """
    lengths = np.diff(offsets)
    rows = labelled(gold, lengths)
    if not len(lengths):
        return np.zeros(0)
    if lengths.min() < 1:
        raise MetricError(f"expected at least one logit per row, got row {lengths.argmin()} without any")
    first = np.asarray(offsets[:-1])
    shifted = logits.astype(np.float64)
    shifted -= np.repeat(np.maximum.reduceat(logits, first), lengths)
    gold_logits = shifted[first[rows] + gold[rows]]
    np.exp(shifted, out=shifted)
    terms: Terms = np.log(np.add.reduceat(shifted, first)[rows]) - gold_logits
    return terms


def question_answering(
    start_logits: Floats, end_logits: Floats, offsets: Ints, start: Ints, end: Ints
) -> dict[str, Terms]:
    """Return the cross entropy of start and end over the positions of each of W windows.

    The result is {"start": terms, "end": terms}. start_logits, end_logits: [sum of lengths]. offsets: [W + 1]. start,
    end: [W], positions in the window ([CLS] is 0).

    As in Transformers, a position below 0 counts as 0, and a position after the window is ignored. Here a window is as
    long as its tokens. In Transformers it is as long as the longest of the batch, and the padding is part of the
    softmax.
    """
    lengths = np.diff(offsets)

    def terms(logits: Floats, position: Ints) -> Terms:
        gold = np.where(position >= lengths, IGNORED, np.maximum(position, 0))
        return ragged_cross_entropy(logits, offsets, gold)

    return {"start": terms(start_logits, start), "end": terms(end_logits, end)}


def binary_cross_entropy(logits: Floats, gold: Floats) -> Terms:
    """Return the cross entropy of the sigmoid of each logit, float64 [R * L].

    logits, gold: [R, L]. gold: between 0 and 1.
    """
    _check_shapes(logits, gold)
    outside = np.argwhere(~((gold >= 0) & (gold <= 1)))
    if len(outside):
        row, label = outside[0]
        raise MetricError(f"gold of row {row}, label {label} is {gold[row, label]}; expected 0 to 1")
    x = logits.astype(np.float64)
    return (np.maximum(x, 0) - x * gold + np.log1p(np.exp(-np.abs(x)))).ravel()


def squared_error(logits: Floats, gold: Floats) -> Terms:
    """Return (logits - gold)^2 of every output, float64 [R * K].

    logits: [R, K]. gold: [R, K], or [R] for one output.
    """
    gold = gold[:, None] if gold.ndim == 1 else gold
    _check_shapes(logits, gold)
    return np.square(logits.astype(np.float64) - gold).ravel()


def count(**parts: Terms) -> dict[str, Any]:
    """Return the sum and the number of the terms of each part. Question answering has two parts, start and end."""
    return {part: {"sum": exact_sum(terms), "count": len(terms)} for part, terms in parts.items()}


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """Return {"loss": the mean of the means of the parts}. None if a part has no terms or it overflows."""
    if not counts or not all(part["count"] for part in counts.values()):
        return {"loss": None}
    means = [exact_value(part["sum"]) / part["count"] for part in counts.values()]
    return {"loss": rounded(sum(means, Fraction(0)) / len(means))}


def _check_shapes(logits: Floats, gold: Floats) -> None:
    if logits.shape != gold.shape:
        raise MetricError(f"expected gold of the logits' shape {logits.shape}, got {gold.shape}")
