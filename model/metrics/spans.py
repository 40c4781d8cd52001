"""Token classification: entity spans, right if text, start, end and label all are.

The figures are seqeval's (default mode, that is conlleval's) for the same spans written as tags.
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
    """E spans in any order. text: [E], which of the batch's texts; start, end: [E]; label: [E], index into names."""

    text: Ints
    start: Ints
    end: Ints
    label: Ints
    names: Sequence[str]


def count(gold: Entities, found: Entities) -> dict[str, Any]:
    """{label: {hits, found, gold}} for each label that occurs; a span given twice counts once.

    Labels are compared by name, so the two sides may number them differently. All spans of a text must come in one
    batch. Raises MetricError for a label without a name.
    """
    names = np.unique(np.array([*gold.names, *found.names], dtype=object))
    g, f = (_distinct(_rows(side, names)) for side in (gold, found))
    both = _sorted(np.concatenate([g, f]))
    hit = both[1:][(both[1:] == both[:-1]).all(axis=1)]
    counts = {key: np.bincount(rows[:, 3], minlength=len(names)) for key, rows in zip(_KEYS, (hit, f, g), strict=True)}
    return {
        str(name): {key: int(counts[key][i]) for key in _KEYS}
        for i, name in enumerate(names)
        if counts["found"][i] or counts["gold"][i]
    }


def figures(counts: dict[str, Any]) -> dict[str, Any]:
    """{micro, macro, weighted: {precision, recall, f1, support}, labels: {label: the same}}, labels in order of name.

    Macro and weighted average over the labels that occur in gold or predictions, as in seqeval.
    """
    return score_table(dict(sorted(counts.items())))


_KEYS = ("hits", "found", "gold")


def _rows(side: Entities, names: npt.NDArray[np.object_]) -> _Rows:
    """int64 [E, 4]: text, start, end, label as an index into `names`."""
    unnamed = np.flatnonzero((side.label < 0) | (side.label >= len(side.names)))
    if len(unnamed):
        raise MetricError(
            f"span {unnamed[0]} has label {side.label[unnamed[0]]}, but there are {len(side.names)} names"
        )
    place = np.searchsorted(names, np.array(side.names, dtype=object)).astype(np.int64)
    return np.stack([side.text, side.start, side.end, place[side.label]], axis=1).astype(np.int64)


def _sorted(rows: _Rows) -> _Rows:
    return rows[np.lexsort(rows.T[::-1])]


def _distinct(rows: _Rows) -> _Rows:
    rows = _sorted(rows)
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return rows[first]
