"""Figures and charts of a page, for empty samples and for numbers of any size."""

import pyarrow as pa
import pytest

from distilray.model.network.config import Config
from distilray.operators.tasks import (
    Embeddings,
    FillMask,
    MultipleChoice,
    QuestionAnswering,
    TextClassification,
    TokenClassification,
    ZeroShotClassification,
)
from distilray.operators.tasks.task import Task
from distilray.pipeline.report.answer_summary import summarize_answers
from distilray.pipeline.report.charts import compact
from distilray.pipeline.report.html import _figure

CONFIG = Config(100, 64, 1, 4, 48, 80, "gelu", False, ("a", "b"), None, None)
TASKS: list[Task] = [
    TokenClassification(model="m"),
    TextClassification(model="m"),
    TextClassification(model="m", top_k=2),
    ZeroShotClassification(model="m", labels=["a", "b"]),
    QuestionAnswering(model="m", questions=["who"]),
    FillMask(model="m"),
    MultipleChoice(model="m", choices="options"),
    Embeddings(model="m"),
    Embeddings(model="m", dtype="float16"),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_a_sample_without_an_answered_row_has_no_scores(task: Task) -> None:
    kind = task.answer_type(CONFIG)
    for column in (pa.chunked_array([], kind), pa.chunked_array([pa.array([], kind)])):
        summary = summarize_answers(task, {}, column)
        assert (summary.chart, summary.mean, summary.labels) == (None, None, ())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.25, "0.25"), (999.4, "999"), (999.7, "1k"), (1234, "1.23k"), (999_700, "1M"), (-999_700, "-1M"),
     (999_999_999, "1G"), (999.9e9, "1T")],
)  # fmt: skip
def test_a_compact_number_has_three_digits(value: float, text: str) -> None:
    assert compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "\u2013"), (1234567, "1,234,567"), (0.01234567, "0.01235"), (999.25, "999.2"), (12345.678, "12,346"),
     (1234567.8, "1,234,568"), ("a GPU", "a GPU")],
)  # fmt: skip
def test_a_figure_has_separators_and_four_digits(value: float | str | None, text: str) -> None:
    assert _figure(value) == text
