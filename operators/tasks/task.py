"""The base classes of tasks: the options of a task, and the methods that convert a batch to its answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from distilray.model.arrays import Arrays, Bools, Floats, Ints
from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.inference.requests import HeadRequest
from distilray.model.inference.sequences import Sequences
from distilray.model.network.config import Config
from distilray.model.network.names import HeadName
from distilray.model.tokenizer.spec import SpecialTokens
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.errors import TaskError
from distilray.operators.evaluation.gold import Gold
from distilray.operators.rows.batch import Batch
from distilray.operators.rows.schema import TEXTS
from distilray.operators.tasks.options import AnswerColumn, Frozen, Location, StorageOptions

InputKind = Literal["text", "texts"]  # the column holds strings, or lists of strings


@dataclass(frozen=True)
class Span:
    """A labelled part of a text. start, end: positions in characters (code points)."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class Line:
    """One line of a displayed answer. about: its subject, or "". score: the score of the answer, or None."""

    about: str
    answer: str
    score: float | None = None


@dataclass(frozen=True)
class Rendering:
    """The displayed answer of one row. spans: the marks in the text. lines: the lines below the text."""

    spans: Sequence[Span] = ()
    lines: Sequence[Line] = ()


@dataclass(frozen=True)
class Rejection:
    """Rows that a task cannot answer. rows: bool [R]. reason, message: the content of their dead letters."""

    rows: Bools
    reason: str
    message: str


