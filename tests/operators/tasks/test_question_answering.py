"""Question answering from text to answers: Transformers 4.57's own, and by our rules what a loop over all spans gives."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.windows import split
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.tasks import QuestionAnswering
from tests.golden import question_answering as golden
from tests.operators.harness import answers, read_answers, reasons, refused
from tests.operators.material import SCORE_GATE, corpus_vocabulary, mixed_texts, passage
from tests.operators.tasks.worded import make_worded
from tests.support import make_checkpoint

# what the pipeline calls our options
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
    """A model of 48 tokens: most texts have several windows."""
    vocab = list(corpus_vocabulary())
    return make_checkpoint(
        tmp_path_factory.mktemp("qa"), head="question-answering", positions=48, layers=1, vocab=vocab
    )


def ask(folder: Path, texts: list[str], questions: list[str] | None = None, **options: Any) -> pa.Table:
    """`questions` asked of every text, or each text's own."""
    if questions is None:
        return answers(QuestionAnswering(model=str(folder), questions=QUESTIONS, **options), texts)
    return answers(QuestionAnswering(model=str(folder), question_column="q", **options), texts, q=questions)


def found(table: pa.Table) -> list[list[dict[str, Any]]]:
    return table["answers"].to_pylist()


def assert_same(ours: list[list[dict[str, Any]]], theirs: list[list[dict[str, Any]]]) -> None:
    """Scores to the gate, all else equal."""
    for mine, wanted in zip(ours, theirs, strict=True):
        for name in ("question", "start", "end", "text"):
            assert [each[name] for each in mine] == [each[name] for each in wanted]
        assert [each["score"] for each in mine] == pytest.approx([each["score"] for each in wanted], abs=SCORE_GATE)


# against Transformers 4.57


@pytest.mark.parametrize("group", golden.load()[0], ids=lambda group: "-".join(map(str, group.options.values())))
def test_from_text_to_answers_as_transformers_4_57(golden_folder: Path, group: golden.Group) -> None:
    """279 questions, a third of them of documents in several windows; the options are those of the group."""
    options = {OPTIONS[name]: value for name, value in group.options.items()}
    texts, questions = [row.text for row in group.rows], [row.question for row in group.rows]
    table = ask(golden_folder, texts, questions, compat="hf", **options)
    assert reasons(table) == [None] * len(texts)
    for row, mine in zip(group.rows, found(table), strict=True):
        # where a window has too few spans Transformers fills up with others, of probability 0
        theirs = [(int(start), int(end), score) for score, start, end in row.answers if score > 0]
        assert [(each["start"], each["end"]) for each in mine] == [(start, end) for start, end, _ in theirs]
        assert [each["score"] for each in mine] == pytest.approx([s for *_, s in theirs], abs=SCORE_GATE, rel=1e-4)
        assert [each["text"] for each in mine] == [row.text[start:end] for start, end, _ in theirs]
        assert {each["question"] for each in mine} <= {row.question}


# our own rules


