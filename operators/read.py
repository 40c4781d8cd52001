"""One unit of a shard to a table of rows; what cannot be read becomes dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distilray.operators import schema as s
from distilray.operators.ragged import one_chunk
from distilray.operators.storage import open_folder

TEXT_TYPES = "string, large_string, string_view, binary, large_binary, or a dictionary of one of them"


class ShardError(ValueError):
    """A shard that is not what the plan says it is."""


@dataclass(frozen=True)
class Unit:
    """Consecutive rows of one shard, read, computed and committed as one.

    row_groups: first and last + 1; skip: rows of the first row group that belong to earlier units;
    first_row: number of the unit's first row in the shard. error: why the shard is dead, or None.
    """

    name: str
    uri: str
    version: str
    row_groups: tuple[int, int]
    skip: int
    first_row: int
    rows: int
    partitions: tuple[str | None, ...] = ()
    error: tuple[str, str] | None = None


@dataclass(frozen=True)
class Read:
    """A unit to its rows. text: the column to predict on; kept: the other columns, with their types;
    partitions: hive keys that come from the shard's path, with their types."""

    text: str
    kept: pa.Schema
    partitions: pa.Schema
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def columns(self) -> pa.Schema:
        """Everything that goes with a row into the output."""
        return pa.schema([*self.kept, *self.partitions])

    def __call__(self, unit: Unit) -> pa.Table:
        """Rows in order, in the schema `rows_schema(columns)`.

        Raises ShardError if the shard is another than was planned, and whatever the store raises.
        """
        if unit.error:
            return self._dead_shard(unit, *unit.error)
        fs, path = open_folder(unit.uri, self.storage_options)
        fs.invalidate_cache(path)  # a listing of another day would hide a change
        info = fs.info(path)
        if version(info) != unit.version:
            raise ShardError(f"{unit.uri} changed since it was planned: expected {unit.version}, got {version(info)}")
        with fs.open(path, "rb", cache_type="none") as file:  # Arrow coalesces its own reads
            watched = WatchedFile(file)
            parquet = pq.ParquetFile(pa.PythonFile(watched, mode="r"))
            pieces = [self._row_group(parquet, group, watched) for group in range(*unit.row_groups)]
        table = pa.concat_tables(pieces).slice(unit.skip, unit.rows)
        numbers = pa.array(np.arange(unit.first_row, unit.first_row + table.num_rows))
        return self._rows(unit, table, numbers)

    def _row_group(self, parquet: pq.ParquetFile, group: int, watched: "WatchedFile") -> pa.Table:
        """Text, kept columns and dead letter of one row group; all dead if its bytes make no sense."""
        names = list(dict.fromkeys([self.text, *self.kept.names]))
        rows = parquet.metadata.row_group(group).num_rows
        try:
            raw = parquet.read_row_group(group, columns=names)
            kept = [cast_column(raw[f.name], f.type) for f in self.kept]
        except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
            if watched.error is not None:  # the store failed, not the bytes: not the rows' fault
                raise watched.error from error
            message = f"row group {group}: {error}"
            return self._piece(pa.nulls(rows, pa.string()), None, _dead(rows, "unreadable_row_group", message))
        text, dead = texts(raw[self.text])
        return self._piece(text, kept, dead)

    def _piece(self, text: pa.Array, kept: list[pa.ChunkedArray] | None, dead: tuple[pa.Array, pa.Array]) -> pa.Table:
        values = kept if kept is not None else [pa.nulls(len(text), f.type) for f in self.kept]
        names = [*self.kept.names, s.TEXT, s.DEAD_REASON, s.DEAD_MESSAGE]
        return pa.table([*values, text, *dead], names=names)

    def _dead_shard(self, unit: Unit, reason: str, message: str) -> pa.Table:
        piece = self._piece(pa.nulls(1, pa.string()), None, _dead(1, reason, message))
        return self._rows(unit, piece, pa.nulls(1, pa.int64()))

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
            s.DEAD_STAGE: stage,
            s.DEAD_REASON: table[s.DEAD_REASON],
            s.DEAD_MESSAGE: table[s.DEAD_MESSAGE],
        }
        return pa.table(columns, schema=s.rows_schema(self.columns)).combine_chunks()


def version(info: Mapping[str, Any]) -> str:
    """What tells one content of a path from another: its ETag where the store has one, else its size."""
    etag = info.get("ETag") or info.get("etag")
    return str(etag).strip('"') if etag else str(info["size"])


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    return any(check(kind) for check in checks)


def texts(column: pa.ChunkedArray) -> tuple[pa.Array, tuple[pa.Array, pa.Array]]:
    """Valid UTF-8 texts, null where a row is dead, and the (reason, message) of each dead row."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    raw = one_chunk(column.cast(kind).cast(pa.binary()))
    null = pc.is_null(raw)
    bad = _invalid_utf8(raw)
    text = pc.if_else(bad, pa.scalar(None, pa.binary()), raw).cast(pa.string())
    none = pa.scalar(None, pa.string())
    reason = pc.case_when(pc.make_struct(null, bad), "null_text", "invalid_utf8", none)
    messages = ("the text is null", "the text is not valid UTF-8")
    return text, (reason, pc.case_when(pc.make_struct(null, bad), *messages, none))


def _invalid_utf8(raw: pa.Array) -> pa.BooleanArray:
    """Bisects to the bad rows: one check for a clean column, a few more for each bad row."""
    bad = np.zeros(len(raw), dtype=np.bool_)
    pending = [(0, len(raw))]
    while pending:
        first, last = pending.pop()
        try:
            raw.slice(first, last - first).cast(pa.string())
        except pa.ArrowInvalid:
            if last - first == 1:
                bad[first] = True
            else:
                middle = (first + last) // 2
                pending += [(first, middle), (middle, last)]
    return pa.array(bad)


def cast_column(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """`column` as `kind`; invalid UTF-8 in a string column is an ArrowInvalid, not a surprise later."""
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column.validate(full=True)
    return column.cast(kind)


def constant(value: Any, kind: pa.DataType, rows: int) -> pa.Array:
    """`rows` times the same value."""
    return pa.repeat(pa.scalar(value).cast(kind) if value is not None else pa.scalar(None, kind), rows)


def _dead(rows: int, reason: str, message: str) -> tuple[pa.Array, pa.Array]:
    return constant(reason, pa.string(), rows), constant(message, pa.string(), rows)


class WatchedFile:
    """A file that remembers its own failure: Arrow reports a failing store and bad bytes alike, as OSError."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.error: Exception | None = None
        self.closed = False

    def read(self, size: int = -1) -> bytes:
        try:
            data: bytes = self._file.read(size)
        except Exception as error:
            self.error = error
            raise
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self.closed = True
