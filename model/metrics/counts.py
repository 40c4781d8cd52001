"""Addition of counts, from which the metrics of a labelled corpus are computed.

Each module of metrics works in three steps. `count` converts one batch to plain numbers. `merge` adds counts of batches
from any worker. `figures` converts the sum to the reported values, in plain JSON.

Counts are integers (see exact.py), so the metrics are the same to the last bit for every division of the corpus into
batches. A metric that is not defined, such as a mean over nothing, is None. A precision, recall or F1 with a divisor of
0 is 0.
"""

from typing import Any

from distilray.model.errors import MetricError


def merge(a: Any, b: Any) -> Any:
    """Add two counts: dicts by key, lists element by element. {} is the neutral element.

    Raises MetricError for counts of different shapes.
    """
    match a, b:
        case dict(), dict():
            return {key: merge(a[key], b[key]) if key in a and key in b else {**a, **b}[key] for key in {**a, **b}}
        case list(), list() if len(a) == len(b):
            return [merge(x, y) for x, y in zip(a, b, strict=True)]
        case int() | float(), int() | float():
            return a + b
    raise MetricError(f"counts of different shapes cannot be merged: {a!r:.80} and {b!r:.80}")
