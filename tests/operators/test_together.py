"""The answers of a task do not depend on other tasks, on slices and chunks of the table, or on dead rows."""

from typing import Any

import pyarrow as pa
import pytest

from distilray.operators.predict import PredictUnit
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
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec
from tests.operators.harness import reasons, rows
from tests.operators.reference import SCORE_GATE, mixed_texts
from tests.support import HeadKind, make_checkpoint

TEXTS: list[str | None] = [
    f"{text} [MASK]" if i % 3 else text for i, text in enumerate(mixed_texts(30)[::4])
]  # every third text has no mask
QUESTIONS: list[str | None] = ["war" if i % 2 else "who?" for i in range(len(TEXTS))]
CHOICES: list[list[str] | None] = [["a", "b"], ["war", "peace", ""]] * (len(TEXTS) // 2) + [["a", "b"]]
TEXTS[3] = TEXTS[11] = QUESTIONS[5] = CHOICES[4] = None
TEXTS[7] = QUESTIONS[12] = ""
CHOICES[6] = []


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> list[Task]:
    """Tasks of every kind. They use three tokenizers and one encoder."""

    def model(head: HeadKind, **options: Any) -> str:
        folder = tmp_path_factory.mktemp("model")
        return str(make_checkpoint(folder, head=head, layers=1, positions=48, **options))

    nli = model("sequence-classification", labels=("contradiction", "entailment"))
    qa_model = model("question-answering")
    qa_options: dict[str, Any] = {"model": qa_model, "no_answer": True, "top_k": 3}
    return [
        TokenClassification(model=model("token-classification"), name="entities"),
        TokenClassification(model=model("token-classification"), name="hf_entities", compat="hf", overlap=5),
        TextClassification(model=nli, name="pair", long_texts="mean", text_pair="q"),
        ZeroShotClassification(model=nli, name="topics", labels=["war", "x"], long_texts="max"),
        QuestionAnswering(name="own", question_column="q", **qa_options),
        QuestionAnswering(name="every", questions=["who", "when"], compat="hf", overlap=5, **qa_options),
        FillMask(model=model("masked-lm"), name="filled"),
        MultipleChoice(model=model("multiple-choice"), name="choice", choices="c", long_texts="truncate"),
        Embeddings(model=model("base"), name="vector", long_texts="mean", layer=0),
    ]


def same(actual: Any, expected: Any) -> bool:
    """Return whether two answers are equal, with scores within the tolerance."""
    if isinstance(actual, dict):
        return actual.keys() == expected.keys() and all(same(actual[name], expected[name]) for name in actual)
    if isinstance(actual, list):
        return len(actual) == len(expected) and all(map(same, actual, expected))
    return abs(actual - expected) <= SCORE_GATE if isinstance(actual, float) else actual == expected


def test_other_tasks_and_slices_do_not_change_answers(tasks: list[Task]) -> None:
    table = rows(TEXTS, q=QUESTIONS, c=CHOICES)
    predict = PredictUnit(tasks, ComputeSpec(dtype="float32"))
    tokens = TokenizeUnit(tasks)(table)
    whole = predict(tokens)
    parts = predict(pa.concat_tables([tokens.slice(0, 7), tokens.slice(7, 10), tokens.slice(17)]))
    middle = predict(tokens.slice(5, 20))
    for task in tasks:
        answers = whole[task.name].to_pylist()
        alone = PredictUnit([task], ComputeSpec(dtype="float32"))(TokenizeUnit([task])(table))
        assert same(alone[task.name].to_pylist(), answers), task.name
        assert same(parts[task.name].to_pylist(), answers), task.name
        assert same(middle[task.name].to_pylist(), answers[5:25]), task.name


def test_a_row_that_several_tasks_reject_has_the_first_reason(tasks: list[Task]) -> None:
    table = rows(["peace [MASK]", "peace", "peace", "peace [MASK]"], q=["a"] * 4, c=[["a", "b"], ["a", "b"], [], ["a"]])
    predict = PredictUnit(tasks, ComputeSpec(dtype="float32"))
    assert reasons(predict(TokenizeUnit(tasks)(table))) == [None, "no_mask", "no_mask", "too_few_choices"]
