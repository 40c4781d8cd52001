"""Metrics of multiple choice: accuracy, for rows with any number of choices."""

from typing import Any

from distilray.model.arrays import Ints
from distilray.model.metrics.labelled import check_choices, labelled


def count(gold: Ints, predicted: Ints, sizes: Ints) -> dict[str, Any]:
    """Return {rows, hits}.

    gold: [R], -100 for a row without gold, which is not counted. predicted: [R]. sizes: [R], the number of choices.
    Raises MetricError for a choice that its row does not have.
    """
    check_choices("the prediction", predicted, sizes)
    rows = labelled(gold, sizes)
    return {"rows": int(rows.sum()), "hits": int((gold == predicted).sum())}


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """Return {rows, accuracy}. The accuracy of no rows is None."""
    rows = counts.get("rows", 0)
    return {"rows": rows, "accuracy": counts["hits"] / rows if rows else None}
