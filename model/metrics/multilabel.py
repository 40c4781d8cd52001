"""Metrics of sequence classification with any number of labels per row, as in scikit-learn (zero_division=0)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from distilray.model.metrics.exact import Floats, exact_sum, exact_value
from distilray.model.metrics.f1 import score_table
from distilray.model.metrics.labelled import check_columns

_Bools = npt.NDArray[np.bool_]
_KEYS = ("precision", "recall", "f1")


def count(gold: _Bools, predicted: _Bools, names: Sequence[str]) -> dict[str, Any]:
    """Return {rows, exact, samples: sums over rows, labels: {label: {hits, found, gold}}}.

    gold, predicted: bool [R, L], whether each row has each label. names: L distinct names. Raises MetricError
    for other shapes or equal names.
    """
    check_columns(gold, predicted, names)
    both = gold & predicted
    tallies = {"hits": both.sum(axis=0), "found": predicted.sum(axis=0), "gold": gold.sum(axis=0)}
    return {
        "rows": len(gold),
        "exact": int((gold == predicted).all(axis=1).sum()),
        "samples": {key: exact_sum(values) for key, values in _row_scores(gold, predicted, both).items()},
        "labels": {name: {key: int(tally[i]) for key, tally in tallies.items()} for i, name in enumerate(names)},
    }


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """Return {rows, subset_accuracy, samples: {precision, recall, f1}, micro, macro, weighted, labels}.

    Averages are over all labels of the model, also those that never occur, as in scikit-learn. Subset accuracy is the
    share of rows with exactly the gold labels. The values in `samples` are means over rows. Without rows, these
    means and the subset accuracy are None.
    """
    rows = counts.get("rows", 0)
    return {
        "rows": rows,
        "subset_accuracy": counts["exact"] / rows if rows else None,
        "samples": {key: float(exact_value(counts["samples"][key]) / rows) if rows else None for key in _KEYS},
        **score_table(counts.get("labels", {})),
    }


def _row_scores(gold: _Bools, predicted: _Bools, both: _Bools) -> dict[str, Floats]:
    """Return precision, recall and F1 of each row, float64 [R] each."""
    hits, n_predicted, n_gold = (side.sum(axis=1).astype(np.float64) for side in (both, predicted, gold))

    def share(part: Floats, whole: Floats) -> Floats:
        return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)

    values = (share(hits, n_predicted), share(hits, n_gold), share(2 * hits, n_predicted + n_gold))
    return dict(zip(_KEYS, values, strict=True))
