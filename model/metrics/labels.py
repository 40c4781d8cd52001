"""Metrics of sequence classification with one label per row: accuracy and F1, as in scikit-learn (zero_division=0)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distilray.model.arrays import Ints
from distilray.model.metrics.f1 import ratio, score_table
from distilray.model.metrics.labelled import check_choices, labelled


def count(gold: Ints, predicted: Ints, names: Sequence[str]) -> dict[str, Any]:
    """Return the confusion matrix as {gold label: {predicted label: rows}}, without zeros.

    gold: [R], -100 for a row without gold, which is not counted. predicted: [R]. Both are indices into `names`. Raises
    MetricError for an index without a name.
    """
    sizes = np.full(len(predicted), len(names))
    check_choices("the prediction", predicted, sizes)
    rows = labelled(gold, sizes)
    pairs, pair_counts = np.unique(gold[rows].astype(np.int64) * len(names) + predicted[rows], return_counts=True)
    confusion: dict[str, Any] = {}
    for pair, n in zip(pairs.tolist(), pair_counts.tolist(), strict=True):
        row = confusion.setdefault(names[pair // len(names)], {})
        name = names[pair % len(names)]
        row[name] = row.get(name, 0) + n
    return confusion


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """Return {rows, accuracy, mcc, micro, macro, weighted, labels, confusion}, with labels in order of name.

    Macro and weighted averages are over the labels that occur in gold or predictions, which is scikit-learn's default.
    The accuracy of no rows is None. mcc is Matthews' correlation coefficient, 0 if all gold or all predictions have the
    same label.
    """
    gold = {name: sum(row.values()) for name, row in counts.items()}
    names = sorted({*counts, *(name for row in counts.values() for name in row)})
    tallies = {
        name: {
            "hits": counts.get(name, {}).get(name, 0),
            "found": sum(row.get(name, 0) for row in counts.values()),
            "gold": gold.get(name, 0),
        }
        for name in names
    }
    rows, hits = sum(gold.values()), sum(tally["hits"] for tally in tallies.values())
    return {
        "rows": rows,
        "accuracy": hits / rows if rows else None,
        "mcc": _mcc(list(tallies.values())),
        **score_table(tallies),
        "confusion": {name: dict(sorted(counts[name].items())) for name in sorted(counts)},
    }


def _mcc(tallies: list[dict[str, int]]) -> float:
    """Compute (hits * rows - sum gold * found) / sqrt((rows^2 - sum found^2) * (rows^2 - sum gold^2)).

    Source: Gorodkin, 2004.
    """

    def total(a: str, b: str) -> int:
        return sum(tally[a] * tally[b] for tally in tallies)

    rows, hits = sum(tally["gold"] for tally in tallies), sum(tally["hits"] for tally in tallies)
    denominator_squared = (rows**2 - total("found", "found")) * (rows**2 - total("gold", "gold"))
    return ratio(hits * rows - total("gold", "found"), math.sqrt(denominator_squared))
