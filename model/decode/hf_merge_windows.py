"""Transformers' way to make one list of the entities of overlapping windows (spec: docs/tasks.md)."""

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Bools, offsets_of, ragged_arange
from distilray.model.decode.token_classification import EntitySpans


def hf_merge_windows(spans: EntitySpans, text_of_window: npt.NDArray[np.int64]) -> EntitySpans:
    """Transformers' merge of spans decoded window by window (spans.text counts windows).

    Within a text in order of start: a span that starts inside the last kept one replaces it if it is longer, or as
    long and scored higher, whatever the labels; otherwise it is dropped.
    """
    text = text_of_window[spans.text]
    order = np.lexsort((spans.start, text))  # stable
    spans = EntitySpans(text, spans.start, spans.end, spans.label, spans.score, spans.names).take(order)
    cluster = _overlap_clusters(spans, windowed=np.bincount(text_of_window)[spans.text] > 1)
    sizes = np.bincount(cluster) if len(cluster) else np.zeros(0, dtype=np.int64)
    nth = ragged_arange(sizes)
    kept = offsets_of(sizes)[:-1].copy()  # the span last kept in each cluster
    closed = []
    # clusters are a few spans each: this walks along the longest one, over all clusters at once
    for i in range(1, int(sizes.max(initial=0))):
        rival = np.flatnonzero(nth == i)
        c = cluster[rival]
        mine = kept[c]
        inside = spans.start[rival] < spans.end[mine]
        length, kept_length = spans.end[rival] - spans.start[rival], spans.end[mine] - spans.start[mine]
        wins = (length > kept_length) | ((length == kept_length) & (spans.score[rival] > spans.score[mine]))
        closed.append(mine[~inside])
        kept[c] = np.where(~inside | wins, rival, mine)
    return spans.take(np.sort(np.concatenate([*closed, kept])))


def _overlap_clusters(spans: EntitySpans, windowed: Bools) -> npt.NDArray[np.int64]:
    """int64 [E]: a new cluster starts where no earlier span of the text reaches. spans: sorted by text, start.

    windowed: [E], whether the text has several windows; Transformers merges nothing in the others.
    """
    if not len(spans.start):
        return np.zeros(0, dtype=np.int64)
    height = int(spans.end.max(initial=0)) + 1
    reach = np.maximum.accumulate(spans.text * height + spans.end)
    first = np.ones(len(spans.start), dtype=np.bool_)
    first[1:] = spans.text[1:] * height + spans.start[1:] >= reach[:-1]
    first |= ~windowed
    return np.cumsum(first) - 1
