"""What a task is: options that travel to the workers, and the way from a batch of texts to a column of answers."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from distilray.model.attention import AttentionName
from distilray.model.checkpoint import Checkpoint
from distilray.model.config import Config
from distilray.model.device import DtypeName
from distilray.model.heads import HeadName
from distilray.model.packed import Bools, Ints
from distilray.model.predictor import Arrays, Reading
from distilray.model.sequences import Sequences
from distilray.model.tokenizer import Tokenizer
from distilray.model.tokenizer_spec import SpecialTokens
from distilray.operators.batch import Batch
from distilray.operators.gold import Gold
from distilray.operators.options import ColumnName, Frozen, Location, StorageOptions
from distilray.operators.schema import TEXTS

InputKind = Literal["text", "texts"]  # a column of strings, or of lists of strings


class TaskError(ValueError):
    """A task that cannot be done with its checkpoint: what was expected, what came, what to do."""


@dataclass(frozen=True)
class Death:
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
    deaths: tuple[Death, ...] = ()
    counts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a task wants of the model for a batch, and how it makes an answer of what it gets. rows: of each sequence, [S]."""

    sequences: Sequences
    reading: Reading
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
    def kind(self, config: Config) -> pa.DataType:
        """The type of the column of answers."""

    @abstractmethod
    def request(self, batch: Batch, config: Config, gold: Gold | None = None) -> Request:
        """What to compute for a batch; with gold, also what losses and metrics need."""

    def counted(self, answers: pa.ChunkedArray) -> pa.ChunkedArray | None:
        """The labels to count for the manifest; None for a task that has none."""


class JudgedTask(Task):
    """A task whose answers are right or wrong. gold: the column with the right ones, read by `distilray evaluate` only."""

    gold: Annotated[str | None, Field(exclude=True)] = None

    @abstractmethod
    def figures(self, counts: dict[str, Any]) -> dict[str, Any]:
        """Loss and metrics, overall and by label, from the counts of all batches."""


class CompatTask(JudgedTask):
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


def schema_of(task: Task, config: Config) -> pa.Schema:
    """The columns that a task adds to the output."""
    fields = [pa.field(task.name, task.kind(config))]
    return pa.schema([*fields, pa.field(truncated_column(task), pa.bool_())] if task.truncates else fields)


def answered(gold: Gold, deaths: tuple[Death, ...]) -> Gold:
    """The gold of the rows that a task answers."""
    dead = [death.rows for death in deaths]
    return replace(gold, rows=gold.rows & ~np.logical_or.reduce(dead)) if dead else gold


def truncated_column(task: Task) -> str:
    """The column that tells which texts a task cut."""
    return f"{task.name}_truncated"


@dataclass(frozen=True)
class ComputeSpec:
    """How a worker computes. threads: CPU threads of a forward pass, None: torch's default; parity: which share of the rows
    is compared with a float32 reference."""

    dtype: DtypeName = "auto"
    attention: AttentionName = "auto"
    tokens_per_pack: int | None = None
    threads: int | None = None
    parity: float = 0.0
