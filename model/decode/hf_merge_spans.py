"""Transformers' merge of the entities of overlapping windows into one list (spec: docs/tasks.md)."""

import numpy as np
import numpy.typing as npt

from distilray.model.arrays import Bools, offsets_of, ragged_arange
from distilray.model.decode.token_classification import EntitySpans


def hf_merge_windows(spans: EntitySpans, text_of_window: npt.NDArray[np.int64]) -> EntitySpans:
    """Merge spans that were decoded window by window, as Transformers does. spans.text: the window of each span.

    The spans of a text are compared in order of start. If a span starts inside the last kept span, only one of the two
    is kept: the longer span, or of equally long spans the one with the higher score, or else the earlier span. Labels
    do not matter.
    """
    text = text_of_window[spans.text]
    order = np.lexsort((spans.start, text))  # stable
    spans = EntitySpans(text, spans.start, spans.end, spans.label, spans.score, spans.names).take(order)
    cluster = _overlap_clusters(spans, windowed=np.bincount(text_of_window)[spans.text] > 1)
    sizes = np.bincount(cluster) if len(cluster) else np.zeros(0, dtype=np.int64)
    rank = ragged_arange(sizes)
    last_kept = offsets_of(sizes)[:-1].copy()  # the last kept span of each cluster
    results = []
    # clusters have a few spans each; a step handles the i-th span of every cluster
    for i in range(1, int(sizes.max(initial=0))):
        candidate = np.flatnonzero(rank == i)
        cluster_of_candidate = cluster[candidate]
        current = last_kept[cluster_of_candidate]
        overlaps = spans.start[candidate] < spans.end[current]
        length, kept_length = spans.end[candidate] - spans.start[candidate], spans.end[current] - spans.start[current]
        wins = (length > kept_length) | ((length == kept_length) & (spans.score[candidate] > spans.score[current]))
        results.append(current[~overlaps])
        last_kept[cluster_of_candidate] = np.where(~overlaps | wins, candidate, current)
    return spans.take(np.sort(np.concatenate([*results, last_kept])))


def _overlap_clusters(spans: EntitySpans, windowed: Bools) -> npt.NDArray[np.int64]:
    """Return the cluster of each span, int64 [E]. A span that overlaps no earlier span of its text starts a cluster.

    spans: sorted by text and start. windowed: [E], whether the text has several windows. Transformers merges nothing in
    other texts.
    """
    if not len(spans.start):
        return np.zeros(0, dtype=np.int64)
    stride = int(spans.end.max(initial=0)) + 1
    max_end = np.maximum.accumulate(spans.text * stride + spans.end)
    starts_cluster = np.ones(len(spans.start), dtype=np.bool_)
    starts_cluster[1:] = spans.text[1:] * stride + spans.start[1:] >= max_end[:-1]
    starts_cluster |= ~windowed
    return np.cumsum(starts_cluster) - 1