@dataclass(frozen=True)
class Answer:
    """The answers of a batch.

    column: the column of the task. truncated: the rows whose text was truncated, or None if the task truncates no
    texts. rejections: the rows without an answer. counts: the comparison with the gold of the request, see
    model/metrics.
    """

    column: pa.Array
    truncated: Bools | None = None
    rejections: tuple[Rejection, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """The computation that a task needs for a batch.

    sequences: the S sequences to compute. head_request: the outputs to return. rows: int64 [S], the row of each
    sequence. answer: converts the outputs to the answers.
    """

    sequences: Sequences
    head_request: HeadRequest
    rows: Ints
    answer: Callable[[Arrays], Answer]


class Task(Frozen, ABC):
    """The options and methods that all tasks have."""

    model: Annotated[
        Location,
        Field(
            description="The checkpoint: a folder, any fsspec URI such as s3://bucket/model/, or "
            "hf://org/name@revision."
        ),
    ]
    name: AnswerColumn
    storage_options: Annotated[
        StorageOptions,
        Field(
            description="Arguments of the file system of the checkpoint, such as endpoint_url, key, secret or anon. "
            "They appear in no log and no output."
        ),
    ]

    head: ClassVar[HeadName]

    @property
    def special_tokens(self) -> SpecialTokens:
        """The meaning of a literal "[SEP]" in a text."""
        return "text"

    @property
    def truncates(self) -> bool:
        """Whether the task may truncate texts; then the output has a column that marks truncated texts."""
        return False

    @property
    def columns(self) -> dict[str, InputKind]:
        """The columns that the task reads beside the text."""
        return {}

    def head_name(self) -> HeadName:
        """Return the name of the head that reads the encoder."""
        return self.head

    def depth(self, config: Config) -> int:
        """Return the layer that the head reads; 0 is the embedding layer."""
        return config.n_layers

    @abstractmethod
    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        """Raise TaskError or WindowError if the options do not fit the checkpoint."""

    @abstractmethod
    def answer_type(self, config: Config) -> pa.DataType:
        """Return the type of the column of answers."""

    @abstractmethod
    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        """Build the request for a batch. With gold, the answer also holds the counts for losses and metrics."""

    @abstractmethod
    def decisions(self, logits: Floats, request: HeadRequest, rows: pa.Table, config: Config) -> Ints:
        """Return the K decisions of logits [P, L] at each of N positions, int64 [N, K]. K may be 0.

        `compute.parity` compares the decisions of the run with those of a float32 reference. request: the request that
        gave the logits. rows: the tokenized rows of the request.
        """

    @abstractmethod
    def render(self, answer: Any, row: Mapping[str, Any]) -> Rendering:
        """Return the displayed answer of one row. row: the text and the inputs of the row, as plain data."""

    @abstractmethod
    def scores(self, answers: pa.Array) -> tuple[str, pa.Array]:
        """Return a description of the scores and their values.

        If the task counts labels, there is one value for each counted label.
        """

    def labels_to_count(self, answers: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return the labels that the manifest counts, or None for a task that has none."""

    def query(self, data: str) -> str:
        """Return SQL that shows some answers in the Parquet files `data`."""
        return f"SELECT shard, row, {self.name} FROM '{data}' LIMIT 10"  # noqa: S608  shown to a person

    @property
    def truncated_column(self) -> str:
        """The name of the column that marks truncated texts."""
        return f"{self.name}_truncated"

    def output_schema(self, config: Config) -> pa.Schema:
        """Return the columns that the task adds to the output."""
        columns = [pa.field(self.name, self.answer_type(config))]
        return pa.schema([*columns, pa.field(self.truncated_column, pa.bool_())] if self.truncates else columns)


class EvaluatedTask(Task):
    """A task whose answers can be compared with gold answers."""

    gold: Annotated[
        str | None,
        Field(exclude=True, description="The column with the gold answers. Only `distilray evaluate` reads it."),
    ] = None

    @abstractmethod
    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        """Compute losses and metrics, overall and by label, from the counts of all batches."""


class CompatTask(EvaluatedTask):
    """A task for which Transformers has a pipeline."""

    compat: Annotated[
        Literal["hf"] | None,
        Field(
            description="With hf, the task follows exactly the rules of the Transformers pipeline, including "
            "its defects."
        ),
    ] = None

    @property
    def special_tokens(self) -> SpecialTokens:
        return "special" if self.compat == "hf" else "text"


def open_checkpoints(tasks: Sequence[Task]) -> list[Checkpoint]:
    """Open the checkpoint of each task. Tasks with equal checkpoints share one object: no file is read twice."""
    opened: list[Checkpoint] = []
    for task in tasks:
        own = Checkpoint(task.model, task.storage_options)
        opened.append(next((checkpoint for checkpoint in opened if checkpoint == own), own))
    return opened


def inputs_schema(tasks: Sequence[Task]) -> pa.Schema:
    """Return the schema of the columns that tasks read beside the text.

    Raises TaskError if one task reads a column as text and another reads it as lists of texts.
    """
    kinds = [(name, kind) for task in tasks for name, kind in task.columns.items()]
    if clash := sorted({name for name, kind in kinds if (name, "texts") in kinds and kind == "text"}):
        raise TaskError(f"one task reads {', '.join(clash)} as text, another as lists of texts: name different columns")
    return pa.schema([(name, pa.string() if kind == "text" else TEXTS) for name, kind in dict(kinds).items()])


def gold_of_answered(gold: Gold, rejections: tuple[Rejection, ...]) -> Gold:
    """Return the gold without the rows that a task rejects."""
    rejected = [rejection.rows for rejection in rejections]
    return replace(gold, rows=gold.rows & ~np.logical_or.reduce(rejected)) if rejected else gold


def render_labels(answer: Any) -> Rendering:
    """Render a struct<label, score>, or a list of them."""
    labels = answer if isinstance(answer, list) else [answer]
    return Rendering(lines=[Line("", label["label"], label["score"]) for label in labels] or [Line("", "no label")])


def first_of_each(answers: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Return the first answer of each run of answers that share the value of `key`."""
    return [answer for i, answer in enumerate(answers) if not i or answers[i - 1][key] != answer[key]]


def frequent_texts(column: str, key: str, data: str) -> str:
    """Return SQL that counts the texts in a column of lists of structs, by `key`."""
    spans = f"SELECT unnest({column}) AS e FROM '{data}'"  # noqa: S608  shown to a person
    return f"SELECT e.{key}, e.text, count(*) AS n FROM ({spans}) GROUP BY ALL ORDER BY n DESC LIMIT 10"  # noqa: S608
