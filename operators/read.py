"""The read step, which converts a unit of a shard to a table of rows. Rows that cannot be decoded become dead letters."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distilray.model.storage.store import open_store
from distilray.operators.errors import ShardError
from distilray.operators.isolation.watchdog import Watchdog
from distilray.operators.objects.watched_file import WatchedFile
from distilray.operators.rows import schema as s
from distilray.operators.rows.columns import CORRUPT, Dead, all_dead, constant, convert_kept, inputs_of, null_dead_rows
from distilray.operators.rows.reasons import MEMORY
from distilray.operators.rows.timing import timed
from distilray.operators.rows.unit import Unit, version

_STREAM, _STREAM_ROWS = 2**22, 256  # bytes and rows of one step, for a row group of which only the first rows are read

Take = Callable[[list[str], int, int, int], pa.Table]  # parameters: columns, row group, rows to skip, rows to take


@dataclass(frozen=True)
class Read:
    """The read step.

    text: the column to predict on. inputs: the other columns that tasks read, strings or lists of strings. kept: the
    columns that go into the output, with their types. partitions: the hive keys of the shard's path, with their types.
    deadline: the seconds that decoding may take, without the time spent waiting for the store. None means no limit.
    """

    text: str
    inputs: pa.Schema
    kept: pa.Schema
    partitions: pa.Schema
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    deadline: float | None = None

    @property
    def columns(self) -> pa.Schema:
        """The columns that go with each row into the output: kept columns and hive keys."""
        return pa.schema([*self.kept, *self.partitions])

    @timed("read")
    def __call__(self, unit: Unit) -> pa.Table:
        """Read one unit of a shard into a table. Rows that cannot be decoded become dead letters.

        The rows are in order and have the schema `rows_schema(columns, inputs)`. Raises ShardError if the shard differs
        from the shard in the plan, and the errors of the store.
        """
        return select_rows(self._read(unit, whole=True), unit)

    def head(self, unit: Unit, rows: int) -> pa.Table:
        """Read the first rows of a unit, at most those of its first row group. Later rows are not decoded.

        Raises the same errors as a call.
        """
        first = unit.row_groups[0]
        return self._read(replace(unit, row_groups=(first, first + 1), rows=min(rows, unit.rows)), whole=False)

    def _read(self, unit: Unit, *, whole: bool) -> pa.Table:
        """Read the rows of a unit. whole: whether to read a row group at once, not as a stream."""
        if unit.error:
            return self._unit_table(unit, self._dead_rows(1, *unit.error), pa.nulls(1, pa.int64()))
        with self._open(unit, whole=whole) as (parquet, watched):
            take = partial(_take_at_once if whole else _take_streamed, parquet)
            pieces = [self._row_group(take, *part, watched) for part in _parts(unit, parquet.metadata)]
        table = pa.concat_tables(pieces)
        numbers = pa.array(np.arange(unit.first_row, unit.first_row + table.num_rows))
        return self._unit_table(unit, table, numbers)

    def parts(self, unit: Unit) -> list[Unit]:
        """Split a unit into units of the same name, one for each row group. Raises the same errors as a call."""
        parts, first_row = [], unit.first_row
        with self._open(unit, whole=False) as (parquet, _):
            for group, skip, rows in _parts(unit, parquet.metadata):
                parts.append(replace(unit, row_groups=(group, group + 1), skip=skip, first_row=first_row, rows=rows))
                first_row += rows
        return parts

    def dead(self, unit: Unit, reason: str, message: str) -> pa.Table:
        """Return a table in which every row of the unit is dead."""
        numbers = pa.array(np.arange(unit.first_row, unit.first_row + unit.rows))
        return self._unit_table(unit, self._dead_rows(unit.rows, reason, message), numbers)

    def locate(self, unit: Unit) -> tuple[Any, str, int]:
        """Return the store of the unit's shard, its path and its size in bytes. Raises the same errors as a call."""
        fs, path = open_store(unit.uri, self.storage_options)
        fs.invalidate_cache(path)  # a cached listing would hide a change
        try:
            info = fs.info(path)
        except FileNotFoundError:
            raise ShardError(
                f"{unit.uri} is gone since it was planned: expected version {unit.version}, got no file"
            ) from None
        if version(info) != unit.version:
            raise ShardError(
                f"{unit.uri} changed since it was planned: expected version {unit.version}, got {version(info)}"
            )
        return fs, path, info["size"]

    @contextmanager
    def _open(self, unit: Unit, *, whole: bool) -> Iterator[tuple[pq.ParquetFile, "WatchedFile"]]:
        """Open the unit's shard. Errors of the store leave the block as they are, not wrapped by Arrow."""
        fs, path, size = self.locate(unit)
        # no cache: Arrow coalesces its own reads
        with fs.open(path, "rb", cache_type="none") as file, Watchdog(self.deadline) as watchdog:
            watched = WatchedFile(file, size, unit.uri, watchdog)
            source, buffered = pa.PythonFile(watched, mode="r"), {} if whole else {"buffer_size": _STREAM}
            try:
                yield pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=whole, **buffered), watched
            except Exception as error:
                if watched.error is None or watched.error is error:
                    raise
                raise watched.error from error  # the store failed; the bytes and the rows may be fine

    def _row_group(self, take: Take, group: int, skip: int, rows: int, watched: "WatchedFile") -> pa.Table:
        """Read the text, the inputs, the kept columns and the reasons of rows of one row group.

        All rows are dead if the row group cannot be decoded.
        """
        names = list(dict.fromkeys([self.text, *self.inputs.names, *self.kept.names]))
        try:
            raw = take(names, group, skip, rows)
            if raw.num_rows != rows:  # a damaged column may give fewer rows than the footer states
                raise pa.ArrowInvalid(f"expected {rows} rows, got {raw.num_rows}")
            inputs, dead = inputs_of(raw, self.text, self.inputs)
            kept = []
            for column in self.kept:
                values, dead = convert_kept(raw[column.name], column, dead)
                kept.append(values)
        except CORRUPT as error:
            if watched.error is not None:
                raise
            # another process may have used up the memory: these rows are failures, not bad input
            reason = MEMORY if isinstance(error, MemoryError) else "unreadable_row_group"
            return self._dead_rows(rows, reason, f"row group {group}: {error}")
        return self._row_group_table([*kept, *null_dead_rows(inputs, dead)], dead)

    def _row_group_table(self, values: list[pa.Array], dead: Dead) -> pa.Table:
        inputs = [s.input_column(name) for name in self.inputs.names]
        return pa.table([*values, *dead], names=[*self.kept.names, s.TEXT, *inputs, s.DEAD_REASON, s.DEAD_MESSAGE])

    def _dead_rows(self, rows: int, reason: str, message: str) -> pa.Table:
        """Return rows whose columns are null, except for the reason and the message."""
        kinds = [*self.kept.types, pa.string(), *self.inputs.types]
        return self._row_group_table([pa.nulls(rows, kind) for kind in kinds], all_dead(rows, reason, message))

    def _unit_table(self, unit: Unit, table: pa.Table, numbers: pa.Array) -> pa.Table:
        rows = len(numbers)
        stage = pc.if_else(pc.is_null(table[s.DEAD_REASON]), pa.scalar(None, pa.string()), "read")
        columns = {
            s.SHARD: constant(unit.uri, pa.string(), rows),
            s.ROW: numbers,
            **{name: table[name] for name in self.kept.names},
            **{
                f.name: constant(value, f.type, rows) for f, value in zip(self.partitions, unit.partitions, strict=True)
            },
            s.UNIT: constant(unit.name, pa.string(), rows),
            s.UNIT_ROWS: constant(unit.rows, pa.int64(), rows),
            s.TEXT: table[s.TEXT],
            **{s.input_column(name): table[s.input_column(name)] for name in self.inputs.names},
            s.DEAD_STAGE: stage,
            s.DEAD_REASON: table[s.DEAD_REASON],
            s.DEAD_MESSAGE: table[s.DEAD_MESSAGE],
            s.DEAD_TEXT: pa.nulls(rows, pa.string()),
        }
        return pa.table(columns, schema=s.rows_schema(self.columns, self.inputs)).combine_chunks()


