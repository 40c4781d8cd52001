"""Isolation of rows that make a step fail. They become dead letters, and all other rows are answered.

If a step raises, it is called again on smaller and smaller parts of its batch. If a worker's process ends (a segfault,
the kernel's out-of-memory killer, a deadline), a mark on the machine's disk remains that names the unit. The next
attempt at that unit on the same machine sends it in small parts to a sandbox process, see sandbox.py.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from distilray.model.errors import BackendError, CheckpointError, DeviceMemoryError, WindowError
from distilray.model.storage.cache import cache_folder
from distilray.model.storage.store import explain
from distilray.operators.errors import ColumnSizeError, TaskError
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
_PARTS = 8  # into which a failed batch is split
MAX_FAILED_ROWS = 10  # if so many rows fail and none succeeds, the rows are not the cause
_NO_MEMORY = "allocate memory"  # torch's allocator on a CPU raises a plain RuntimeError
_NO_MARK = "cannot write the mark of an attempt: a row that ends this worker will end the next worker, too: %s"

Call = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Isolation:
    """The settings by which a worker survives its rows.

    run: a name that distinguishes the units of this output from those of other outputs. deadline: the seconds without
    progress after which a worker ends its process. None means never. max_failed_rows: if so many rows raise and no
    other row succeeds, the unit raises, too. None means never.
    """

    run: str
    deadline: float | None = None
    max_failed_rows: int | None = MAX_FAILED_ROWS

    @contextmanager
    def attempt(self, stage: str, unit: str) -> Iterator[bool]:
        """Mark an attempt at a unit, and yield whether an earlier attempt on this machine never ended.

        An attempt ends by success or by an exception. It does not end by the exception of a lost device, or when the
        process ends.
        """
        mark = _mark_path(self.run, f"{stage}-{unit}")
        crashed = False
        try:
            if mark is not None:
                crashed = _writer_is_gone(mark)
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.write_text(_process_identity(os.getpid()))
        except OSError as error:
            log.warning(_NO_MARK, error)
        try:
            yield crashed
        except torch.AcceleratorError:
            raise
        except BaseException:
            _remove_mark(mark)
            raise
        _remove_mark(mark)


def _writer_is_gone(mark: Path) -> bool:
    """Return whether the mark exists and the process that wrote it has ended.

    A mark of this process counts, too: this process has no other attempt in progress.
    """
    try:
        writer = mark.read_text(errors="replace")
    except FileNotFoundError:
        return False
    pid = writer.partition(" ")[0]
    return not pid.isdecimal() or int(pid) == os.getpid() or _process_identity(int(pid)) != writer


def _process_identity(pid: int) -> str:
    """Return a text that identifies a process; the system reuses its number alone. A zombie process gives ""."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}" if pid == os.getpid() else ""
    return "" if state == "Z" else f"{pid} {fields[18]}"  # clock ticks at its start


def _mark_path(run: str, name: str) -> Path | None:
    try:
        return cache_folder() / "begun" / run / name
    except RuntimeError as error:  # a user without a home
        log.warning(_NO_MARK, error)
        return None


def _remove_mark(mark: Path | None) -> None:
    if mark is not None:
        with suppress(OSError):
            mark.unlink(missing_ok=True)


def call_bisecting(call: Call, table: pa.Table, stage: str, max_failed_rows: int | None = MAX_FAILED_ROWS) -> pa.Table:
    """Return what `call` returns for the rows. The rows for which it raises become dead letters.

    Raises what `call` raises if the error is in NOT_ROW_ERRORS, or if `max_failed_rows` rows raise and no other row
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
            yield call(mark_dead(part, stage, _reason(error), explain(error)))
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


def mark_dead(table: pa.Table, stage: str, reason: str, message: str) -> pa.Table:
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
