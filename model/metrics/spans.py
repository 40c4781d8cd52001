"""Metrics of token classification over entity spans.

A predicted span is correct if its text, start, end and label are those of a gold span. The metrics equal those of
seqeval for the same spans written as tags, in its default mode, which is that of conlleval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Ints
from distilray.model.errors import MetricError
from distilray.model.metrics.f1 import score_table

_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Entities:
    """E spans in any order.

    text: [E], the number of the text in the batch. start, end: [E]. label: [E], an index into names.
    """

    text: Ints
    start: Ints
    end: Ints
    label: Ints
    names: Sequence[str]


def count(gold: Entities, predicted: Entities) -> dict[str, Any]:
    """Return {label: {hits, found, gold}} for each label that occurs. A repeated span counts once.

    Labels are compared by name, so the two sides may have different numbers for them. All spans of a text must be in
    one batch. Raises MetricError for a label without a name.
    """
    names = np.unique(np.array([*gold.names, *predicted.names], dtype=object))
    g, f = (_distinct(_rows(side, names)) for side in (gold, predicted))
    both = _sorted(np.concatenate([g, f]))
    hits = both[1:][(both[1:] == both[:-1]).all(axis=1)]
    counts = {key: np.bincount(rows[:, 3], minlength=len(names)) for key, rows in zip(_KEYS, (hits, f, g), strict=True)}
    return {
        str(name): {key: int(counts[key][i]) for key in _KEYS}
        for i, name in enumerate(names)
        if counts["found"][i] or counts["gold"][i]
    }


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """Return {micro, macro, weighted: {precision, recall, f1, support}, labels: {label: the same}}.

    The labels are in order of name. Macro and weighted averages are over the labels that occur in gold or predictions,
    as in seqeval.
    """
    return score_table(dict(sorted(counts.items())))


_KEYS = ("hits", "found", "gold")


def _rows(entities: Entities, names: npt.NDArray[np.object_]) -> _Rows:
    """Return int64 [E, 4]: text, start, end, and the label as an index into `names`."""
    invalid = np.flatnonzero((entities.label < 0) | (entities.label >= len(entities.names)))
    if len(invalid):
        raise MetricError(
            f"expected labels from 0 to {len(entities.names) - 1}, one for each name, got "
            f"{entities.label[invalid[0]]} in span {invalid[0]}"
        )
    name_index = np.searchsorted(names, np.array(entities.names, dtype=object)).astype(np.int64)
    return np.stack([entities.text, entities.start, entities.end, name_index[entities.label]], axis=1).astype(np.int64)


def _sorted(rows: _Rows) -> _Rows:
    return rows[np.lexsort(rows.T[::-1])]


def _distinct(rows: _Rows) -> _Rows:
    rows = _sorted(rows)
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return rows[first]
