"""The operators in anybody's pipeline: plain tables in, the same rows with answers out, without a run around them."""

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


def test_rows_come_back_with_the_answers_that_a_run_gives(task: TokenClassification) -> None:
    ids = list(range(len(TEXTS)))
    found = answered(pa.table({"id": ids, "body": TEXTS, "_mine": ids}), task, text="body")
    assert found.column_names == ["id", "body", "_mine", "entities", "reason", "message"]
    assert (found["id"].to_pylist(), found["body"].to_pylist(), found["_mine"].to_pylist()) == (ids, TEXTS, ids)
    assert found["entities"].to_pylist() == harness.answers(task, TEXTS)["entities"].to_pylist()
    assert found["reason"].null_count == found["message"].null_count == len(TEXTS)


def test_what_a_table_says_of_its_columns_stays(task: TokenClassification) -> None:
    own = pa.schema(
        [pa.field("text", pa.string(), nullable=False, metadata={"from": "us"}), pa.field("n", pa.int8())],
        {"about": "all"},
    )
    found = answered(pa.table({"text": TEXTS, "n": [1] * len(TEXTS)}, schema=own), task)
    assert pa.schema(list(found.schema)[:2], found.schema.metadata).equals(own, check_metadata=True)
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, ["text", "x", "x"])
    with pytest.raises(TableError, match="got x more than once"):
        Tokenize([task])(twice)


def forms(texts: list[str]) -> dict[str, pa.Array | pa.ChunkedArray]:
    """The same texts as Arrow may hold them."""
    plain, half = pa.array(texts), len(texts) // 2
    return {
        "chunks": pa.chunked_array([plain[:half], plain[half:half], plain[half:]]),
        "large": plain.cast(pa.large_string()),
        "view": plain.cast(pa.string_view()),
        "binary": plain.cast(pa.binary()),
        "dictionary": plain.dictionary_encode(),
        "chunks of dictionaries": pa.chunked_array(
            [plain[:half].dictionary_encode(), plain[half:].dictionary_encode()]
        ),
        "slice": pa.array(["x", *texts, None]).slice(1, len(texts)),
    }


@pytest.mark.parametrize("form", forms(TEXTS))
def test_texts_may_be_held_in_any_form(task: TokenClassification, form: str) -> None:
    table = pa.table({"text": forms(TEXTS)[form]})
    found = answered(table, task)
    assert found["entities"].to_pylist() == harness.answers(task, TEXTS)["entities"].to_pylist()
    assert found["text"].equals(table["text"])  # as it was


def test_a_batch_between_the_stages_may_be_a_slice_of_others(task: TokenClassification) -> None:
    """Ray cuts and joins blocks as it likes."""
    whole = Tokenize([task])(pa.table({"text": TEXTS, "id": range(len(TEXTS))}))
    joined = pa.concat_tables([whole.slice(5, 4), whole.slice(1, 3)])
    found = Predict([task], dtype="float32")(joined)
    assert found["id"].to_pylist() == [5, 6, 7, 8, 1, 2, 3]
    expected = harness.answers(task, [TEXTS[i] for i in found["id"].to_pylist()])
    harness.assert_same_entities(found["entities"], expected["entities"])


def test_rows_that_cannot_be_answered_say_why_and_are_not_lost(checkpoint: Path, task: TokenClassification) -> None:
    label = TextClassification(model=str(make_checkpoint(checkpoint.parent / "label", head="sequence-classification")))
    texts = [b"good", None, b"\xff\xfe", b"lincoln " * 600]
    found = answered(pa.table({"text": pa.array(texts, pa.binary())}), task, label)
    assert found["reason"].to_pylist() == [None, "null_text", "invalid_utf8", "text_too_long"]
    assert found["message"].to_pylist()[1] == "the text is null"
    assert [entities is None for entities in found["entities"].to_pylist()] == [False, True, True, True]
    assert [each is None for each in found["label"].to_pylist()] == [False, True, True, True]
    assert found["text"].to_pylist() == texts


@pytest.mark.parametrize("texts", [pa.array([], pa.string()), pa.chunked_array([], pa.string()), pa.nulls(3)])
def test_a_batch_may_hold_nothing(task: TokenClassification, texts: pa.Array) -> None:
    found = answered(pa.table({"text": texts}), task)
    assert found.num_rows == len(texts)
    assert found.schema.field("entities").type == harness.answers(task, ["x"]).schema.field("entities").type


def test_tasks_read_other_columns_too(tmp_path: Path) -> None:
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
    found = answered(table, ask, choose)
    assert [each is None for each in found["reason"].to_pylist()] == [True, False, False]
    assert found["reason"].to_pylist()[1] == "null_text"
    assert found["choice"].to_pylist()[0]["index"] in {0, 1}


def test_a_row_that_raises_is_dead_alone(task: TokenClassification, monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Predict([task], dtype="float32")
    answered = predict._predict.answered

    def fails(table: pa.Table) -> pa.Table:
        if "Mary" in table["_text"].to_pylist():
            raise RuntimeError("such a row")
        return answered(table)

    monkeypatch.setattr(predict._predict, "answered", fails)
    found = predict(Tokenize([task])(pa.table({"text": ["John", "Mary", "Paris"]})))
    assert found["text"].to_pylist() == ["John", "Mary", "Paris"]
    assert found["reason"].to_pylist() == [None, "error", None]


def test_what_is_no_table_of_texts_is_refused(task: TokenClassification, checkpoint: Path) -> None:
    tokenize, predict = Tokenize([task]), Predict([task])
    other = make_checkpoint(checkpoint.parent / "cased", lower=False)
    reads_more = TextClassification(
        model=str(make_checkpoint(checkpoint.parent / "pair", head="sequence-classification")), text_pair="id"
    )
    strange = Tokenize([TokenClassification(model=str(other))])(pa.table({"text": ["x"]}))
    refused = {
        'expected a pyarrow.Table, got DataFrame: call map_batches with batch_format="pyarrow"': pd.DataFrame(
            {"text": ["x"]}
        ),
        "got dict: call map_batches": {"text": ["x"]},
        "column text is missing; the table has body": pa.table({"body": ["x"]}),
        "column text must be one of string.*; it is int64": pa.table({"text": [1]}),
        "rename column _text, _stage:": pa.table({"text": ["x"], "_text": ["x"], "_stage": [1]}),
    }
    for says, table in refused.items():
        with pytest.raises(TableError, match=says):
            tokenize(table)
    refused = {
        "got DataFrame": pd.DataFrame({"text": ["x"]}),
        "expected a table that Tokenize returned for the same tasks, got columns text: call Tokenize first": pa.table({"text": ["x"]}),
        "for the same tasks, got columns text, _text": strange,
        "for the same tasks, got columns id": Tokenize([task, reads_more])(pa.table({"id": ["x"], "text": ["x"]})),
        "rename column entities, reason, or the task": tokenize(
            pa.table({"text": ["x"], "entities": [1], "reason": [1]})
        ),
    }
    for says, table in refused.items():
        with pytest.raises(TableError, match=says):
            predict(table)


def test_tasks_are_checked_before_any_row(task: TokenClassification) -> None:
    for operator in (Tokenize, Predict):
        with pytest.raises(TaskError, match="expected a list of one or more tasks"):
            operator(task)
    with pytest.raises(TaskError, match="two columns would be called entities"):
        Predict([task, task])
    with pytest.raises(TaskError, match="tasks.0 .entities, .*the model has no label MISC"):
        Predict([task.model_copy(update={"thresholds": {"MISC": 0.5}})])
