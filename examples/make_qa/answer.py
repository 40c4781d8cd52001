"""Answers of the model and their scores."""

import json
import re
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
from pyarrow.json import read_json
from shared import EXAMPLES
from transformers import AutoModelForQuestionAnswering, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

MODEL, GOLD = EXAMPLES / "models" / "qa", EXAMPLES / "questions.jsonl"
WINDOW, OVERLAP, LONGEST = 256, 96, 15  # pieces: of a window, of two windows together, of an answer


class GoldQuestion(NamedTuple):
    """A question on a text, and its right answers. The list is empty if the text has no answer."""

    question: str
    context: str
    answers: list[str]


def answer(question: GoldQuestion, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[str, float]:
    """Find the best span of all windows.

    Return its text, and the difference between its score (start logit + end logit) and the score of no answer.
    """
    encoding = tokenizer(
        question.question,
        question.context,
        truncation="only_second",
        max_length=WINDOW,
        stride=OVERLAP,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    best, no_answer_score, span = -torch.inf, torch.inf, (0, 0)
    for i, ids in enumerate(encoding["input_ids"]):
        with torch.no_grad():
            out = model(input_ids=torch.tensor([ids]))
        start, end = out.start_logits[0], out.end_logits[0]
        no_answer_score = min(no_answer_score, float(start[0] + end[0]))
        inside = torch.tensor([s == 1 for s in encoding.sequence_ids(i)])
        scores = start[:, None] + end[None, :]
        scores[~(inside[:, None] & inside[None, :])] = -torch.inf
        ones = torch.ones_like(scores, dtype=torch.bool)
        scores[~(ones.triu() & ones.tril(LONGEST - 1))] = -torch.inf
        if float(scores.max()) > best:
            best = float(scores.max())
            first, last = divmod(int(scores.argmax()), len(ids))
            span = encoding["offset_mapping"][i][first][0], encoding["offset_mapping"][i][last][1]
    return question.context[slice(*span)], best - no_answer_score


def words(text: str) -> list[str]:
    """Split a text as SQuAD does: lower-case words without punctuation and articles."""
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(predicted: str, gold: str) -> float:
    """Compute F1 over words. Two empty texts agree."""
    a, b = words(predicted), words(gold)
    common = (Counter(a) & Counter(b)).total()
    return 2 * common / (len(a) + len(b)) if a and b else float(a == b)


def score(
    questions: list[GoldQuestion], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, must_answer: bool
) -> str:
    """Compute exact match and F1 as SQuAD 2.0 does.

    must_answer: the model may not give "". Use it for SQuAD 1.1, where every question has an answer.
    """
    exact = total_f1 = empty = 0.0
    for item in questions:
        predicted, margin = answer(item, model, tokenizer)
        predicted = predicted if must_answer or margin > 0 else ""
        empty += predicted == ""
        exact += max(words(predicted) == words(gold) for gold in item.answers or [""])
        total_f1 += max(f1(predicted, gold) for gold in item.answers or [""])
    n = len(questions)
    return (
        f"exact {100 * exact / n:.1f}  F1 {100 * total_f1 / n:.1f}  no answer {100 * empty / n:.0f} %  of {n} questions"
    )


def read_made(path: Path) -> list[GoldQuestion]:
    """Read the questions made by rule."""
    rows = map(json.loads, path.open())
    return [GoldQuestion(r["question"], r["context"], answers_of(r)) for r in rows]


def answers_of(row: dict[str, Any]) -> list[str]:
    """Return a list of the one right answer, or an empty list."""
    return [] if row["start"] is None else [row["context"][row["start"] : row["end"]]]


def read_gold() -> list[GoldQuestion]:
    """Read the questions made by hand."""
    rows = map(json.loads, GOLD.open(encoding="utf-8"))
    return [GoldQuestion(r["question"], r["context"], [a["text"] for a in r["answers"]]) for r in rows]


def write_gold() -> None:
    """Write the questions made by hand as Parquet."""
    GOLD.with_suffix("").mkdir(exist_ok=True)
    pq.write_table(read_json(GOLD), GOLD.with_suffix("") / "part-0.parquet", compression="zstd")


def read_squad(path: Path) -> list[GoldQuestion]:
    """Read a file in the format of SQuAD 1.1 or 2.0."""
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    paragraphs = (p for article in articles for p in article["paragraphs"])
    return [
        GoldQuestion(q["question"], p["context"], [a["text"] for a in q["answers"]])
        for p in paragraphs
        for q in p["qas"]
    ]


def run(work: Path, squad: Iterable[Path]) -> None:
    """Print the scores on the hand-made questions, on those made by rule if WORK has them, and on the SQuAD files."""
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    model = AutoModelForQuestionAnswering.from_pretrained(MODEL, dtype=torch.float32).train(False)
    sets = {"made by hand": read_gold()}
    if (work / "qa-held-out.jsonl").exists():
        sets["made by rule"] = read_made(work / "qa-held-out.jsonl")[::8]
    sets |= {path.name: read_squad(path) for path in squad}
    for name, questions in sets.items():
        answerable = [item for item in questions if item.answers]
        print(f"{name}, all:             {score(questions, model, tokenizer, must_answer=False)}")
        print(f"{name}, with an answer:  {score(answerable, model, tokenizer, must_answer=True)}", flush=True)
