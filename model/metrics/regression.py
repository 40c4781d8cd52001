"""Metrics of regression: MSE, MAE, R^2 and Pearson's r.

The sums are exact (exact.py), so that nothing cancels if values are large and their spread is small. The metrics are
those of real arithmetic on the given numbers, rounded once.
"""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from distilray.model.metrics.exact import Floats, exact_dot, exact_sum, exact_value, rounded
from distilray.model.metrics.labelled import check_columns

_METRICS = ("mse", "mae", "r2", "pearson")


def count(gold: Floats, predicted: Floats, names: Sequence[str]) -> dict[str, Any]:
    """Return {output: {rows and sums}}.

    gold, predicted: [R, K]. names: K distinct names. Raises MetricError for other shapes, and for values that are not
    finite.
    """
    check_columns(gold, predicted, names)
    columns = zip(names, gold.astype(np.float64).T, predicted.astype(np.float64).T, strict=True)
    return {name: _sums(y, x) for name, y, x in columns}


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """Return {mse, mae, r2, pearson: means over the outputs, labels: {output: the same, and rows}}.

    As in scikit-learn, r2 of constant gold is 1 for perfect predictions and 0 for others. A metric is None if it is not
    defined (any metric of no rows, r2 of one row, pearson if one side is constant) or beyond float64. A mean over such
    a metric is None too.
    """
    by_output = {name: _metrics_of(sums) for name, sums in counts.items()}
    return {**{key: _mean([row[key] for row in by_output.values()]) for key in _METRICS}, "labels": by_output}


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


def _metrics_of(sums: dict[str, Any]) -> dict[str, Any]:
    rows = sums["rows"]
    if not rows:
        return {"rows": 0, **dict.fromkeys(_METRICS)}
    y, x, yy, xx, xy, absolute = (exact_value(sums[key]) for key in ("y", "x", "yy", "xx", "xy", "absolute"))
    squared_errors = yy - 2 * xy + xx
    squares_y, squares_x, products = yy - y * y / rows, xx - x * x / rows, xy - x * y / rows
    return {
        "rows": rows,
        "mse": rounded(squared_errors / rows),
        "mae": rounded(absolute / rows),
        "r2": _r2(squared_errors, squares_y) if rows > 1 else None,
        "pearson": _pearson(products, squares_x * squares_y),
    }


def _r2(squared_errors: Fraction, squares: Fraction) -> float | None:
    return rounded(1 - squared_errors / squares) if squares else float(not squared_errors)


def _pearson(products: Fraction, squares: Fraction) -> float | None:
    return math.copysign(math.sqrt(products * products / squares), products) if squares else None


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if defined and len(defined) == len(values) else None
