"""The lengths of a corpus' documents, from a sample."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.operators.rows import schema as s
from distilray.pipeline.report.charts import Chart, histogram


@dataclass(frozen=True)
class Lengths:
    """Statistics of lengths in characters. documents: the size of the sample. units: the number of sampled units."""

    documents: int
    units: int
    least: int
    median: int
    percentile_95: int
    most: int
    chart: Chart


def lengths_of(tables: Sequence[pa.Table]) -> Lengths | None:
    """Measure the texts of sampled rows. Return None if no row has a text.

    tables: the sampled rows, one table per unit.
    """
    texts = pa.chunked_array([chunk for table in tables for chunk in table[s.TEXT].chunks], pa.string()).drop_null()
    if not len(texts):
        return None
    lengths = pc.utf8_length(texts).to_numpy().astype(np.float64)
    least, median, high, most = (int(x) for x in np.quantile(lengths, (0, 0.5, 0.95, 1)))
    first, last = int(np.log2(max(least, 1))), int(np.log2(max(most, 1))) + 1
    edges = np.exp2(np.arange(first, last + 1, dtype=np.float64))
    edges[0] = min(edges[0], least)  # empty texts
    chart = histogram("Documents by length in characters", lengths, edges, "documents", lambda edge: f"{edge:,.0f}")
    return Lengths(len(texts), len(tables), least, median, high, most, chart)
