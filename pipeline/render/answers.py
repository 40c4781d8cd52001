"""Answered rows in readable form: the text, the spans in it, and the rendered answers of each task."""

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

_ROWS_READ = 50  # of each unit, to find answered rows


@dataclass(frozen=True)
class RenderedAnswer:
    """The answer of a task as lines of text, without its spans.

    truncated: whether the task read only a part of the text.
    """

    task: str
    lines: tuple[Line, ...]
    truncated: bool


@dataclass(frozen=True)
class Document:
    """An answered row. spans: the spans of all tasks. answers: one for each task."""

    shard: str
    row: int
    text: str
    spans: tuple[Span, ...]
    answers: tuple[RenderedAnswer, ...]

    @property
    def address(self) -> str:
        """A short address of the row: the last two parts of the shard's path, and the row number."""
        return f"{'/'.join(self.shard.split('/')[-2:])} row {self.row}"


def labels_of(documents: Sequence[Document]) -> dict[str, int]:
    """Number the labels of all spans in alphabetical order. The numbers select colours."""
    labels = sorted({span.label for document in documents for span in document.spans})
    return {label: number for number, label in enumerate(labels)}


def sample_answers(output: Output, units: Sequence[Unit], tasks: Sequence[Task], count: int) -> dict[Unit, pa.Table]:
    """Read the answers that `sample_documents` needs for `count` documents, spread over the committed `units`.

    Units in which a row ended its worker are left out, because such a row could end this process too. Raises StoreError
    or JobError if the output cannot be read.
    """
    columns = [s.ROW, *(task.name for task in tasks), *(task.truncated_column for task in tasks if task.truncates)]
    return safe_first_rows(output, spread_units(units, count), columns, _ROWS_READ)


def sample_documents(
    first_rows: Mapping[Unit, pa.Table], plan: Plan, tasks: Sequence[Task], count: int
) -> list[Document]:
    """Return about `count` answered rows with their texts, which are read from the corpus.

    first_rows: the result of `sample_answers`. Raises StoreError, JobError or ShardError if the corpus cannot be read.
    """
    texts = sample_rows(plan, list(first_rows), _ROWS_READ)
    per_unit = math.ceil(count / max(len(first_rows), 1))
    documents = [
        document
        for answers, source_rows in zip(first_rows.values(), texts, strict=True)
        for document in _render_first_rows(answers, source_rows, tasks, per_unit)
    ]
    return documents[:count]


def safe_first_rows(output: Output, units: Sequence[Unit], columns: Sequence[str], rows: int) -> dict[Unit, pa.Table]:
    """Read the first rows of units. Units without rows, and units in which a row ended its worker, are left out."""
    first_rows = {unit: read_first_rows(output, unit, columns, rows) for unit in units}
    return {
        unit: first.rows
        for unit, first in first_rows.items()
        if first.rows.num_rows and not set(FAILURES) & first.stats.dead.keys()
    }


def _render_first_rows(answers: pa.Table, source_rows: pa.Table, tasks: Sequence[Task], count: int) -> list[Document]:
    """Render the first `count` answered rows that are also in `source_rows`."""
    answers = answers.filter(pc.is_in(answers[s.ROW], value_set=source_rows[s.ROW].combine_chunks())).slice(0, count)
    source_rows = source_rows.filter(pc.is_in(source_rows[s.ROW], value_set=answers[s.ROW].combine_chunks()))
    return list(render_documents(answers, source_rows, tasks))


def render_documents(answers: pa.Table, source_rows: pa.Table, tasks: Sequence[Task]) -> Iterator[Document]:
    """Render each row of `answers`.

    source_rows: the same rows, with their text and the other columns that the tasks read.
    """
    inputs = [name for name in source_rows.column_names if name.startswith(s.INPUT_PREFIX)]
    rows = source_rows.select([s.SHARD, s.ROW, s.TEXT, *inputs]).to_pylist()
    for answer, row in zip(answers.to_pylist(), rows, strict=True):
        yield _render_document(answer, row, tasks)


def _render_document(answer: Mapping[str, Any], row: Mapping[str, Any], tasks: Sequence[Task]) -> Document:
    spans: list[Span] = []
    rendered_answers = []
    for task in tasks:
        rendering = task.render(answer[task.name], row)
        spans += rendering.spans
        truncated = bool(task.truncates and answer[task.truncated_column])
        rendered_answers.append(RenderedAnswer(task.name, tuple(rendering.lines), truncated))
    return Document(row[s.SHARD], row[s.ROW], row[s.TEXT], tuple(spans), tuple(rendered_answers))
