"""One unit of a shard to a table of rows; what cannot be read becomes dead letters."""

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
from distilray.operators.rows.columns import CORRUPT, Dead, all_dead, constant, inputs_of, keep, living
from distilray.operators.rows.reasons import MEMORY
from distilray.operators.rows.timing import timed
from distilray.operators.rows.unit import Unit, version

_STREAM, _STREAM_ROWS = 2**22, 256  # bytes and rows at a time, of a row group that is only begun

Take = Callable[[list[str], int, int, int], pa.Table]  # columns, row group, rows to skip, rows to take


@dataclass(frozen=True)
class Read:
    """A unit to its rows. text: the column to predict on; inputs: others that tasks read, strings or lists of strings;
    kept: the columns that go into the output, with their types; partitions: hive keys that come from the shard's path,
    with their types; deadline: seconds that decoding may take, waits for the store not counted, None: any time."""

    text: str
    inputs: pa.Schema
    kept: pa.Schema
    partitions: pa.Schema
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    deadline: float | None = None

    @property
    def columns(self) -> pa.Schema:
        """Everything that goes with a row into the output."""
        return pa.schema([*self.kept, *self.partitions])

    @timed("read")
    def __call__(self, unit: Unit) -> pa.Table:
        """Rows in order, in the schema `rows_schema(columns, inputs)`.

        Raises ShardError if the shard is another than was planned, and whatever the store raises.
        """
        return picked(self._read(unit, whole=True), unit)

    def head(self, unit: Unit, rows: int) -> pa.Table:
        """The first rows of a unit, of its first row group at most, decoded only as far as they reach. Raises as a call does."""
        first = unit.row_groups[0]
        return self._read(replace(unit, row_groups=(first, first + 1), rows=min(rows, unit.rows)), whole=False)

    def _read(self, unit: Unit, *, whole: bool) -> pa.Table:
        """whole: row groups are read at once, and not begun as streams."""
        if unit.error:
            return self._rows(unit, self._unread(1, *unit.error), pa.nulls(1, pa.int64()))
        with self._opened(unit, whole=whole) as (parquet, watched):
            take = partial(_whole if whole else _streamed, parquet)
            pieces = [self._row_group(take, *part, watched) for part in _parts(unit, parquet.metadata)]
        table = pa.concat_tables(pieces)
        numbers = pa.array(np.arange(unit.first_row, unit.first_row + table.num_rows))
        return self._rows(unit, table, numbers)

    def parts(self, unit: Unit) -> list[Unit]:
        """The unit's rows, those of each row group as a unit of the same name. Raises as reading it does."""
        found, first_row = [], unit.first_row
        with self._opened(unit, whole=False) as (parquet, _):
            for group, skip, rows in _parts(unit, parquet.metadata):
                found.append(replace(unit, row_groups=(group, group + 1), skip=skip, first_row=first_row, rows=rows))
                first_row += rows
        return found

    def dead(self, unit: Unit, reason: str, message: str) -> pa.Table:
        """Every row of a unit, dead."""
        numbers = pa.array(np.arange(unit.first_row, unit.first_row + unit.rows))
        return self._rows(unit, self._unread(unit.rows, reason, message), numbers)

    def found(self, unit: Unit) -> tuple[Any, str, int]:
        """The store of the unit's shard, its path there, its size in bytes. Raises as a call does."""
        fs, path = open_store(unit.uri, self.storage_options)
        fs.invalidate_cache(path)  # a listing of another day would hide a change
        try:
            info = fs.info(path)
        except FileNotFoundError:
            raise ShardError(f"{unit.uri} is gone since it was planned: expected {unit.version}") from None
        if version(info) != unit.version:
            raise ShardError(f"{unit.uri} changed since it was planned: expected {unit.version}, got {version(info)}")
        return fs, path, info["size"]

    @contextmanager
    def _opened(self, unit: Unit, *, whole: bool) -> Iterator[tuple[pq.ParquetFile, "WatchedFile"]]:
        """The unit's shard; what its store raises is raised as itself."""
        fs, path, size = self.found(unit)
        # Arrow coalesces its own reads
        with fs.open(path, "rb", cache_type="none") as file, Watchdog(self.deadline) as deadline:
            watched = WatchedFile(file, size, unit.uri, deadline)
            source, buffered = pa.PythonFile(watched, mode="r"), {} if whole else {"buffer_size": _STREAM}
            try:
                yield pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=whole, **buffered), watched
            except Exception as error:
                if watched.error is None or watched.error is error:
                    raise
                raise watched.error from error  # the store failed, not the bytes: not the rows' fault

    def _row_group(self, take: Take, group: int, skip: int, rows: int, watched: "WatchedFile") -> pa.Table:
        """Text, kept columns and dead letter of rows of one row group; all dead if its bytes make no sense."""
        names = list(dict.fromkeys([self.text, *self.inputs.names, *self.kept.names]))
        try:
            raw = take(names, group, skip, rows)
            if raw.num_rows != rows:  # a column that says it has none
                raise pa.ArrowInvalid(f"expected {rows} rows, got {raw.num_rows}")
            inputs, dead = inputs_of(raw, self.text, self.inputs)
            kept = []
            for column in self.kept:
                values, dead = keep(raw[column.name], column, dead)
                kept.append(values)
        except CORRUPT as error:
            if watched.error is not None:
                raise
            # memory may be short for others' sake: such rows count among those that failed
            reason = MEMORY if isinstance(error, MemoryError) else "unreadable_row_group"
            return self._unread(rows, reason, f"row group {group}: {error}")
        return self._piece([*kept, *living(inputs, dead)], dead)

    def _piece(self, values: list[pa.Array], dead: Dead) -> pa.Table:
        inputs = [s.input_column(name) for name in self.inputs.names]
        return pa.table([*values, *dead], names=[*self.kept.names, s.TEXT, *inputs, s.DEAD_REASON, s.DEAD_MESSAGE])

    def _unread(self, rows: int, reason: str, message: str) -> pa.Table:
        """Rows without anything but the reason of their death."""
        kinds = [*self.kept.types, pa.string(), *self.inputs.types]
        return self._piece([pa.nulls(rows, kind) for kind in kinds], all_dead(rows, reason, message))

    def _rows(self, unit: Unit, table: pa.Table, numbers: pa.Array) -> pa.Table:
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


