"""Question answering: compat hf equals Transformers 4.57, and the default rules equal a loop over all spans."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.windows import split_into_windows
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.tasks import QuestionAnswering
from tests.golden import question_answering as golden
from tests.operators.harness import answers, assert_rejected, read_answers, reasons
from tests.operators.reference import SCORE_GATE, corpus_vocabulary, mixed_texts, passage
from tests.operators.tasks.word_model import make_word_model
from tests.support import make_checkpoint

# options of the pipeline, and the options of the task with the same meaning
OPTIONS = {
    "top_k": "top_k",
    "max_answer_len": "max_answer_len",
    "align_to_words": "align_to_words",
    "max_seq_len": "max_seq_len",
    "doc_stride": "overlap",
    "handle_impossible_answer": "no_answer",
}
QUESTIONS = ["Who was the president?", "war", "What is the balance in the Treasury, and who said so?", "[SEP]?"]
TEXTS = mixed_texts(40)


@pytest.fixture(scope="module")
def golden_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return golden.write_checkpoint(tmp_path_factory.mktemp("golden"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with 48 positions. Most texts have several windows."""
    vocab = list(corpus_vocabulary())
    return make_checkpoint(
        tmp_path_factory.mktemp("qa"), head="question-answering", positions=48, layers=1, vocab=vocab
    )


def ask(folder: Path, texts: list[str], questions: list[str] | None = None, **options: Any) -> pa.Table:
    """Ask QUESTIONS of every text, or one question of each text. questions: one for each text, or None."""
    if questions is None:
        return answers(QuestionAnswering(model=str(folder), questions=QUESTIONS, **options), texts)
    return answers(QuestionAnswering(model=str(folder), question_column="q", **options), texts, q=questions)


def answers_of(table: pa.Table) -> list[list[dict[str, Any]]]:
    return table["answers"].to_pylist()


def assert_same(actual: list[list[dict[str, Any]]], expected: list[list[dict[str, Any]]]) -> None:
    """Assert scores within the tolerance, and equality of all other fields."""
    for answer, expected_answers in zip(actual, expected, strict=True):
        for name in ("question", "start", "end", "text"):
            assert [entry[name] for entry in answer] == [entry[name] for entry in expected_answers]
        assert [entry["score"] for entry in answer] == pytest.approx(
            [entry["score"] for entry in expected_answers], abs=SCORE_GATE
        )


# against Transformers 4.57


@pytest.mark.parametrize("group", golden.load()[0], ids=lambda group: "-".join(map(str, group.options.values())))
def test_answers_equal_those_of_transformers_4_57(golden_folder: Path, group: golden.Group) -> None:
    """Compare 279 questions. A third of them are about documents of several windows."""
    options = {OPTIONS[name]: value for name, value in group.options.items()}
    texts, questions = [row.text for row in group.rows], [row.question for row in group.rows]
    table = ask(golden_folder, texts, questions, compat="hf", **options)
    assert reasons(table) == [None] * len(texts)
    for row, answer in zip(group.rows, answers_of(table), strict=True):
        # if a window has too few spans, Transformers adds others of probability 0
        expected = [(int(start), int(end), score) for score, start, end in row.answers if score > 0]
        assert [(entry["start"], entry["end"]) for entry in answer] == [(start, end) for start, end, _ in expected]
        assert [entry["score"] for entry in answer] == pytest.approx(
            [s for *_, s in expected], abs=SCORE_GATE, rel=1e-4
        )
        assert [entry["text"] for entry in answer] == [row.text[start:end] for start, end, _ in expected]
        assert {entry["question"] for entry in answer} <= {row.question}


# the default rules


