"""Labels and scores of a task. Counts cover all rows. Scores come from a sample of the rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from distilray.operators.rows.ragged import one_chunk
from distilray.operators.tasks.task import Task
from distilray.pipeline.report.charts import Chart, Doubles, compact, histogram

_BINS, _LABELS = 20, 30
_NARROW = 0.01  # of the largest value: the axis of a narrower range starts at 0


@dataclass(frozen=True)
class LabelCount:
    """The frequency of a label.

    count: how often the label occurs in the whole output. share: its share of all labels of the task. score: its mean
    score in the sample, None if the sample does not have the label.
    """

    name: str
    count: int
    share: float
    score: float | None


@dataclass(frozen=True)
class AnswerSummary:
    """The labels and scores of one task.

    labels: the most frequent labels. others: the number of further labels, and how often they occur. about: what the
    scores belong to. chart: the histogram of the sampled scores, None without scores. mean: the mean of these scores.
    """

    name: str
    kind: str
    labels: tuple[LabelCount, ...]
    others: tuple[int, int]
    about: str
    chart: Chart | None
    mean: float | None


def summarize_answers(task: Task, counts: Mapping[str, int], column: pa.ChunkedArray) -> AnswerSummary:
    """Summarize the answers of a task.

    counts: the number of answers in all rows, by label. column: the answers of the sampled rows.
    """
    about, scores = task.scores(one_chunk(column))
    values = scores.to_numpy(zero_copy_only=False).astype(np.float64)
    labels = task.labels_to_count(column)
    means = _means(one_chunk(labels), scores) if labels is not None and len(values) else {}
    total = max(sum(counts.values()), 1)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    labels_shown = tuple(LabelCount(name, count, count / total, means.get(name)) for name, count in ordered[:_LABELS])
    remaining = ordered[_LABELS:]
    chart = histogram(f"{task.name}: {about}", values, _edges(values), "values", compact) if len(values) else None
    others = (len(remaining), sum(count for _, count in remaining))
    return AnswerSummary(
        task.name, _kind(task), labels_shown, others, about, chart, float(values.mean()) if len(values) else None
    )


def _kind(task: Task) -> str:
    return str(type(task).model_fields["task"].default)


def _means(labels: pa.Array, scores: pa.Array) -> dict[str, float]:
    """Return the mean score of each label."""
    table = pa.table({"label": labels, "score": scores}).group_by("label").aggregate([("score", "mean")])
    return dict(zip(table["label"].to_pylist(), table["score_mean"].to_pylist(), strict=True))


def _edges(values: Doubles) -> Doubles:
    """Return the edges of the bins: from 0 to 1 for probabilities, else from the smallest to the largest value."""
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 1 + 1e-6:
        low, high = 0.0, max(high, 1.0)
    elif high - low <= _NARROW * abs(high):
        low, high = min(0.0, 1.05 * high), max(0.0, 1.05 * high)
    return np.linspace(low, high, _BINS + 1)
