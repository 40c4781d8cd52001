"""The operators outside a run: they take plain tables and return the same rows with answers."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from distilray.operators import (
    MultipleChoice,
    Predict,
    QuestionAnswering,
    TableError,
    TaskError,
    TextClassification,
    TokenClassification,
    Tokenize,
)
from tests.operators import harness
from tests.support import make_checkpoint, random_texts

TEXTS = [*random_texts(12, seed=3, words=(1, 40)), "", "President Lincoln met John in Paris ."]


def answered(table: pa.Table, *tasks: TokenClassification, text: str = "text") -> pa.Table:
    return Predict(tasks, dtype="float32")(Tokenize(tasks, text)(table))


@pytest.fixture(scope="module")
def task(checkpoint: Path) -> TokenClassification:
    return TokenClassification(model=str(checkpoint))


def test_the_operators_give_the_answers_of_a_run(task: TokenClassification) -> None:
    ids = list(range(len(TEXTS)))
    result = answered(pa.table({"id": ids, "body": TEXTS, "_mine": ids}), task, text="body")
    assert result.column_names == ["id", "body", "_mine", "entities", "reason", "message"]
    assert (result["id"].to_pylist(), result["body"].to_pylist(), result["_mine"].to_pylist()) == (ids, TEXTS, ids)
    assert result["entities"].to_pylist() == harness.answers(task, TEXTS)["entities"].to_pylist()
    assert result["reason"].null_count == result["message"].null_count == len(TEXTS)


def test_the_schema_of_the_input_is_kept(task: TokenClassification) -> None:
    schema = pa.schema(
        [pa.field("text", pa.string(), nullable=False, metadata={"from": "us"}), pa.field("n", pa.int8())],
        {"about": "all"},
    )
    result = answered(pa.table({"text": TEXTS, "n": [1] * len(TEXTS)}, schema=schema), task)
    assert pa.schema(list(result.schema)[:2], result.schema.metadata).equals(schema, check_metadata=True)
    duplicate = pa.Table.from_arrays([pa.array(["a"])] * 3, ["text", "x", "x"])
    with pytest.raises(TableError, match="got x more than once"):
        Tokenize([task])(duplicate)


def layouts(texts: list[str]) -> dict[str, pa.Array | pa.ChunkedArray]:
    """Return the same texts in different Arrow types and layouts."""
    plain, middle = pa.array(texts), len(texts) // 2
    return {
        "chunks": pa.chunked_array([plain[:middle], plain[middle:middle], plain[middle:]]),
        "large": plain.cast(pa.large_string()),
        "view": plain.cast(pa.string_view()),
        "binary": plain.cast(pa.binary()),
        "dictionary": plain.dictionary_encode(),
        "chunks of dictionaries": pa.chunked_array(
            [plain[:middle].dictionary_encode(), plain[middle:].dictionary_encode()]
        ),
        "slice": pa.array(["x", *texts, None]).slice(1, len(texts)),
    }


@pytest.mark.parametrize("layout", layouts(TEXTS))
def test_texts_may_have_any_arrow_type(task: TokenClassification, layout: str) -> None:
    table = pa.table({"text": layouts(TEXTS)[layout]})
    result = answered(table, task)
    assert result["entities"].to_pylist() == harness.answers(task, TEXTS)["entities"].to_pylist()
    assert result["text"].equals(table["text"])  # unchanged


def test_predict_accepts_slices_of_tokenized_tables(task: TokenClassification) -> None:
    """Ray splits and joins blocks at any row."""
    tokens = Tokenize([task])(pa.table({"text": TEXTS, "id": range(len(TEXTS))}))
    joined = pa.concat_tables([tokens.slice(5, 4), tokens.slice(1, 3)])
    result = Predict([task], dtype="float32")(joined)
    assert result["id"].to_pylist() == [5, 6, 7, 8, 1, 2, 3]
    expected = harness.answers(task, [TEXTS[i] for i in result["id"].to_pylist()])
    harness.assert_same_entities(result["entities"], expected["entities"])


def test_rejected_rows_stay_with_a_reason(checkpoint: Path, task: TokenClassification) -> None:
    label = TextClassification(model=str(make_checkpoint(checkpoint.parent / "label", head="sequence-classification")))
    texts = [b"good", None, b"\xff\xfe", b"lincoln " * 600]
    result = answered(pa.table({"text": pa.array(texts, pa.binary())}), task, label)
    assert result["reason"].to_pylist() == [None, "null_text", "invalid_utf8", "text_too_long"]
    assert result["message"].to_pylist()[1] == "the text is null"
    assert [entities is None for entities in result["entities"].to_pylist()] == [False, True, True, True]
    assert [value is None for value in result["label"].to_pylist()] == [False, True, True, True]
    assert result["text"].to_pylist() == texts


@pytest.mark.parametrize("texts", [pa.array([], pa.string()), pa.chunked_array([], pa.string()), pa.nulls(3)])
def test_a_batch_may_have_no_texts(task: TokenClassification, texts: pa.Array) -> None:
    result = answered(pa.table({"text": texts}), task)
    assert result.num_rows == len(texts)
    assert result.schema.field("entities").type == harness.answers(task, ["x"]).schema.field("entities").type


def test_tasks_read_other_columns(tmp_path: Path) -> None:
    ask = QuestionAnswering(
        model=str(make_checkpoint(tmp_path / "qa", head="question-answering")), question_column="ask"
    )
    choose = MultipleChoice(model=str(make_checkpoint(tmp_path / "mc", head="multiple-choice")), choices="endings")
    table = pa.table(
        {
            "text": ["John met Mary .", "Paris is new .", "war"],
            "ask": pa.array(["Who ?", None, "What ?"]).dictionary_encode(),
            "endings": pa.array([["a", "b"], ["a", "b"], ["a"]], pa.large_list(pa.string())),
        }
    )
    result = answered(table, ask, choose)
    assert [value is None for value in result["reason"].to_pylist()] == [True, False, False]
    assert result["reason"].to_pylist()[1] == "null_text"
    assert result["choice"].to_pylist()[0]["index"] in {0, 1}


def test_only_the_row_that_raises_is_rejected(task: TokenClassification, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Predict([task], dtype="float32")
    answered = predict._predict.answered

    def fail_on_mary(table: pa.Table) -> pa.Table:
        if "Mary" in table["_text"].to_pylist():
            raise RuntimeError("such a row")
        return answered(table)

    monkeypatch.setattr(predict._predict, "answered", fail_on_mary)
    result = predict(Tokenize([task])(pa.table({"text": ["John", "Mary", "Paris"]})))
    assert result["text"].to_pylist() == ["John", "Mary", "Paris"]
    assert result["reason"].to_pylist() == [None, "error", None]


def test_an_unsuitable_table_is_an_error(task: TokenClassification, checkpoint: Path) -> None:
    tokenize, predict = Tokenize([task]), Predict([task])
    other = make_checkpoint(checkpoint.parent / "cased", lower=False)
    reads_more = TextClassification(
        model=str(make_checkpoint(checkpoint.parent / "pair", head="sequence-classification")), text_pair="id"
    )
    other_tokens = Tokenize([TokenClassification(model=str(other))])(pa.table({"text": ["x"]}))
    messages = {
        'expected a pyarrow.Table, got DataFrame: call map_batches with batch_format="pyarrow"': pd.DataFrame(
            {"text": ["x"]}
        ),
        "got dict: call map_batches": {"text": ["x"]},
        "column text is missing; the table has body": pa.table({"body": ["x"]}),
        "column text must be one of string.*; it is int64": pa.table({"text": [1]}),
        "expected no column named _text, _stage,": pa.table({"text": ["x"], "_text": ["x"], "_stage": [1]}),
    }
    for message, table in messages.items():
        with pytest.raises(TableError, match=message):
            tokenize(table)
    messages = {
        "got DataFrame": pd.DataFrame({"text": ["x"]}),
        "expected a table that Tokenize returned for the same tasks, got columns text: call Tokenize first": pa.table(
            {"text": ["x"]}
        ),
        "for the same tasks, got columns text, _text": other_tokens,
        "for the same tasks, got columns id": Tokenize([task, reads_more])(pa.table({"id": ["x"], "text": ["x"]})),
        "expected no column named entities, reason, .* rename it or the task": tokenize(
            pa.table({"text": ["x"], "entities": [1], "reason": [1]})
        ),
    }
    for message, table in messages.items():
        with pytest.raises(TableError, match=message):
            predict(table)


def test_wrong_tasks_are_an_error_at_construction(task: TokenClassification) -> None:
    for operator in (Tokenize, Predict):
        with pytest.raises(TaskError, match="expected a list of one or more tasks"):
            operator(task)
    with pytest.raises(TaskError, match="two columns would be called entities"):
        Predict([task, task])
    with pytest.raises(TaskError, match="tasks.0 .entities, .*the model has no label MISC"):
        Predict([task.model_copy(update={"thresholds": {"MISC": 0.5}})])
