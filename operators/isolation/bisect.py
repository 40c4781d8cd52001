"""Bisection, which calls a step that raises again on smaller and smaller parts of its batch.

The rows that raise become dead letters, and all other rows are answered.
"""

import logging
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import torch

from distilray.model.errors import BackendError, CheckpointError, DeviceMemoryError, WindowError
from distilray.model.storage.store import explain
from distilray.operators.errors import ColumnSizeError, TaskError
from distilray.operators.isolation.attempts import MAX_FAILED_ROWS
from distilray.operators.rows import schema as s
from distilray.operators.rows.reasons import ERROR, MEMORY

log = logging.getLogger(__name__)

NOT_ROW_ERRORS = (
    TaskError,
    CheckpointError,
    BackendError,
    WindowError,
    ColumnSizeError,
    DeviceMemoryError,
    torch.AcceleratorError,
)
_PARTS = 8  # the number of parts into which a failed batch is split
_NO_MEMORY = "allocate memory"  # torch's allocator on a CPU raises a plain RuntimeError

Call = Callable[[pa.Table], pa.Table]


def call_bisecting(call: Call, table: pa.Table, stage: str, max_failed_rows: int | None = MAX_FAILED_ROWS) -> pa.Table:
    """Return what `call` returns for the rows. The rows for which it raises become dead letters.

    Raises the error of `call` if it is one of NOT_ROW_ERRORS, or if `max_failed_rows` rows raise and no other row
    succeeds.
    """
    failed_rows = answered_rows = 0

    def attempt(part: pa.Table) -> Iterator[pa.Table]:
        nonlocal failed_rows, answered_rows
        try:
            yield call(part)
        except NOT_ROW_ERRORS:
            raise
        except Exception as error:
            if part.num_rows > 1:
                for piece in split_rows(part, -(-part.num_rows // _PARTS)):
                    yield from attempt(piece)
                return
            failed_rows += 1
            if max_failed_rows and failed_rows >= max_failed_rows and not answered_rows:
                raise
            log.warning("a row raised in %s: %s", stage, type(error).__name__)
            yield call(as_dead_letters(part, stage, _reason(error), explain(error)))
        else:
            answered_rows += count_alive(part)

    return concat_parts(list(attempt(table)))


def count_alive(table: pa.Table) -> int:
    """Count the rows that are not dead."""
    return int(table[s.DEAD_REASON].null_count)


def _reason(error: Exception) -> str:
    memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _NO_MEMORY in str(error)
    return MEMORY if memory else ERROR


def split_rows(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Split a table into parts of at most `rows` rows."""
    for start in range(0, table.num_rows, rows):
        yield table.take(np.arange(start, min(start + rows, table.num_rows)))


def as_dead_letters(table: pa.Table, stage: str, reason: str, message: str) -> pa.Table:
    """Return the rows as dead letters, without texts and tokens, so that a step computes nothing for them."""
    values = {s.DEAD_STAGE: stage, s.DEAD_REASON: reason, s.DEAD_MESSAGE: message, s.DEAD_TEXT: table[s.TEXT]}
    for name in table.column_names:
        kind, number = table.schema.field(name).type, table.column_names.index(name)
        if name in values:
            value = values[name]
            column = value if isinstance(value, pa.ChunkedArray) else pa.array([value] * table.num_rows, kind)
        elif name.startswith(s.TOKENS_PREFIX):
            column = pa.array([[]] * table.num_rows, kind)
        elif name == s.TEXT or name.startswith(s.INPUT_PREFIX):
            column = pa.nulls(table.num_rows, kind)
        else:
            continue
        table = table.set_column(number, table.schema.field(name), column)
    return table


def concat_parts(parts: list[pa.Table]) -> pa.Table:
    """Concatenate parts of a unit into one table, and add up the counts of the parts."""
    if len(parts) == 1:
        return parts[0]
    table = pa.concat_tables(parts).combine_chunks()
    for name in (s.WINDOW_TOKENS, s.COMPUTED_TOKENS):
        if name in table.column_names:
            count = sum(part[name][0].as_py() for part in parts)
            table = table.set_column(table.column_names.index(name), name, pa.repeat(count, table.num_rows))
    return table
