"""Scores of labels as columns of labels."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from distilray.model.arrays import Bools, Floats, Ints
from distilray.model.decode.scores import ranked
from distilray.operators.rows import schema as s
from distilray.operators.rows.ragged import ragged


def best_labels(scores: Floats, labels: Sequence[str]) -> pa.StructArray:
    """struct<label, score>: the best of each row; scores: [R, L]."""
    best = ranked(scores, 1)
    return _labels(best[:, 0], np.take_along_axis(scores, best, axis=1)[:, 0], labels)


def ranked_labels(scores: Floats, labels: Sequence[str], most: int | None, kept: Bools | None = None) -> pa.ListArray:
    """list<struct<label, score>>: the `most` best of each row (None: all), of those `kept` [R, L], best first."""
    order = ranked(scores, most)
    stays = np.ones(order.shape, dtype=np.bool_) if kept is None else np.take_along_axis(kept, order, axis=1)
    values = np.take_along_axis(scores, order, axis=1)
    return ragged(stays.sum(axis=1), _labels(order[stays], values[stays], labels))


def _labels(index: Ints, scores: Floats, labels: Sequence[str]) -> pa.StructArray:
    names = pa.array(labels, pa.string()).take(pa.array(index))
    return pa.StructArray.from_arrays([names, pa.array(scores, pa.float32())], fields=list(s.LABEL))
