"""Rows that bring their worker down become dead letters, and all others are answered.

An operator that raises is called again on ever smaller parts of its batch. A worker that died (a segfault, the kernel's
out-of-memory killer, a deadline) leaves a mark that says which unit it had begun: the next try of that unit on the same machine
gives it in small parts to a process of its own, see sandbox.py.
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
_PARTS = 8  # of a batch that failed
MAX_FAILED_ROWS = 10  # rows that failed, and none that did not: the fault is not theirs
_NO_MEMORY = "allocate memory"  # torch's allocator on a CPU raises a plain RuntimeError

Call = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Isolation:
    """How a worker outlives its rows. run: what tells units of this output from those of others; deadline: seconds without
    progress after which a worker ends itself, None: never; hopeless: after how many rows that raised, and none that did not, a
    unit does, None: never."""

    run: str
    deadline: float | None = None
    max_failed_rows: int | None = MAX_FAILED_ROWS

    @contextmanager
    def attempt(self, stage: str, unit: str) -> Iterator[bool]:
        """Whether an earlier try at this unit on this machine never came to its end.

        It comes to one by an exception, too, but not by that of a lost device, nor when the process dies.
        """
        mark = _mark(self.run, f"{stage}-{unit}")
        died = False
        try:
            if mark is not None:
                died = _is_dead(mark)
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.write_text(_process(os.getpid()))
        except OSError as error:
            log.warning("if a row kills this worker, it will kill the next, too: %s", error)
        try:
            yield died
        except torch.AcceleratorError:
            raise
        except BaseException:
            _forget(mark)
            raise
        _forget(mark)


def _is_dead(mark: Path) -> bool:
    """Whether who made the mark, if it is there, lives no more; this process has begun nothing else."""
    try:
        maker = mark.read_text(errors="replace")
    except FileNotFoundError:
        return False
    pid = maker.partition(" ")[0]
    return not pid.isdecimal() or int(pid) == os.getpid() or _process(int(pid)) != maker


def _process(pid: int) -> str:
    """Tells a process from others, before and after it, with its number; a zombie is none."""
    try:
        state, *said = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}" if pid == os.getpid() else ""
    return "" if state == "Z" else f"{pid} {said[18]}"  # clock ticks at its start


def _mark(run: str, name: str) -> Path | None:
    try:
        return cache_folder() / "begun" / run / name
    except RuntimeError as error:  # a user without a home
        log.warning("if a row kills this worker, it will kill the next, too: %s", error)
        return None


def _forget(mark: Path | None) -> None:
    if mark is not None:
        with suppress(OSError):
            mark.unlink(missing_ok=True)


def call_bisecting(call: Call, table: pa.Table, stage: str, max_failed_rows: int | None = MAX_FAILED_ROWS) -> pa.Table:
    """What `call` gives for the rows, those for which it raises being dead.

    Raises what `call` raises if that is no fault of rows, or if `hopeless` rows did and no other survived.
    """
    dead = lived = 0

    def attempt(part: pa.Table) -> Iterator[pa.Table]:
        nonlocal dead, lived
        try:
            yield call(part)
        except NOT_ROW_ERRORS:
            raise
        except Exception as error:
            if part.num_rows > 1:
                for piece in split_rows(part, -(-part.num_rows // _PARTS)):
                    yield from attempt(piece)
                return
            dead += 1
            if max_failed_rows and dead >= max_failed_rows and not lived:
                raise
            log.warning("a row raised in %s: %s", stage, type(error).__name__)
            yield call(mark_dead(part, stage, _reason(error), explain(error)))
        else:
            lived += count_alive(part)

    return concat_parts(list(attempt(table)))


def count_alive(table: pa.Table) -> int:
    """How many rows are not dead."""
    return int(table[s.DEAD_REASON].null_count)


def _reason(error: Exception) -> str:
    memory = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or _NO_MEMORY in str(error)
    return MEMORY if memory else ERROR


def split_rows(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Parts of at most so many rows."""
    for start in range(0, table.num_rows, rows):
        yield table.take(np.arange(start, min(start + rows, table.num_rows)))


def mark_dead(table: pa.Table, stage: str, reason: str, message: str) -> pa.Table:
    """The rows, dead: nothing of them is left to compute but their address."""
    said = {s.DEAD_STAGE: stage, s.DEAD_REASON: reason, s.DEAD_MESSAGE: message, s.DEAD_TEXT: table[s.TEXT]}
    for name in table.column_names:
        kind, number = table.schema.field(name).type, table.column_names.index(name)
        if name in said:
            value = said[name]
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
    """Parts of a unit as one table; what was counted over each is added up."""
    if len(parts) == 1:
        return parts[0]
    table = pa.concat_tables(parts).combine_chunks()
    for name in (s.WINDOW_TOKENS, s.COMPUTED_TOKENS):
        if name in table.column_names:
            count = sum(part[name][0].as_py() for part in parts)
            table = table.set_column(table.column_names.index(name), name, pa.repeat(count, table.num_rows))
    return table