def picked(table: pa.Table, unit: Unit) -> pa.Table:
    """The rows that are wanted of a unit, of all its rows."""
    if unit.only_rows is None:
        return table
    rows, count = (
        table.take(np.array(unit.only_rows, dtype=np.int64) - unit.first_row).combine_chunks(),
        len(unit.only_rows),
    )
    return rows.set_column(rows.column_names.index(s.UNIT_ROWS), s.UNIT_ROWS, constant(count, pa.int64(), count))


def _parts(unit: Unit, metadata: pq.FileMetaData) -> Iterator[tuple[int, int, int]]:
    """Row group, rows to skip in it and rows to take, for each row group of a unit."""
    skip, left = unit.skip, unit.rows
    for group in range(*unit.row_groups):
        rows = min(metadata.row_group(group).num_rows - skip, left)
        yield group, skip, rows
        skip, left = 0, left - rows


def _whole(parquet: pq.ParquetFile, names: list[str], group: int, skip: int, rows: int) -> pa.Table:
    return parquet.read_row_group(group, columns=names).slice(skip, rows)


def _streamed(parquet: pq.ParquetFile, names: list[str], group: int, skip: int, rows: int) -> pa.Table:
    """The same rows; what comes before them is decoded and dropped, what comes after is not read."""
    taken: list[pa.RecordBatch] = []
    for batch in parquet.iter_batches(_STREAM_ROWS, row_groups=[group], columns=names):
        part = batch.slice(min(skip, len(batch)), rows)
        skip, rows = max(skip - len(batch), 0), rows - len(part)
        taken += [part] if len(part) else []
        if not rows:
            break
    return pa.Table.from_batches(taken)
