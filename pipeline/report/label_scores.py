"""Labels and scores of a task: counts of all rows from the manifest, scores from a sample of the data objects."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from distilray.operators.rows.ragged import one_chunk
from distilray.operators.tasks.task import Task
from distilray.pipeline.report.charts import Chart, Doubles, compact, histogram

_BINS, _LABELS = 20, 30
_NARROW = 0.01  # of the largest value: what differs less is drawn from 0


@dataclass(frozen=True)
class LabelCount:
    """rows: times it was given, in the whole output; score: its mean in the sample, None where it is not in it."""

    name: str
    count: int
    share: float
    score: float | None


@dataclass(frozen=True)
class AnswerSummary:
    """Of one task. labels: the most frequent ones; others: labels beyond these, and how often they were given; about: what
    has a score; mean: of the sample."""

    name: str
    kind: str
    labels: tuple[LabelCount, ...]
    others: tuple[int, int]
    about: str
    chart: Chart | None
    mean: float | None


def summarize_answers(task: Task, counts: Mapping[str, int], column: pa.ChunkedArray) -> AnswerSummary:
    """counts: by label, of all rows; column: the task's answers of sampled rows."""
    about, scores = task.scores(one_chunk(column))
    values = scores.to_numpy(zero_copy_only=False).astype(np.float64)
    labels = task.labels_to_count(column)
    means = _means(one_chunk(labels), scores) if labels is not None and len(values) else {}
    total = max(sum(counts.values()), 1)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = tuple(LabelCount(name, count, count / total, means.get(name)) for name, count in ordered[:_LABELS])
    rest = ordered[_LABELS:]
    chart = histogram(f"{task.name}: {about}", values, _edges(values), "of them", compact) if len(values) else None
    others = (len(rest), sum(count for _, count in rest))
    return AnswerSummary(
        task.name, _kind(task), shown, others, about, chart, float(values.mean()) if len(values) else None
    )


def _kind(task: Task) -> str:
    return str(type(task).model_fields["task"].default)


def _means(labels: pa.Array, scores: pa.Array) -> dict[str, float]:
    table = pa.table({"label": labels, "score": scores}).group_by("label").aggregate([("score", "mean")])
    return dict(zip(table["label"].to_pylist(), table["score_mean"].to_pylist(), strict=True))


def _edges(values: Doubles) -> Doubles:
    """Of bins: probabilities from 0 to 1, else from the least to the largest."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 + 1e-6:
        low, high = 0.0, max(high, 1.0)
    elif high - low <= _NARROW * abs(high):
        low, high = min(0.0, 1.05 * high), max(0.0, 1.05 * high)
    return np.linspace(low, high, _BINS + 1)