@torch.inference_mode()
def looped(
    model: transformers.PreTrainedModel, tokenizer: Tokenizer, text: str, question: str, top_k: int, null: bool
) -> list[tuple[int, int, float]]:
    """(start, end, score) from a loop over all windows and spans: logits added, widened to words, the best of each place."""
    tokens, asked = tokenizer([text]), tokenizer([question]).input_ids.tolist()
    room = tokenizer.max_length - 3 - len(asked)
    windows = split(tokens.offsets, tokens.word_ids, room, room // 2, min_windows=1)
    best: dict[tuple[int, int], float] = {}
    nulls = []
    for first, last in zip(windows.start, windows.end, strict=True):
        ids = [tokenizer.specials.cls_id, *asked, tokenizer.specials.sep_id, *tokens.input_ids[first:last].tolist()]
        out = model(torch.tensor([[*ids, tokenizer.specials.sep_id]]))
        start, end = (logits[0].tolist() for logits in (out.start_logits, out.end_logits))
        nulls.append(start[0] + end[0])
        before = len(asked) + 2 - first  # of a token's place in the model's input
        for i in range(first, last):
            for j in range(i, min(last, i + 15)):
                opens = tokens.start[tokens.word_ids == tokens.word_ids[i]].min()
                closes = tokens.end[tokens.word_ids == tokens.word_ids[j]].max()
                worth = start[before + i] + end[before + j]
                best[opens, closes] = max(worth, best.get((opens, closes), -np.inf))
    ranked = sorted(((worth, *span) for span, worth in best.items()), key=lambda each: -each[0])[: max(20, top_k)]
    if null:
        ranked = sorted([*ranked, (min(nulls), 0, 0)], key=lambda each: -each[0])
    total = sum(np.exp(worth) for worth, *_ in ranked)
    return [(int(start), int(end), float(np.exp(worth) / total)) for worth, start, end in ranked[:top_k]]


@pytest.mark.parametrize("options", [{}, {"top_k": 4, "no_answer": True}], ids=["best", "several"])
def test_equals_a_loop_over_all_spans(folder: Path, options: dict[str, Any]) -> None:
    texts = [*TEXTS[::6], passage(3, 120), "", passage(40, 70)]
    questions = [QUESTIONS[i % 4] for i in range(len(texts))]
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = Tokenizer(Checkpoint(str(folder)))
    for text, question, mine in zip(texts, questions, found(ask(folder, texts, questions, **options)), strict=True):
        top_k, null = options.get("top_k", 1), options.get("no_answer", False)
        theirs = looped(model, tokenizer, text, question, top_k, null)
        assert [(each["start"], each["end"]) for each in mine] == [(start, end) for start, end, _ in theirs]
        assert [each["score"] for each in mine] == pytest.approx([score for *_, score in theirs], abs=SCORE_GATE)


@pytest.mark.parametrize("compat", [None, "hf"])
def test_several_questions_are_answered_as_one_at_a_time(folder: Path, compat: str | None) -> None:
    """Asked of every text in one task, alone, or from a column; the same question twice is answered twice."""
    texts, options = ["", *TEXTS[::6], passage(7, 300), ""], {"top_k": 2, "no_answer": True, "compat": compat}
    options |= {"overlap": 8} if compat else {}
    questions = [*QUESTIONS, QUESTIONS[0]]
    table = answers(QuestionAnswering(model=str(folder), questions=questions, **options), texts)
    alone = [found(ask(folder, texts, [question] * len(texts), **options)) for question in QUESTIONS]
    wanted = [[each for answer in (*row, row[0]) for each in answer] for row in zip(*alone, strict=True)]
    assert_same(found(table), wanted)


@pytest.mark.parametrize("options", [{}, {"compat": "hf", "overlap": 5}, {"align_to_words": False}], ids=str)
def test_an_answer_is_the_text_between_its_start_and_end(folder: Path, options: dict[str, Any]) -> None:
    table = ask(folder, TEXTS, top_k=3, no_answer=True, **options)
    assert reasons(table) == [None] * len(TEXTS)
    for text, mine in zip(TEXTS, found(table), strict=True):
        assert [each["text"] for each in mine] == [text[each["start"] : each["end"]] for each in mine]
        assert [each["question"] for each in mine] == sorted((e["question"] for e in mine), key=QUESTIONS.index)
        assert {each["question"] for each in mine} == set(QUESTIONS)


def test_a_document_of_one_window_is_answered_alike_with_any_overlap(folder: Path) -> None:
    texts = [text for text in TEXTS if len(text) < 60]
    assert_same(found(ask(folder, texts, overlap=0)), found(ask(folder, texts)))


def test_the_end_of_a_long_document_is_read(tmp_path: Path) -> None:
    """A model that wants "treasury", whatever was asked."""
    wants = make_worded(tmp_path, {"treasury": (5, 5)}, head="question-answering", positions=48)
    text = " ".join(word for word in passage(3, 3000).split(" ") if "treasury" not in word.lower()) + " Treasury."
    [[answer]] = found(ask(wants, [text], ["who?"]))
    assert (answer["text"], answer["end"]) == ("Treasury", len(text) - 1)


# dead letters, and rows without words


@pytest.mark.parametrize("compat", [None, "hf"])
def test_a_question_too_long_is_a_dead_letter_and_the_others_are_answered(folder: Path, compat: str | None) -> None:
    """By Transformers' rules 24 tokens of overlap must fit too, if the text has several windows."""
    questions = ["who?", "war " * 44, "war " * 45, "war " * 20, "war " * 21, "war " * 600]
    texts = ["lincoln met mary", "war", "war", "war", "war " * 25, "war"]
    table = ask(folder, texts, questions, compat=compat)
    dead = "question_too_long"
    assert reasons(table) == [None, None, dead, None, dead if compat else None, dead]
    assert "windows of 48 tokens" in table["_message"][2].as_py()
    alive = [i for i, reason in enumerate(reasons(table)) if reason is None]
    some = ask(folder, [texts[i] for i in alive], [questions[i] for i in alive], compat=compat)
    assert_same(table["answers"].take(alive).to_pylist(), found(some))


@pytest.mark.parametrize("compat", [None, "hf"])
def test_texts_without_words_have_no_answer(folder: Path, compat: str | None) -> None:
    texts = ["", "lincoln", " \n", "\u200b", ""]
    table = ask(folder, texts, ["war"] * 5, compat=compat, overlap=8)
    assert reasons(table) == [None] * 5
    assert [[each["text"] for each in answer] for answer in found(table)] == [[], ["lincoln"], [], [], []]
    table = ask(folder, texts, ["war"] * 5, compat=compat, overlap=8, no_answer=True, top_k=2)
    wanted = [[""], ["", "lincoln"], [""], [""], [""]]
    assert [sorted(each["text"] for each in answer) for answer in found(table)] == wanted
    for i in (0, 2, 3, 4):
        assert (found(table)[i][0]["start"], found(table)[i][0]["end"]) == (0, 0)


def test_a_null_question_is_a_dead_letter(tmp_path: Path, folder: Path) -> None:
    task = QuestionAnswering(model=str(folder), question_column="asked")
    table = read_answers(tmp_path, task, ["lincoln", "peace", None, "war"], asked=["who?", None, "who?", "why?"])
    assert reasons(table) == [None, "null_text", "null_text", None]
    assert table["_message"][1].as_py() == "column asked is null"
    assert_same(table["answers"].take([0, 3]).to_pylist(), found(ask(folder, ["lincoln", "war"], ["who?", "why?"])))


def test_no_rows_have_no_answers(folder: Path) -> None:
    assert found(ask(folder, [])) == []
    assert found(ask(folder, [], [], compat="hf", overlap=8)) == []


# options that do not fit


def test_models_and_options_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    three = make_checkpoint(tmp_path, ("a", "b", "c"), layers=1)
    refused(QuestionAnswering(model=str(three), questions=["who?"]), "expected 2 labels, start and end, got 3")
    model = str(folder)
    refused(QuestionAnswering(model=model, questions=["who?"], max_seq_len=49), "the model holds 48 tokens, got 49")
    refused(
        QuestionAnswering(model=model, questions=["who?", "war " * 45]), "windows of 48 tokens leave 0 for the text"
    )
    refused(QuestionAnswering(model=model, questions=["war"], overlap=23), "leave 44 .* too few for an overlap of 23")
    refused(QuestionAnswering(model=model, questions=["war " * 21], compat="hf"), "leave 24 .* for an overlap of 24")
    refused(QuestionAnswering(model=model, question_column="q", max_seq_len=3), "leave 0 for the text")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "give either questions, asked of every text, or question_column"),
        ({"questions": ["a"], "question_column": "q"}, "give either questions"),
        ({"questions": ["a", " "]}, "a question must not be empty"),
        ({"questions": []}, "questions"),
        ({"questions": ["a"], "null_threshold": 1.0}, "null_threshold: only with no_answer"),
        (
            {"questions": ["a"], "null_threshold": 1.0, "no_answer": True, "compat": "hf"},
            "not one of Transformers' rules",
        ),
        ({"questions": ["a"], "top_k": 0}, "top_k"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        QuestionAnswering(model="m", **options)
