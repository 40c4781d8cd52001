"""Texts to ragged tokens, once for each tokenizer that differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.isolation.bisect import Call, Isolation
from distilray.operators.isolation.sandbox import guarded
from distilray.operators.isolation.watchdog import Watchdog
from distilray.operators.rows import schema as s
from distilray.operators.rows.ragged import one_chunk, ragged
from distilray.operators.rows.timing import timed
from distilray.operators.tasks.task import InputKind, Task, open_checkpoints


@dataclass(frozen=True)
class Tokenizing:
    """Tasks by number, with tokenizers that make equal tokens, and the columns that they read beside the text.

    The tokenizers may differ in how many tokens their models hold.
    """

    tokenizers: dict[int, Tokenizer]
    columns: dict[str, InputKind]

    @property
    def tokenizer(self) -> Tokenizer:
        """Any of them."""
        return next(iter(self.tokenizers.values()))


def tokenizings(tasks: Sequence[Task], checkpoints: Sequence[Checkpoint]) -> list[Tokenizing]:
    """The different tokenizers of the tasks, in order. Raises CheckpointError for one that cannot be read."""
    pairs = zip(tasks, checkpoints, strict=True)
    tokenizers = [Tokenizer(checkpoint, task.special_tokens) for task, checkpoint in pairs]
    keys = [(tokenizer.description, tokenizer.specials) for tokenizer in tokenizers]
    groups = [[i for i, other in enumerate(keys) if other == key] for key in dict.fromkeys(keys)]
    return [
        Tokenizing(
            {i: tokenizers[i] for i in group}, {name: kind for i in group for name, kind in tasks[i].columns.items()}
        )
        for group in groups
    ]


@dataclass
class TokenizeUnit:
    """Adds a column of tokens for each tokenizer and each column that it reads; a dead row has no tokens."""

    tasks: Sequence[Task]
    isolation: Isolation | None = None

    def __post_init__(self) -> None:
        """Raises CheckpointError for a tokenizer that cannot be read."""
        self.tokenizings = tokenizings(self.tasks, open_checkpoints(self.tasks))
        self._deadline = Watchdog(self.isolation.deadline if self.isolation else None)

    @timed("tokenize")
    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows with list<TOKEN> columns, or list<list<TOKEN>> for columns of lists.

        With a guard, rows that bring the operator down are dead.
        """
        return guarded(self.isolation, "tokenize", self.tokenized, partial(_again, self.tasks, self.isolation), table)

    def tokenized(self, table: pa.Table) -> pa.Table:
        """Raises whatever a tokenizer raises."""
        with self._deadline:
            return tokenized(table, self.tokenizings)


def _again(tasks: Sequence[Task], isolation: Isolation | None) -> Call:
    return TokenizeUnit(tasks, isolation).tokenized


def tokenized(table: pa.Table, tokenizings: Sequence[Tokenizing]) -> pa.Table:
    """The rows with the columns that `Tokenize` adds."""
    for number, tokenizing in enumerate(tokenizings):
        columns = {s.TEXT: table[s.TEXT]} | {name: table[s.input_column(name)] for name in tokenizing.columns}
        for name, column in columns.items():
            table = table.append_column(s.tokens_column(number, name), _tokens(tokenizing.tokenizer, column))
    return table


def _tokens(tokenizer: Tokenizer, column: pa.ChunkedArray) -> pa.ListArray:
    if pa.types.is_list(column.type):
        lists = one_chunk(column)
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        return ragged(counts, _tokens(tokenizer, pa.chunked_array([lists.flatten()])))
    tokens = tokenizer(column)
    arrays = [pa.array(array, pa.int32()) for array in (tokens.input_ids, tokens.word_ids, tokens.start, tokens.end)]
    return ragged(np.diff(tokens.offsets), pa.StructArray.from_arrays(arrays, fields=list(s.TOKEN)))
