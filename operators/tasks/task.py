"""What a task is: options that travel to the workers, and the way from a batch of texts to a column of answers."""

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
from distilray.operators.tasks.options import ColumnName, Frozen, Location, StorageOptions

InputKind = Literal["text", "texts"]  # a column of strings, or of lists of strings


@dataclass(frozen=True)
class Span:
    """A labelled part of a text. start, end: characters (code points)."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class Line:
    """One answer in words. about: what was asked, or ""; score: of the answer, or None."""

    about: str
    answer: str
    score: float | None = None


@dataclass(frozen=True)
class Rendering:
    """The answer of one row as a person sees it. spans: marked in the text; lines: shown below the text."""

    spans: Sequence[Span] = ()
    lines: Sequence[Line] = ()


@dataclass(frozen=True)
class Rejection:
    """Rows [R] that a task cannot answer, and why."""

    rows: Bools
    reason: str
    message: str


@dataclass(frozen=True)
class Answer:
    """A task's column. truncated: rows whose text was cut, or None for a task that cuts none; counts: how the answers
    compare with the gold that was given with the request, see model/metrics."""

    column: pa.Array
    truncated: Bools | None = None
    rejections: tuple[Rejection, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a task wants of the model for a batch, and how it makes an answer of what it gets. rows: of each sequence, [S]."""

    sequences: Sequences
    head_request: HeadRequest
    rows: Ints
    answer: Callable[[Arrays], Answer]


class Task(Frozen, ABC):
    """Options common to all tasks: a checkpoint, and the name of the output column."""

    model: Location
    name: ColumnName
    storage_options: StorageOptions

    head: ClassVar[HeadName]

    @property
    def special_tokens(self) -> SpecialTokens:
        """What a literal "[SEP]" in a text is."""
        return "text"

    @property
    def truncates(self) -> bool:
        """Whether the output has a column that tells which texts were cut."""
        return False

    @property
    def columns(self) -> dict[str, InputKind]:
        """The columns that the task reads beside the text."""
        return {}

    def head_name(self) -> HeadName:
        """The head that reads the encoder."""
        return self.head

    def depth(self, config: Config) -> int:
        """The layer that the head reads; 0 is the embeddings."""
        return config.n_layers

    @abstractmethod
    def check(self, config: Config, tokenizer: Tokenizer) -> None:
        """Raises TaskError or WindowError if the options do not fit the checkpoint."""

    @abstractmethod
    def answer_type(self, config: Config) -> pa.DataType:
        """Return the type of the column of answers."""

    @abstractmethod
    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        """What to compute for a batch; with gold, also what losses and metrics need."""

    @abstractmethod
    def decisions(self, logits: Floats, request: HeadRequest, rows: pa.Table, config: Config) -> Ints:
        """Return what logits [P, L] decide at each of N places, [N, K]; K is 0 where nothing is decided.

        `compute.parity` compares the decisions of the run with those of a float32 reference. rows: the tokenized rows that
        the request was made for.
        """

    @abstractmethod
    def render(self, answer: Any, row: Mapping[str, Any]) -> Rendering:
        """Return the answer of one row as a person sees it; row: the text and the inputs of the row, as plain data."""

    @abstractmethod
    def scores(self, answers: pa.Array) -> tuple[str, pa.Array]:
        """Return what is measured, in words, and its values; where labels are counted, one value for each of them."""

    def labels_to_count(self, answers: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """Return the labels that the manifest counts, or None for a task that has none."""

    def query(self, data: str) -> str:
        """Return SQL for a first look at the answers in the Parquet files `data`."""
        return f"SELECT shard, row, {self.name} FROM '{data}' LIMIT 10"  # noqa: S608  shown to a person

    @property
    def truncated_column(self) -> str:
        """The name of the column that tells which texts were cut."""
        return f"{self.name}_truncated"

    def output_schema(self, config: Config) -> pa.Schema:
        """Return the columns that the task adds to the output."""
        columns = [pa.field(self.name, self.answer_type(config))]
        return pa.schema([*columns, pa.field(self.truncated_column, pa.bool_())] if self.truncates else columns)


class EvaluatedTask(Task):
    """A task whose answers are right or wrong. gold: the column with the right ones, read by `distilray evaluate` only."""

    gold: Annotated[str | None, Field(exclude=True)] = None

    @abstractmethod
    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        """Loss and metrics, overall and by label, from the counts of all batches."""


class CompatTask(EvaluatedTask):
    """A task that Transformers has a pipeline for. compat "hf": exactly that pipeline's rules, its defects among them."""

    compat: Literal["hf"] | None = None

    @property
    def special_tokens(self) -> SpecialTokens:
        return "special" if self.compat == "hf" else "text"


def open_checkpoints(tasks: Sequence[Task]) -> list[Checkpoint]:
    """The checkpoint of each task; tasks with the same one share it, so that no file is read twice."""
    opened: list[Checkpoint] = []
    for task in tasks:
        wanted = Checkpoint(task.model, task.storage_options)
        opened.append(next((checkpoint for checkpoint in opened if checkpoint == wanted), wanted))
    return opened


def inputs_schema(tasks: Sequence[Task]) -> pa.Schema:
    """The columns that tasks read beside the text. Raises TaskError if one is read in two ways."""
    kinds = [(name, kind) for task in tasks for name, kind in task.columns.items()]
    if clash := sorted({name for name, kind in kinds if (name, "texts") in kinds and kind == "text"}):
        raise TaskError(f"one task reads {', '.join(clash)} as text, another as lists of texts")
    return pa.schema([(name, pa.string() if kind == "text" else TEXTS) for name, kind in dict(kinds).items()])


def gold_of_answered(gold: Gold, rejections: tuple[Rejection, ...]) -> Gold:
    """The gold of the rows that a task answers."""
    dead = [death.rows for death in rejections]
    return replace(gold, rows=gold.rows & ~np.logical_or.reduce(dead)) if dead else gold


def render_labels(answer: Any) -> Rendering:
    """Render a struct<label, score>, or a list of them."""
    labels = answer if isinstance(answer, list) else [answer]
    return Rendering(lines=[Line("", each["label"], each["score"]) for each in labels] or [Line("", "no label")])


def first_of_each(answers: Sequence[Mapping[str, Any]], key: str) -> list[Mapping[str, Any]]:
    """Return the first of each run of answers that have the same value of `key`."""
    return [each for i, each in enumerate(answers) if not i or answers[i - 1][key] != each[key]]


def frequent_texts(column: str, key: str, data: str) -> str:
    """Return SQL that counts the texts in a column of lists of structs, by `key`."""
    spans = f"SELECT unnest({column}) AS e FROM '{data}'"  # noqa: S608  shown to a person
    return f"SELECT e.{key}, e.text, count(*) AS n FROM ({spans}) GROUP BY ALL ORDER BY n DESC LIMIT 10"  # noqa: S608
