"""The tokenize step, which adds a column of tokens for each distinct tokenizer and column of texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.isolation.attempts import Isolation
from distilray.operators.isolation.bisect import Call
from distilray.operators.isolation.isolated_call import call_isolated
from distilray.operators.isolation.watchdog import Watchdog
from distilray.operators.rows import schema as s
from distilray.operators.rows.ragged import one_chunk, ragged
from distilray.operators.rows.timing import timed
from distilray.operators.tasks.task import InputKind, Task, open_checkpoints


@dataclass(frozen=True)
class TokenizerGroup:
    """A group of tokenizers that give equal tokens. They may differ in the length limit of their models.

    tokenizers: the tokenizers by number of task. columns: the columns that these tasks read beside the text.
    """

    tokenizers: dict[int, Tokenizer]
    columns: dict[str, InputKind]

    @property
    def tokenizer(self) -> Tokenizer:
        """The first tokenizer of the group."""
        return next(iter(self.tokenizers.values()))


def group_tokenizers(tasks: Sequence[Task], checkpoints: Sequence[Checkpoint]) -> list[TokenizerGroup]:
    """Group the tokenizers of the tasks, in the order of the tasks.

    Raises CheckpointError if a tokenizer cannot be read.
    """
    pairs = zip(tasks, checkpoints, strict=True)
    tokenizers = [Tokenizer(checkpoint, task.special_tokens) for task, checkpoint in pairs]
    keys = [(tokenizer.description, tokenizer.specials) for tokenizer in tokenizers]
    groups = [[i for i, other in enumerate(keys) if other == key] for key in dict.fromkeys(keys)]
    return [
        TokenizerGroup(
            {i: tokenizers[i] for i in group}, {name: kind for i in group for name, kind in tasks[i].columns.items()}
        )
        for group in groups
    ]


@dataclass
class TokenizeUnit:
    """The tokenize step. It adds a column of tokens for each pair of tokenizer and column; a dead row has no tokens."""

    tasks: Sequence[Task]
    isolation: Isolation | None = None

    def __post_init__(self) -> None:
        """Read the tokenizers. Raises CheckpointError if a tokenizer cannot be read."""
        self.tokenizer_groups = group_tokenizers(self.tasks, open_checkpoints(self.tasks))
        self._watchdog = Watchdog(self.isolation.deadline if self.isolation else None)

    @timed("tokenize")
    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the rows with list<TOKEN> columns, or list<list<TOKEN>> columns for columns of lists.

        With `isolation`, rows that make the step fail become dead letters.
        """
        make_call = partial(_make_call, self.tasks, self.isolation)
        return call_isolated(self.isolation, "tokenize", self.tokenized, make_call, table)

    def tokenized(self, table: pa.Table) -> pa.Table:
        """Tokenize the rows without isolation. Raises the errors of the tokenizers."""
        with self._watchdog:
            return tokenized(table, self.tokenizer_groups)


def _make_call(tasks: Sequence[Task], isolation: Isolation | None) -> Call:
    return TokenizeUnit(tasks, isolation).tokenized


def tokenized(table: pa.Table, groups: Sequence[TokenizerGroup]) -> pa.Table:
    """Return the rows with the columns that `TokenizeUnit` adds."""
    for number, group in enumerate(groups):
        columns = {s.TEXT: table[s.TEXT]} | {name: table[s.input_column(name)] for name in group.columns}
        for name, column in columns.items():
            table = table.append_column(s.tokens_column(number, name), _tokens(group.tokenizer, column))
    return table


def _tokens(tokenizer: Tokenizer, column: pa.ChunkedArray) -> pa.ListArray:
    if pa.types.is_list(column.type):
        lists = one_chunk(column)
        counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
        return ragged(counts, _tokens(tokenizer, pa.chunked_array([lists.flatten()])))
    tokens = tokenizer(column)
    arrays = [pa.array(array, pa.int32()) for array in (tokens.input_ids, tokens.word_ids, tokens.start, tokens.end)]
    return ragged(np.diff(tokens.offsets), pa.StructArray.from_arrays(arrays, fields=list(s.TOKEN)))
