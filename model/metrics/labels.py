"""Sequence classification with one label a row: accuracy and F1, as in scikit-learn (zero_division=0)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distilray.model.arrays import Ints
from distilray.model.metrics.f1 import ratio, score_table
from distilray.model.metrics.labelled import check_choices, labelled


def count(gold: Ints, found: Ints, names: Sequence[str]) -> dict[str, Any]:
    """The confusion matrix as {gold label: {predicted label: rows}}, without its zeros.

    gold: [R], -100 for a row without gold, which is not counted; found: [R]. Both are indices into `names`.
    Raises MetricError for an index that has no name.
    """
    sizes = np.full(len(found), len(names))
    check_choices("the prediction", found, sizes)
    rows = labelled(gold, sizes)
    pairs, times = np.unique(gold[rows].astype(np.int64) * len(names) + found[rows], return_counts=True)
    confusion: dict[str, Any] = {}
    for pair, n in zip(pairs.tolist(), times.tolist(), strict=True):
        row = confusion.setdefault(names[pair // len(names)], {})
        name = names[pair % len(names)]
        row[name] = row.get(name, 0) + n
    return confusion


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """{rows, accuracy, mcc, micro, macro, weighted, labels, confusion}, labels in order of name.

    Macro and weighted average over the labels that occur in gold or predictions, scikit-learn's default. Accuracy of no
    rows is None. mcc is Matthews' correlation coefficient, 0 where all gold or all predictions are the same label.
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
    """(hits * rows - sum gold * found) / sqrt((rows^2 - sum found^2) (rows^2 - sum gold^2)) (Gorodkin, 2004)."""

    def total(a: str, b: str) -> int:
        return sum(tally[a] * tally[b] for tally in tallies)

    rows, hits = sum(tally["gold"] for tally in tallies), sum(tally["hits"] for tally in tallies)
    spread = (rows**2 - total("found", "found")) * (rows**2 - total("gold", "gold"))
    return ratio(hits * rows - total("gold", "found"), math.sqrt(spread))