@torch.inference_mode()
def best_spans(
    model: transformers.PreTrainedModel, tokenizer: Tokenizer, text: str, question: str, top_k: int, null: bool
) -> list[tuple[int, int, float]]:
    """Return (start, end, score) of the best spans, from a loop over all windows and spans.

    A span is widened to whole words, and its logit is the sum of its start and end logits. A place keeps its best span.
    """
    tokens, question_ids = tokenizer([text]), tokenizer([question]).input_ids.tolist()
    capacity = tokenizer.max_length - 3 - len(question_ids)
    windows = split_into_windows(tokens.offsets, tokens.word_ids, capacity, capacity // 2, min_windows=1)
    best: dict[tuple[int, int], float] = {}
    nulls = []
    for first, last in zip(windows.start, windows.end, strict=True):
        ids = [
            tokenizer.specials.cls_id,
            *question_ids,
            tokenizer.specials.sep_id,
            *tokens.input_ids[first:last].tolist(),
        ]
        out = model(torch.tensor([[*ids, tokenizer.specials.sep_id]]))
        start, end = (logits[0].tolist() for logits in (out.start_logits, out.end_logits))
        nulls.append(start[0] + end[0])
        shift = len(question_ids) + 2 - first  # the offset of a token in the input of the model
        for i in range(first, last):
            for j in range(i, min(last, i + 15)):
                span_start = tokens.start[tokens.word_ids == tokens.word_ids[i]].min()
                span_end = tokens.end[tokens.word_ids == tokens.word_ids[j]].max()
                logit = start[shift + i] + end[shift + j]
                best[span_start, span_end] = max(logit, best.get((span_start, span_end), -np.inf))
    ranked = sorted(((logit, *span) for span, logit in best.items()), key=lambda span: -span[0])[: max(20, top_k)]
    if null:
        ranked = sorted([*ranked, (min(nulls), 0, 0)], key=lambda span: -span[0])
    total = sum(np.exp(logit) for logit, *_ in ranked)
    return [(int(start), int(end), float(np.exp(logit) / total)) for logit, start, end in ranked[:top_k]]


@pytest.mark.parametrize("options", [{}, {"top_k": 4, "no_answer": True}], ids=["best", "several"])
def test_equals_a_loop_over_all_spans(folder: Path, options: dict[str, Any]) -> None:
    texts = [*TEXTS[::6], passage(3, 120), "", passage(40, 70)]
    questions = [QUESTIONS[i % 4] for i in range(len(texts))]
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = Tokenizer(Checkpoint(str(folder)))
    for text, question, answer in zip(
        texts, questions, answers_of(ask(folder, texts, questions, **options)), strict=True
    ):
        top_k, null = options.get("top_k", 1), options.get("no_answer", False)
        expected = best_spans(model, tokenizer, text, question, top_k, null)
        assert [(entry["start"], entry["end"]) for entry in answer] == [(start, end) for start, end, _ in expected]
        assert [entry["score"] for entry in answer] == pytest.approx([score for *_, score in expected], abs=SCORE_GATE)


@pytest.mark.parametrize("compat", [None, "hf"])
def test_several_questions_have_the_answers_of_single_questions(folder: Path, compat: str | None) -> None:
    """Questions of one task equal single questions from a column. A repeated question is answered twice."""
    texts, options = ["", *TEXTS[::6], passage(7, 300), ""], {"top_k": 2, "no_answer": True, "compat": compat}
    options |= {"overlap": 8} if compat else {}
    questions = [*QUESTIONS, QUESTIONS[0]]
    table = answers(QuestionAnswering(model=str(folder), questions=questions, **options), texts)
    alone = [answers_of(ask(folder, texts, [question] * len(texts), **options)) for question in QUESTIONS]
    expected_answers = [[entry for answer in (*row, row[0]) for entry in answer] for row in zip(*alone, strict=True)]
    assert_same(answers_of(table), expected_answers)


@pytest.mark.parametrize("options", [{}, {"compat": "hf", "overlap": 5}, {"align_to_words": False}], ids=str)
def test_an_answer_is_the_text_between_its_start_and_end(folder: Path, options: dict[str, Any]) -> None:
    table = ask(folder, TEXTS, top_k=3, no_answer=True, **options)
    assert reasons(table) == [None] * len(TEXTS)
    for text, answer in zip(TEXTS, answers_of(table), strict=True):
        assert [entry["text"] for entry in answer] == [text[entry["start"] : entry["end"]] for entry in answer]
        assert [entry["question"] for entry in answer] == sorted((e["question"] for e in answer), key=QUESTIONS.index)
        assert {entry["question"] for entry in answer} == set(QUESTIONS)


def test_the_overlap_does_not_change_the_answers_to_short_documents(folder: Path) -> None:
    texts = [text for text in TEXTS if len(text) < 60]
    assert_same(answers_of(ask(folder, texts, overlap=0)), answers_of(ask(folder, texts)))


def test_the_end_of_a_long_document_is_answered(tmp_path: Path) -> None:
    """The model answers "treasury" to any question."""
    treasury_model = make_word_model(tmp_path, {"treasury": (5, 5)}, head="question-answering", positions=48)
    text = " ".join(word for word in passage(3, 3000).split(" ") if "treasury" not in word.lower()) + " Treasury."
    [[answer]] = answers_of(ask(treasury_model, [text], ["who?"]))
    assert (answer["text"], answer["end"]) == ("Treasury", len(text) - 1)


# dead letters, and rows without words


@pytest.mark.parametrize("compat", [None, "hf"])
def test_only_a_question_that_is_too_long_is_a_dead_letter(folder: Path, compat: str | None) -> None:
    """With compat hf, 24 tokens of overlap must fit as well if the text has several windows."""
    questions = ["who?", "war " * 44, "war " * 45, "war " * 20, "war " * 21, "war " * 600]
    texts = ["lincoln met mary", "war", "war", "war", "war " * 25, "war"]
    table = ask(folder, texts, questions, compat=compat)
    dead = "question_too_long"
    assert reasons(table) == [None, None, dead, None, dead if compat else None, dead]
    assert "windows of 48 tokens" in table["_message"][2].as_py()
    answered = [i for i, reason in enumerate(reasons(table)) if reason is None]
    expected_table = ask(folder, [texts[i] for i in answered], [questions[i] for i in answered], compat=compat)
    assert_same(table["answers"].take(answered).to_pylist(), answers_of(expected_table))


@pytest.mark.parametrize("compat", [None, "hf"])
def test_texts_without_words_have_no_answer(folder: Path, compat: str | None) -> None:
    texts = ["", "lincoln", " \n", "\u200b", ""]
    table = ask(folder, texts, ["war"] * 5, compat=compat, overlap=8)
    assert reasons(table) == [None] * 5
    assert [[entry["text"] for entry in answer] for answer in answers_of(table)] == [[], ["lincoln"], [], [], []]
    table = ask(folder, texts, ["war"] * 5, compat=compat, overlap=8, no_answer=True, top_k=2)
    expected_answers = [[""], ["", "lincoln"], [""], [""], [""]]
    assert [sorted(entry["text"] for entry in answer) for answer in answers_of(table)] == expected_answers
    for i in (0, 2, 3, 4):
        assert (answers_of(table)[i][0]["start"], answers_of(table)[i][0]["end"]) == (0, 0)


def test_a_null_question_is_a_dead_letter(tmp_path: Path, folder: Path) -> None:
    task = QuestionAnswering(model=str(folder), question_column="asked")
    table = read_answers(tmp_path, task, ["lincoln", "peace", None, "war"], asked=["who?", None, "who?", "why?"])
    assert reasons(table) == [None, "null_text", "null_text", None]
    assert table["_message"][1].as_py() == "column asked is null"
    assert_same(
        table["answers"].take([0, 3]).to_pylist(), answers_of(ask(folder, ["lincoln", "war"], ["who?", "why?"]))
    )


def test_no_rows_give_no_answers(folder: Path) -> None:
    assert answers_of(ask(folder, [])) == []
    assert answers_of(ask(folder, [], [], compat="hf", overlap=8)) == []


# options that do not fit


def test_unsuitable_models_and_options_are_an_error(folder: Path, tmp_path: Path) -> None:
    three = make_checkpoint(tmp_path, ("a", "b", "c"), layers=1)
    assert_rejected(QuestionAnswering(model=str(three), questions=["who?"]), "expected 2 labels, start and end, got 3")
    model = str(folder)
    assert_rejected(
        QuestionAnswering(model=model, questions=["who?"], max_seq_len=49), "the model holds 48 tokens, got 49"
    )
    assert_rejected(
        QuestionAnswering(model=model, questions=["who?", "war " * 45]), "windows of 48 tokens leave 0 for the text"
    )
    assert_rejected(
        QuestionAnswering(model=model, questions=["war"], overlap=23), "leave 44 .* too few for an overlap of 23"
    )
    assert_rejected(
        QuestionAnswering(model=model, questions=["war " * 21], compat="hf"), "leave 24 .* for an overlap of 24"
    )
    assert_rejected(QuestionAnswering(model=model, question_column="q", max_seq_len=3), "leave 0 for the text")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give either questions, asked of every text, or question_column"),
        ({"questions": ["a"], "question_column": "q"}, "give either questions"),
        ({"questions": ["a", " "]}, "a question must not be empty"),
        ({"questions": []}, "questions"),
        ({"questions": ["a"], "null_threshold": 1.0}, "null_threshold needs no_answer"),
        (
            {"questions": ["a"], "null_threshold": 1.0, "no_answer": True, "compat": "hf"},
            "compat hf does not support it",
        ),
        ({"questions": ["a"], "top_k": 0}, "top_k"),
    ],
)
def test_contradictory_options_are_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuestionAnswering(model="m", **options)
