"""Precision, recall and F1 from hits, for spans, single labels and multiple labels."""

from collections.abc import Mapping
from typing import Any

Tally = Mapping[str, int]  # hits: correct predictions; found: predictions; gold: gold labels


def score_table(labels: Mapping[str, Tally]) -> dict[str, Any]:
    """Return the scores of each label, and their micro, macro and weighted averages over exactly these labels.

    Support is the number of gold labels. Weighted averages use it as the weight. A score with a divisor of 0 is 0.
    """
    scores = {name: _scores(tally) for name, tally in labels.items()}
    total = {key: sum(tally[key] for tally in labels.values()) for key in ("hits", "found", "gold")}
    rows = list(scores.values())
    return {
        "micro": _scores(total),
        "macro": _average(rows, [1] * len(rows)),
        "weighted": _average(rows, [row["support"] for row in rows]),
        "labels": scores,
    }


def ratio(part: float, whole: float) -> float:
    """Return part / whole, or 0 if whole is 0."""
    return part / whole if whole else 0.0


def _scores(tally: Tally) -> dict[str, Any]:
    hits, found, gold = tally["hits"], tally["found"], tally["gold"]
    return {
        "precision": ratio(hits, found),
        "recall": ratio(hits, gold),
        "f1": ratio(2 * hits, found + gold),
        "support": gold,
    }


def _average(rows: list[dict[str, Any]], weights: list[int]) -> dict[str, Any]:
    """Return the weighted mean of each score."""
    means = {
        key: ratio(sum(w * row[key] for w, row in zip(weights, rows, strict=True)), sum(weights))
        for key in ("precision", "recall", "f1")
    }
    return {**means, "support": sum(row["support"] for row in rows)}
