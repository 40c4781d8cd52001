"""The conversion of label scores to columns of labels."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from distilray.model.arrays import Bools, Floats, Ints
from distilray.model.decode.scores import ranked
from distilray.operators.rows import schema as s
from distilray.operators.rows.ragged import ragged


def best_labels(scores: Floats, labels: Sequence[str]) -> pa.StructArray:
    """Return the best label of each row as struct<label, score>. scores: [R, L]."""
    best = ranked(scores, 1)
    return _labels(best[:, 0], np.take_along_axis(scores, best, axis=1)[:, 0], labels)


def ranked_labels(scores: Floats, labels: Sequence[str], count: int | None, kept: Bools | None = None) -> pa.ListArray:
    """Return the best labels of each row as list<struct<label, score>>, best first.

    count: the number of labels. None means all. kept: [R, L], the labels that may occur. None means all.
    """
    order = ranked(scores, count)
    selected = np.ones(order.shape, dtype=np.bool_) if kept is None else np.take_along_axis(kept, order, axis=1)
    values = np.take_along_axis(scores, order, axis=1)
    return ragged(selected.sum(axis=1), _labels(order[selected], values[selected], labels))


def _labels(index: Ints, scores: Floats, labels: Sequence[str]) -> pa.StructArray:
    names = pa.array(labels, pa.string()).take(pa.array(index))
    return pa.StructArray.from_arrays([names, pa.array(scores, pa.float32())], fields=list(s.LABEL))
