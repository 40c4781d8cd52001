"""Precision, recall and F1 from hits, for spans, single and multiple labels alike."""

from collections.abc import Mapping
from typing import Any

Tally = Mapping[str, int]  # hits: predicted and true; found: predicted; gold: true


def score_table(labels: Mapping[str, Tally]) -> dict[str, Any]:
    """Figures of each label, and micro, macro and weighted averages over exactly these labels.

    Support is the number of true ones; weighted averages weigh by it. What has nothing to divide by is 0.
    """
    each = {name: _scores(tally) for name, tally in labels.items()}
    whole = {key: sum(tally[key] for tally in labels.values()) for key in ("hits", "found", "gold")}
    rows = list(each.values())
    return {
        "micro": _scores(whole),
        "macro": _average(rows, [1] * len(rows)),
        "weighted": _average(rows, [row["support"] for row in rows]),
        "labels": each,
    }


def ratio(part: float, whole: float) -> float:
    """part / whole, and 0 for nothing of nothing."""
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
    """The weighted mean of each figure."""
    means = {
        key: ratio(sum(w * row[key] for w, row in zip(weights, rows, strict=True)), sum(weights))
        for key in ("precision", "recall", "f1")
    }
    return {**means, "support": sum(row["support"] for row in rows)}
