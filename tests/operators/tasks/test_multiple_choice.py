"""Multiple choice equals Transformers' model called row by row, whatever the number of choices."""

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
from tests.operators.material import SCORE_GATE, corpus_vocabulary, mixed_texts, passage
from tests.support import HARD_TEXTS, make_checkpoint

# literal special tokens are text to us: Transformers' tokenizer reads those texts differently
TEXTS = [text for text in mixed_texts(30) if "[" not in text]
HARD = [text for text in HARD_TEXTS if "[" not in text]


def choices(count: int) -> list[list[str]]:
    """2 to 7 choices a row, of 0 to 12 words, hard texts among them."""
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
    """A model of 40 tokens."""
    vocab = list(corpus_vocabulary())
    folder = tmp_path_factory.mktemp("choice")
    return make_checkpoint(folder, head="multiple-choice", layers=1, vocab=vocab, positions=40)


def choose(folder: Path, texts: list[str], given: list[list[str]], **options: Any) -> pa.Table:
    return answers(MultipleChoice(model=str(folder), **options), texts, choices=given)


def chosen(folder: Path, texts: list[str], given: list[list[str]], **options: Any) -> list[dict[str, Any]]:
    return choose(folder, texts, given, **options)["choice"].to_pylist()


@torch.inference_mode()
def hf_scores(folder: Path, texts: list[str], given: list[list[str]], **options: Any) -> list[list[float]]:
    """Softmax over the logits of each row's choices."""
    model = transformers.AutoModelForMultipleChoice.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    found = []
    for text, row in zip(texts, given, strict=True):
        inputs = tokenizer([text] * len(row), row, padding=True, return_tensors="pt", **options)
        out = model(input_ids=inputs["input_ids"][None], attention_mask=inputs["attention_mask"][None])
        found.append(out.logits[0].softmax(-1).tolist())
    return found


def assert_same(ours: list[dict[str, Any]], theirs: list[list[float]]) -> None:
    for mine, wanted in zip(ours, theirs, strict=True):
        assert mine["scores"] == pytest.approx(wanted, abs=SCORE_GATE)
        assert mine["index"] == int(np.argmax(wanted))
        assert mine["score"] == max(mine["scores"])


def test_equals_transformers_row_by_row(folder: Path) -> None:
    assert len(TEXTS) > 200
    ours = chosen(folder, TEXTS, CHOICES)
    assert_same(ours, hf_scores(folder, TEXTS, CHOICES))
    assert {each["index"] for each in ours} >= {0, 1, 2, 3}


def test_long_texts_are_cut_as_transformers_cuts_the_first_of_a_pair(short: Path) -> None:
    table = choose(short, TEXTS, CHOICES, long_texts="truncate")
    alive = [i for i, reason in enumerate(reasons(table)) if reason is None]
    assert {*reasons(table)} == {None, "choice_too_long"}
    theirs = hf_scores(short, [TEXTS[i] for i in alive], [CHOICES[i] for i in alive], truncation="only_first")
    assert_same(table["choice"].take(alive).to_pylist(), theirs)
    tokenizer = transformers.AutoTokenizer.from_pretrained(short)
    sizes = [
        [len(ids) for ids in tokenizer([TEXTS[i]] * len(CHOICES[i]), CHOICES[i], verbose=False)["input_ids"]]
        for i in alive
    ]
    assert table["choice_truncated"].take(alive).to_pylist() == [max(row) > 40 for row in sizes]
    assert 30 < sum(max(row) > 40 for row in sizes) < 190


def test_rows_know_nothing_of_each_other(short: Path) -> None:
    """The order of rows and the number of others' choices change nothing; the same choice twice is worth the same."""
    texts, given = TEXTS[:20], [["war", "peace", "war"], *CHOICES[1:20]]
    together = chosen(short, texts, given, long_texts="truncate")
    backwards = chosen(short, texts[::-1], given[::-1], long_texts="truncate")[::-1]
    assert [each["index"] for each in together] == [each["index"] for each in backwards]
    for one, other in zip(together, backwards, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=SCORE_GATE)
    assert together[0]["scores"][0] == together[0]["scores"][2]


def test_rows_that_cannot_be_answered_are_dead_letters_and_the_others_are_answered(short: Path) -> None:
    """A text of n tokens goes with a choice of 37 - n at most; with one of 37 there is no room for a text."""
    given = [["war", "peace"], ["war"], [], ["", ""], ["war", "war " * 37], ["war", "peace"], ["war " * 36, "", "war"]]
    texts = ["", "war", "peace", "war", "war", "war " * 37, "war"]
    table = choose(short, texts, given)
    few, long = "too_few_choices", "text_too_long"
    assert reasons(table) == [None, few, few, None, "choice_too_long", long, None]
    assert [table["_message"][i].as_py() for i in (1, 4, 5)] == [
        "column choices has fewer than two choices",
        "a choice leaves no room for the text within 40 tokens",
        "text and choice have more than the model's 40 tokens; choose long_texts truncate",
    ]
    alive = [0, 3, 6]
    theirs = hf_scores(short, [texts[i] for i in alive], [given[i] for i in alive])
    assert_same(table["choice"].take(alive).to_pylist(), theirs)
    cut = choose(short, texts, given, long_texts="truncate")
    assert reasons(cut) == [None, few, few, None, "choice_too_long", None, None]
    assert cut["choice_truncated"].to_pylist()[5:] == [True, False]


def test_null_choices_are_dead_letters(tmp_path: Path, short: Path) -> None:
    """A null list, a list with a null, a broken choice, a null text; another column by name."""
    given = [[b"war", b"peace"], None, [b"war", None], [b"war", b"\xff"], [b"war", b"peace"], []]
    texts = ["lincoln", "a", "b", "c", None, "d"]
    task = MultipleChoice(model=str(short), choices="options")
    table = read_answers(tmp_path, task, texts, options=given)
    assert reasons(table) == [None, "null_text", "null_text", "invalid_utf8", "null_text", "too_few_choices"]
    assert table["_message"][2].as_py() == "column options is null"
    assert_same(table["choice"].take([0]).to_pylist(), hf_scores(short, ["lincoln"], [["war", "peace"]]))


def test_rows_without_any_choices_have_no_answers(short: Path) -> None:
    assert chosen(short, [], []) == []
    assert reasons(choose(short, ["a", "b"], [[], []])) == ["too_few_choices"] * 2
