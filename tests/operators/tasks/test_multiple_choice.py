"""Multiple choice equals the model of Transformers, called row by row, for any number of choices."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from distilray.operators.tasks import MultipleChoice
from tests.operators.harness import answers, read_answers, reasons
from tests.operators.reference import SCORE_GATE, corpus_vocabulary, mixed_texts, passage
from tests.support import HARD_TEXTS, make_checkpoint

# distilray reads literal special tokens as text, but the tokenizer of Transformers does not
TEXTS = [text for text in mixed_texts(30) if "[" not in text]
HARD = [text for text in HARD_TEXTS if "[" not in text]


def choices(count: int) -> list[list[str]]:
    """Return 2 to 7 choices for each row: passages of 0 to 12 words, and some hard texts."""
    draw = random.Random(11)
    return [
        [
            draw.choice(HARD) if draw.random() < 0.1 else passage(draw.randrange(10_000), draw.randint(0, 12))
            for _ in range(draw.choice([2, 2, 3, 4, 7]))
        ]
        for _ in range(count)
    ]


CHOICES = choices(len(TEXTS))


@pytest.fixture(scope="module", params=["uncased", "cased"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    lower = request.param == "uncased"
    vocab = list(corpus_vocabulary()) if lower else None
    return make_checkpoint(
        tmp_path_factory.mktemp("choice"), head="multiple-choice", lower=lower, layers=1, vocab=vocab
    )


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with 40 positions."""
    vocab = list(corpus_vocabulary())
    folder = tmp_path_factory.mktemp("choice")
    return make_checkpoint(folder, head="multiple-choice", layers=1, vocab=vocab, positions=40)


def choose(folder: Path, texts: list[str], choices_of_rows: list[list[str]], **options: Any) -> pa.Table:
    return answers(MultipleChoice(model=str(folder), **options), texts, choices=choices_of_rows)


def chosen(folder: Path, texts: list[str], choices_of_rows: list[list[str]], **options: Any) -> list[dict[str, Any]]:
    return choose(folder, texts, choices_of_rows, **options)["choice"].to_pylist()


@torch.inference_mode()
def hf_scores(folder: Path, texts: list[str], choices_of_rows: list[list[str]], **options: Any) -> list[list[float]]:
    """Return the softmax over the logits of the choices of each row."""
    model = transformers.AutoModelForMultipleChoice.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    scores = []
    for text, row in zip(texts, choices_of_rows, strict=True):
        inputs = tokenizer([text] * len(row), row, padding=True, return_tensors="pt", **options)
        out = model(input_ids=inputs["input_ids"][None], attention_mask=inputs["attention_mask"][None])
        scores.append(out.logits[0].softmax(-1).tolist())
    return scores


def assert_same(actual: list[dict[str, Any]], expected: list[list[float]]) -> None:
    for answer, expected_scores in zip(actual, expected, strict=True):
        assert answer["scores"] == pytest.approx(expected_scores, abs=SCORE_GATE)
        assert answer["index"] == int(np.argmax(expected_scores))
        assert answer["score"] == max(answer["scores"])


def test_equals_transformers_row_by_row(folder: Path) -> None:
    assert len(TEXTS) > 200
    actual = chosen(folder, TEXTS, CHOICES)
    assert_same(actual, hf_scores(folder, TEXTS, CHOICES))
    assert {answer["index"] for answer in actual} >= {0, 1, 2, 3}


def test_long_texts_are_truncated_as_the_first_text_of_a_pair_in_transformers(short: Path) -> None:
    table = choose(short, TEXTS, CHOICES, long_texts="truncate")
    answered = [i for i, reason in enumerate(reasons(table)) if reason is None]
    assert {*reasons(table)} == {None, "choice_too_long"}
    expected = hf_scores(short, [TEXTS[i] for i in answered], [CHOICES[i] for i in answered], truncation="only_first")
    assert_same(table["choice"].take(answered).to_pylist(), expected)
    tokenizer = transformers.AutoTokenizer.from_pretrained(short)
    sizes = [
        [len(ids) for ids in tokenizer([TEXTS[i]] * len(CHOICES[i]), CHOICES[i], verbose=False)["input_ids"]]
        for i in answered
    ]
    assert table["choice_truncated"].take(answered).to_pylist() == [max(row) > 40 for row in sizes]
    assert 30 < sum(max(row) > 40 for row in sizes) < 190


def test_other_rows_do_not_change_an_answer(short: Path) -> None:
    """The order of rows and the choices of other rows change nothing. Equal choices have equal scores."""
    texts, choices_of_rows = TEXTS[:20], [["war", "peace", "war"], *CHOICES[1:20]]
    together = chosen(short, texts, choices_of_rows, long_texts="truncate")
    backwards = chosen(short, texts[::-1], choices_of_rows[::-1], long_texts="truncate")[::-1]
    assert [answer["index"] for answer in together] == [answer["index"] for answer in backwards]
    for one, other in zip(together, backwards, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=SCORE_GATE)
    assert together[0]["scores"][0] == together[0]["scores"][2]


def test_only_rows_that_cannot_be_answered_are_dead_letters(short: Path) -> None:
    """A text of n tokens fits with a choice of at most 37 - n tokens. A choice of 37 tokens leaves none for a text."""
    choices_of_rows = [
        ["war", "peace"],
        ["war"],
        [],
        ["", ""],
        ["war", "war " * 37],
        ["war", "peace"],
        ["war " * 36, "", "war"],
    ]
    texts = ["", "war", "peace", "war", "war", "war " * 37, "war"]
    table = choose(short, texts, choices_of_rows)
    few, long = "too_few_choices", "text_too_long"
    assert reasons(table) == [None, few, few, None, "choice_too_long", long, None]
    assert [table["_message"][i].as_py() for i in (1, 4, 5)] == [
        "column choices has fewer than two choices",
        "a choice leaves no room for the text within 40 tokens",
        "text and choice have more than the model's 40 tokens; choose long_texts truncate",
    ]
    answered = [0, 3, 6]
    expected = hf_scores(short, [texts[i] for i in answered], [choices_of_rows[i] for i in answered])
    assert_same(table["choice"].take(answered).to_pylist(), expected)
    truncated = choose(short, texts, choices_of_rows, long_texts="truncate")
    assert reasons(truncated) == [None, few, few, None, "choice_too_long", None, None]
    assert truncated["choice_truncated"].to_pylist()[5:] == [True, False]


def test_null_choices_are_dead_letters(tmp_path: Path, short: Path) -> None:
    """The rows have a null list, a list with a null, invalid UTF-8, and a null text. The column has another name."""
    choices_of_rows = [[b"war", b"peace"], None, [b"war", None], [b"war", b"\xff"], [b"war", b"peace"], []]
    texts = ["lincoln", "a", "b", "c", None, "d"]
    task = MultipleChoice(model=str(short), choices="options")
    table = read_answers(tmp_path, task, texts, options=choices_of_rows)
    assert reasons(table) == [None, "null_text", "null_text", "invalid_utf8", "null_text", "too_few_choices"]
    assert table["_message"][2].as_py() == "column options is null"
    assert_same(table["choice"].take([0]).to_pylist(), hf_scores(short, ["lincoln"], [["war", "peace"]]))


def test_rows_without_choices_give_no_answers(short: Path) -> None:
    assert chosen(short, [], []) == []
    assert reasons(choose(short, ["a", "b"], [[], []])) == ["too_few_choices"] * 2
