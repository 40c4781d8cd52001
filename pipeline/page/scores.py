"""Labels and scores of a task: counts of all rows from the manifest, scores from a sample of the data objects."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.operators.ragged import one_chunk
from distilray.operators.task import Task
from distilray.operators.tasks import (
    Embeddings,
    FillMask,
    MultipleChoice,
    QuestionAnswering,
    TokenClassification,
    ZeroShotClassification,
)
from distilray.pipeline.page.charts import Chart, Doubles, compact, histogram

_BINS, _LABELS = 20, 30
_NARROW = 0.01  # of the largest value: what differs less is drawn from 0


@dataclass(frozen=True)
class Label:
    """rows: times it was given, in the whole output; score: its mean in the sample, None where it is not in it."""

    name: str
    count: int
    share: float
    score: float | None


@dataclass(frozen=True)
class Answers:
    """Of one task. labels: the most frequent ones; others: labels beyond these, and how often they were given; about: what
    has a score; mean: of the sample."""

    name: str
    kind: str
    labels: tuple[Label, ...]
    others: tuple[int, int]
    about: str
    chart: Chart | None
    mean: float | None


def answers_of(task: Task, counts: Mapping[str, int], column: pa.ChunkedArray) -> Answers:
    """counts: by label, of all rows; column: the task's answers of sampled rows."""
    about, scores = _scores(task, column)
    values = scores.to_numpy(zero_copy_only=False).astype(np.float64)
    labels = task.counted(column)
    means = _means(one_chunk(labels), scores) if labels is not None and len(values) else {}
    total = max(sum(counts.values()), 1)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = tuple(Label(name, count, count / total, means.get(name)) for name, count in ordered[:_LABELS])
    rest = ordered[_LABELS:]
    chart = histogram(f"{task.name}: {about}", values, _edges(values), "of them", compact) if len(values) else None
    others = (len(rest), sum(count for _, count in rest))
    return Answers(task.name, _kind(task), shown, others, about, chart, float(values.mean()) if len(values) else None)


def _kind(task: Task) -> str:
    return str(type(task).model_fields["task"].default)


def _scores(task: Task, column: pa.ChunkedArray) -> tuple[str, pa.Array]:
    """What is measured, and its values, in the order of `task.counted`."""
    whole = one_chunk(column)
    match task:
        case Embeddings():
            vectors = (
                whole.flatten()
                .to_numpy(zero_copy_only=False)
                .astype(np.float32)
                .reshape(len(whole), whole.type.list_size)
            )
            return "the length of each vector", pa.array(np.linalg.norm(vectors, axis=1))
        case TokenClassification():
            return "the score of each entity", _score(pc.list_flatten(whole))
        case QuestionAnswering():
            return "the score of each answer", _score(pc.list_flatten(whole))
        case FillMask():
            return "the score of each token", _score(pc.list_flatten(whole))
        case ZeroShotClassification():
            return "the score of each text's best label", _score(pc.list_element(whole, 0))
        case MultipleChoice():
            return "the score of each best choice", _score(whole)
        case _:
            return "the score of each label given", _score(
                pc.list_flatten(whole) if pa.types.is_list(whole.type) else whole
            )


def _score(answers: pa.StructArray) -> pa.Array:
    return pc.struct_field(answers, "score")


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
