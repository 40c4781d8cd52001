"""The batch: a tokenized unit as flat arrays."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.arrays import Ints, offsets_of
from distilray.model.tokenizer.tokenizer import Tokenizer, Tokens
from distilray.operators.rows import schema as s
from distilray.operators.rows.ragged import one_chunk


@dataclass(frozen=True)
class TokenColumn:
    """The tokens of a column of texts. begin: the position of the first token in the pool. counts: [R], the texts of each row."""

    tokens: Tokens
    begin: int
    counts: Ints

    @property
    def first(self) -> Ints:
        """The position of each text in the pool."""
        return self.begin + self.tokens.offsets[:-1]

    @property
    def lengths(self) -> Ints:
        """The number of tokens of each text."""
        return np.diff(self.tokens.offsets)


class TokenPool:
    """The token ids of a batch; sequences are slices of it. Ids can be added, and their positions do not change."""

    def __init__(self) -> None:
        self._parts: list[Ints] = []
        self._size = 0
        self.constants: dict[tuple[str, ...], TokenColumn] = {}

    def add(self, ids: Ints) -> int:
        """Add ids and return their position."""
        self._parts.append(ids)
        self._size += len(ids)
        return self._size - len(ids)

    @property
    def ids(self) -> Ints:
        return np.concatenate(self._parts)


@dataclass(frozen=True)
class Batch:
    """R rows with their texts and tokens.

    table: all columns of the rows. text: the tokens of the texts. others: the tokens of other columns by name. pool:
    the pool that holds all token ids.
    """

    table: pa.Table
    text: TokenColumn
    others: Mapping[str, TokenColumn]
    pool: TokenPool
    tokenizer: Tokenizer

    @property
    def rows(self) -> int:
        return int(self.table.num_rows)

    @property
    def texts(self) -> pa.StringArray:
        """The texts; null for dead rows."""
        return one_chunk(self.table[s.TEXT])

    def input(self, name: str) -> pa.Array:
        """Return a column that a task reads beside the text."""
        return one_chunk(self.table[s.input_column(name)])

    def add(self, texts: list[str]) -> TokenColumn:
        """Tokenize texts that are the same for every row, such as questions. Add them to the pool."""
        key = tuple(texts)
        if key not in self.pool.constants:  # tasks with the same texts share tokens, and therefore sequences
            tokens = self.tokenizer(texts)
            self.pool.constants[key] = TokenColumn(tokens, self.pool.add(tokens.input_ids), np.array([len(texts)]))
        return self.pool.constants[key]


def read_batch(table: pa.Table, number: int, tokenizer: Tokenizer) -> Batch:
    """Read the batch of the tokenizer group `number` from a tokenized table. A table of one chunk is not copied."""
    pool = TokenPool()
    text = _column(table[s.tokens_column(number, s.TEXT)], pool)
    prefix = s.tokens_column(number, "")
    names = (n.removeprefix(prefix) for n in table.column_names if n.startswith(prefix) and n != prefix + s.TEXT)
    others = {name: _column(table[prefix + name], pool) for name in names}
    return Batch(table, text, others, pool, tokenizer)


def _column(column: pa.ChunkedArray, pool: TokenPool) -> TokenColumn:
    values = one_chunk(column)
    counts: Ints = np.ones(len(values), dtype=np.int64)
    if pa.types.is_list(values.type.value_type):  # each row has a list of texts
        counts, values = _lengths(values), values.flatten()
    token = values.flatten()
    ids, words, start, end = (pc.struct_field(token, name).to_numpy() for name in s.TOKEN.names)
    return TokenColumn(Tokens(offsets_of(_lengths(values)), ids, words, start, end), pool.add(ids), counts)


def _lengths(lists: pa.ListArray) -> Ints:
    lengths: Ints = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths
