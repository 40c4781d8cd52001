"""Helpers for the tests of losses and metrics: batches of a corpus, and the merge of their counts."""

import json
from collections.abc import Callable, Iterable
from functools import reduce
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from distilray.model.metrics.counts import merge

Cuts = st.lists(st.integers(0, 40), max_size=5)


def add_up(counts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Merge counts after a round trip through strict JSON."""
    return reduce(merge, (json.loads(json.dumps(count, allow_nan=False)) for count in counts), {})


def in_batches(rows: int, cuts: list[int], count: Callable[[slice], dict[str, Any]]) -> dict[str, Any]:
    """Split a corpus at `cuts` and merge the counts of its batches. Equal cuts give empty batches."""
    edges = sorted([0, rows, *(min(cut, rows) for cut in cuts)])
    return add_up(count(slice(*pair)) for pair in pairwise(edges))
