"""Losses and metrics of a labelled corpus, a module a head, in two steps.

`count` turns one batch into plain numbers; counts of batches, from any worker, add up with `merge`; `figures` turns the
sum into what is reported, plain JSON. Counts are whole numbers (see exact.py), so the figures are the same to the last
bit however the corpus was cut. An undefined figure (a mean over nothing) is None; a precision, recall or F1 with
nothing to divide by is 0.
"""

from typing import Any

from distilray.model.errors import MetricError


def merge(a: Any, b: Any) -> Any:
    """The sum of two counts: dicts by key, lists element by element; {} is the neutral element.

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
