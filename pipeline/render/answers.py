"""Answered rows as a person wants to see them: the text, the spans in it, and what else the tasks say."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from distilray.operators.rows import schema as s
from distilray.operators.rows.reasons import FAILURES
from distilray.operators.rows.unit import Unit
from distilray.operators.tasks.task import Line, Span, Task
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.planning.sample_rows import sample_rows, spread_units
from distilray.pipeline.sink.first_rows import read_first_rows
from distilray.pipeline.sink.output import Output

_REACH = 50  # rows of a unit that are looked at for answered ones


@dataclass(frozen=True)
class RenderedAnswer:
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
    said: tuple[RenderedAnswer, ...]

    @property
    def address(self) -> str:
        """Short, for a person who knows the corpus."""
        return f"{'/'.join(self.shard.split('/')[-2:])} row {self.row}"


def labels_of(documents: Sequence[Document]) -> dict[str, int]:
    """A number for each label of their spans, for colours."""
    labels = sorted({span.label for document in documents for span in document.spans})
    return {label: number for number, label in enumerate(labels)}


def sample_answers(output: Output, units: Sequence[Unit], tasks: Sequence[Task], count: int) -> dict[Unit, pa.Table]:
    """Answers that `sample_documents` needs for `count` documents, spread over the committed `units`.

    Units in which a row brought its worker down are left out: reading them might do the same here. Raises StoreError or
    JobError if the output cannot be read.
    """
    columns = [s.ROW, *(task.name for task in tasks), *(task.truncated_column for task in tasks if task.truncates)]
    return safe_first_rows(output, spread_units(units, count), columns, _REACH)


def sample_documents(heads: Mapping[Unit, pa.Table], plan: Plan, tasks: Sequence[Task], count: int) -> list[Document]:
    """About `count` answered rows of `sample_heads`, with their texts from the corpus.

    Raises StoreError, JobError or ShardError if the corpus cannot be read.
    """
    texts = sample_rows(plan, list(heads), _REACH)
    each = math.ceil(count / max(len(heads), 1))
    found = [_documents(rows, read, tasks, each) for rows, read in zip(heads.values(), texts, strict=True)]
    return [document for some in found for document in some][:count]


def safe_first_rows(output: Output, units: Sequence[Unit], columns: Sequence[str], rows: int) -> dict[Unit, pa.Table]:
    """The first rows of the units that have any, and no row that brought its worker down."""
    heads = {unit: read_first_rows(output, unit, columns, rows) for unit in units}
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
        rendering = task.render(said[task.name], row)
        spans += rendering.spans
        truncated = bool(task.truncates and said[task.truncated_column])
        rest.append(RenderedAnswer(task.name, tuple(rendering.lines), truncated))
    return Document(row[s.SHARD], row[s.ROW], row[s.TEXT], tuple(spans), tuple(rest))
