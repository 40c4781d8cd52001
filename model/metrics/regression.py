"""Regression: MSE, MAE, R^2 and Pearson's r.

The sums are exact (exact.py), so that nothing cancels where values are large and their spread small: the figures are
those of real arithmetic on the given numbers, rounded once.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from distilray.model.metrics.exact import Floats, exact_dot, exact_sum, exact_value, rounded
from distilray.model.metrics.labelled import check_columns

_FIGURES = ("mse", "mae", "r2", "pearson")


def count(gold: Floats, found: Floats, names: Sequence[str]) -> dict[str, Any]:
    """{output: {rows and sums}}. gold, found: [R, K]; names: K different ones.

    Raises MetricError for other shapes, and for values that are not finite.
    """
    check_columns(gold, found, names)
    columns = zip(names, gold.astype(np.float64).T, found.astype(np.float64).T, strict=True)
    return {name: _sums(y, x) for name, y, x in columns}


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """{mse, mae, r2, pearson: means over the outputs, labels: {output: the same, and rows}}.

    As in scikit-learn, r2 of constant gold is 1 for perfect predictions and 0 for others. None stands for what is not
    defined (anything of no rows, r2 of one row, pearson of a constant side) or past float64, and for a mean over such.
    """
    each = {name: _figures(sums) for name, sums in counts.items()}
    return {**{key: _mean([row[key] for row in each.values()]) for key in _FIGURES}, "labels": each}


def _sums(y: Floats, x: Floats) -> dict[str, Any]:
    return {
        "rows": len(y),
        "y": exact_sum(y),
        "x": exact_sum(x),
        "yy": exact_dot(y, y),
        "xx": exact_dot(x, x),
        "xy": exact_dot(x, y),
        "absolute": exact_sum(np.abs(y - x)),
    }


def _figures(sums: dict[str, Any]) -> dict[str, Any]:
    rows = sums["rows"]
    if not rows:
        return {"rows": 0, **dict.fromkeys(_FIGURES)}
    y, x, yy, xx, xy, absolute = (exact_value(sums[key]) for key in ("y", "x", "yy", "xx", "xy", "absolute"))
    squared = yy - 2 * xy + xx
    spread_y, spread_x, together = yy - y * y / rows, xx - x * x / rows, xy - x * y / rows
    return {
        "rows": rows,
        "mse": rounded(squared / rows),
        "mae": rounded(absolute / rows),
        "r2": _r2(squared, spread_y) if rows > 1 else None,
        "pearson": _pearson(together, spread_x * spread_y),
    }


def _r2(squared: Fraction, spread: Fraction) -> float | None:
    return rounded(1 - squared / spread) if spread else float(not squared)


def _pearson(together: Fraction, spreads: Fraction) -> float | None:
    return math.copysign(math.sqrt(together * together / spreads), together) if spreads else None


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None
