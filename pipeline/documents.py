"""Answered rows as a person wants to see them: the text, the spans in it, and what else the tasks say."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.operators import schema as s
from distilray.operators.guard import FAILURES
from distilray.operators.read import Unit
from distilray.operators.task import Task, truncated_column
from distilray.operators.tasks import (
    Embeddings,
    FillMask,
    MultipleChoice,
    QuestionAnswering,
    TokenClassification,
)
from distilray.pipeline.commit import Output
from distilray.pipeline.heads import read_head
from distilray.pipeline.highlight import Span
from distilray.pipeline.plan import Plan
from distilray.pipeline.sample import sample_rows, spread

_REACH = 50  # rows of a unit that are looked at for answered ones


@dataclass(frozen=True)
class Line:
    """One answer. about: what was asked, or ""; score: of the answer, or None."""

    about: str
    answer: str
    score: float | None = None


@dataclass(frozen=True)
class Said:
    """What a task says of a row beside the spans it marks. truncated: it did not read all of the text."""

    task: str
    lines: tuple[Line, ...]
    truncated: bool


@dataclass(frozen=True)
class Document:
    """An answered row."""

    shard: str
    row: int
    text: str
    spans: tuple[Span, ...]
    said: tuple[Said, ...]

    @property
    def address(self) -> str:
        """Short, for a person who knows the corpus."""
        return f"{'/'.join(self.shard.split('/')[-2:])} row {self.row}"


def labels_of(documents: Sequence[Document]) -> dict[str, int]:
    """A number for each label of their spans, for colours."""
    labels = sorted({span.label for document in documents for span in document.spans})
    return {label: number for number, label in enumerate(labels)}


def sample_heads(output: Output, units: Sequence[Unit], tasks: Sequence[Task], count: int) -> dict[Unit, pa.Table]:
    """Answers that `sample_documents` needs for `count` documents, spread over the committed `units`.

    Units in which a row brought its worker down are left out: reading them might do the same here. Raises StoreError or
    JobError if the output cannot be read.
    """
    columns = [s.ROW, *(task.name for task in tasks), *(truncated_column(task) for task in tasks if task.truncates)]
    return safe_heads(output, spread(units, count), columns, _REACH)


def sample_documents(heads: Mapping[Unit, pa.Table], plan: Plan, tasks: Sequence[Task], count: int) -> list[Document]:
    """About `count` answered rows of `sample_heads`, with their texts from the corpus.

    Raises StoreError, JobError or ShardError if the corpus cannot be read.
    """
    texts = sample_rows(plan, list(heads), _REACH)
    each = math.ceil(count / max(len(heads), 1))
    found = [_documents(rows, read, tasks, each) for rows, read in zip(heads.values(), texts, strict=True)]
    return [document for some in found for document in some][:count]


def safe_heads(output: Output, units: Sequence[Unit], columns: Sequence[str], rows: int) -> dict[Unit, pa.Table]:
    """The first rows of the units that have any, and no row that brought its worker down."""
    heads = {unit: read_head(output, unit, columns, rows) for unit in units}
    return {
        unit: head.rows
        for unit, head in heads.items()
        if head.rows.num_rows and not set(FAILURES) & head.stats.dead.keys()
    }


def _documents(answers: pa.Table, read: pa.Table, tasks: Sequence[Task], most: int) -> list[Document]:
    """The first answered rows among those that were read."""
    answers = answers.filter(pc.is_in(answers[s.ROW], value_set=read[s.ROW].combine_chunks())).slice(0, most)
    read = read.filter(pc.is_in(read[s.ROW], value_set=answers[s.ROW].combine_chunks()))
    return list(documents(answers, read, tasks))


def documents(answers: pa.Table, read: pa.Table, tasks: Sequence[Task]) -> Iterator[Document]:
    """Each row of `answers` with the same row of `read`, which has the text and what else the tasks read."""
    inputs = [name for name in read.column_names if name.startswith(s.INPUT_PREFIX)]
    rows = read.select([s.SHARD, s.ROW, s.TEXT, *inputs]).to_pylist()
    for said, row in zip(answers.to_pylist(), rows, strict=True):
        yield _document(said, row, tasks)


def _document(said: Mapping[str, Any], row: Mapping[str, Any], tasks: Sequence[Task]) -> Document:
    spans: list[Span] = []
    rest = []
    for task in tasks:
        marked, lines = _read(task, said[task.name], row)
        spans += marked
        rest.append(Said(task.name, tuple(lines), bool(task.truncates and said[truncated_column(task)])))
    return Document(row[s.SHARD], row[s.ROW], row[s.TEXT], tuple(spans), tuple(rest))


def _read(task: Task, answer: Any, row: Mapping[str, Any]) -> tuple[list[Span], list[Line]]:
    """What a task's answer marks in the text, and what else it says."""
    match task:
        case TokenClassification():
            spans = [Span(each["start"], each["end"], each["label"], each["score"]) for each in answer]
            return spans, [] if spans else [Line("", "nothing found")]
        case QuestionAnswering():
            return _answers(answer)
        case FillMask():
            lines = [Line(f"mask {each['mask'] + 1}", each["token"], each["score"]) for each in answer]
            return [_span(each, each["token"]) for each in _firsts(answer, "mask")], lines
        case MultipleChoice():
            choices = row[s.input_column(task.choices)]
            about = ["chosen" if i == answer["index"] else "" for i in range(len(choices))]
            return [], [Line(*line) for line in zip(about, choices, answer["scores"], strict=True)]
        case Embeddings():
            norm = np.linalg.norm(np.array(answer, dtype=np.float64))
            return [], [Line("", f"{len(answer)} components, length {norm:.4g}")]
        case _:
            labels = answer if isinstance(answer, list) else [answer]
            return [], [Line("", each["label"], each["score"]) for each in labels] or [Line("", "no label")]


def _answers(answers: Sequence[Mapping[str, Any]]) -> tuple[list[Span], list[Line]]:
    """Of questions: the best answer of each is marked, if it is not that there is none."""
    best = _firsts(answers, "question")
    number = {each["question"]: i for i, each in enumerate(best, start=1)}
    spans = [_span(each, f"answer {number[each['question']]}") for each in best if each["end"] > each["start"]]
    lines = [
        Line(f"{number[each['question']]}. {each['question']}", each["text"] or "no answer", each["score"])
        for each in answers
    ]
    return spans, lines


def _span(each: Mapping[str, Any], label: str) -> Span:
    return Span(each["start"], each["end"], label, each["score"])


def _firsts(answers: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """The first of each run of answers to one question, or for one mask."""
    return [each for i, each in enumerate(answers) if not i or answers[i - 1][key] != each[key]]