def select_rows(table: pa.Table, unit: Unit) -> pa.Table:
    """Select the rows of `unit.only_rows`, or all rows if it is None. table: all rows of the unit."""
    if unit.only_rows is None:
        return table
    count = len(unit.only_rows)
    rows = table.take(np.array(unit.only_rows, dtype=np.int64) - unit.first_row).combine_chunks()
    return rows.set_column(rows.column_names.index(s.UNIT_ROWS), s.UNIT_ROWS, constant(count, pa.int64(), count))


def _parts(unit: Unit, metadata: pq.FileMetaData) -> Iterator[tuple[int, int, int]]:
    """Yield the row group, the rows to skip in it and the rows to take, for each row group of a unit."""
    skip, left = unit.skip, unit.rows
    for group in range(*unit.row_groups):
        rows = min(metadata.row_group(group).num_rows - skip, left)
        yield group, skip, rows
        skip, left = 0, left - rows


def _take_at_once(parquet: pq.ParquetFile, names: list[str], group: int, skip: int, rows: int) -> pa.Table:
    return parquet.read_row_group(group, columns=names).slice(skip, rows)


def _take_streamed(parquet: pq.ParquetFile, names: list[str], group: int, skip: int, rows: int) -> pa.Table:
    """Take rows of a row group from a stream. Skipped rows are decoded and dropped; later rows are not read."""
    taken: list[pa.RecordBatch] = []
    for batch in parquet.iter_batches(_STREAM_ROWS, row_groups=[group], columns=names):
        part = batch.slice(min(skip, len(batch)), rows)
        skip, rows = max(skip - len(batch), 0), rows - len(part)
        taken += [part] if len(part) else []
        if not rows:
            break
    return pa.Table.from_batches(taken)
