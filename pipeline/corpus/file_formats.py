"""Files that are no Parquet as record batches: JSON lines, CSV, plain text, and Arrow's own."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from distilray.pipeline.corpus.file_names import COMPRESSED
from distilray.pipeline.errors import JobError

Batches = Iterator[pa.RecordBatch]


_BLOCK = 2**26  # bytes that are parsed at a time: no line may be longer
_PIECE = 2**22  # bytes of plain text at a time: an array of their lines' ends has eight times as many at worst
_HEADER = 2**20  # bytes that hold the header of a CSV file
_MAGIC = b"ARROW1"
_LINE_FEED, _RETURN = 10, 13


def read_batches(file: Any, name: str, kind: str, columns: pa.Schema) -> Batches:
    """The rows of an open file, which is decompressed if its name says so, in order; the first batch has none.

    columns: of the declared formats. Raises what Arrow raises for a line that is not what the format or the columns want.
    """
    codec = next((codec for ending, codec in COMPRESSED.items() if name.endswith(ending)), None)
    plain = pa.PythonFile(file, mode="r")
    return _READERS[kind](pa.CompressedInputStream(plain, codec) if codec else plain, columns)


def _nothing(schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], field.type) for field in schema], schema=schema)


def _jsonl(file: pa.NativeFile, columns: pa.Schema) -> Batches:
    options = pa.json.ParseOptions(explicit_schema=columns, unexpected_field_behavior="ignore")
    yield _nothing(columns)
    try:
        reader = pa.json.open_json(file, pa.json.ReadOptions(block_size=_BLOCK), options)
    except pa.ArrowInvalid as error:
        if str(error) == "Empty JSON stream":  # no line, no row
            return
        raise
    yield from reader


def _csv(file: pa.NativeFile, columns: pa.Schema) -> Batches:
    """Nothing but an empty field is null, and of strings not even that; the texts' UTF-8 is checked when a job reads them."""
    yield _nothing(columns)
    ahead = io.BufferedReader(file, _HEADER)
    names = _header(ahead.peek())
    if missing := [name for name in columns.names if name not in names]:
        has = ", ".join(names)
        raise pa.ArrowInvalid(f"column {', '.join(missing)} is missing; the header has {has} (commas separate columns)")
    _check_once(names, columns.names)
    yield from pa.csv.open_csv(
        ahead,
        pa.csv.ReadOptions(block_size=_BLOCK),
        pa.csv.ParseOptions(newlines_in_values=True),
        pa.csv.ConvertOptions(
            include_columns=columns.names,
            column_types=columns,
            check_utf8=False,
            null_values=[""],
            strings_can_be_null=False,
        ),
    )


def _header(begin: bytes) -> list[str]:
    """The names in the first line of a CSV file; the last row of its beginning may be cut."""
    options = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda _: "skip")
    names: list[str] = pa.csv.open_csv(pa.BufferReader(begin), parse_options=options).schema.names
    return names


def _check_once(names: Sequence[str], wanted: Sequence[str]) -> None:
    if twice := [name for name in dict.fromkeys(wanted) if names.count(name) > 1]:
        raise pa.ArrowInvalid(f"column {', '.join(twice)} is there more than once")


def _text(file: pa.NativeFile, _: pa.Schema) -> Batches:
    """A row for each line, which ends with a line feed or with a carriage return before one."""
    yield _lines(b"")
    rest = b""
    while piece := file.read(_PIECE):
        lines, end, rest = (rest + piece).rpartition(b"\n")
        if len(rest) > _BLOCK:
            raise pa.ArrowInvalid(f"a line is longer than {_BLOCK} bytes")
        yield _lines(lines + end)
    yield _lines(rest + b"\n" if rest else b"")


def _lines(data: bytes) -> pa.RecordBatch:
    """The lines of bytes that end with a line feed, if they are any."""
    raw = np.frombuffer(data, np.uint8)
    wanted = raw != _LINE_FEED
    ends = np.flatnonzero(~wanted)
    returned = raw[ends - 1] == _RETURN  # before the first byte is the last one, a line feed
    wanted[ends[returned] - 1] = False
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends - np.arange(len(ends)) - np.cumsum(returned)
    text = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(raw[wanted]))
    return pa.record_batch([text], ["text"])


class _Stream:
    """An Arrow stream that remembers whether it was read to its end: to Arrow that is as good as the end-of-stream marker."""

    def __init__(self, file: pa.NativeFile) -> None:
        self._file = file
        self.ended = self.closed = False

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self.ended |= len(data) < size
        return data

    def close(self) -> None:
        self.closed = True


def _arrow(file: pa.NativeFile, _: pa.Schema) -> Batches:
    """A stream, or a file with a footer: the format says how each begins. Nothing in it may point out of it."""
    stream = None if _has_footer(file) else _Stream(file)
    opened = pa.ipc.open_stream(pa.PythonFile(stream, mode="r")) if stream else pa.ipc.open_file(file)
    _check_once(opened.schema.names, opened.schema.names)
    yield _nothing(opened.schema)
    for batch in opened if stream else map(opened.get_batch, range(opened.num_record_batches)):
        batch.validate(full=True)
        yield batch
    if stream and stream.ended:
        raise pa.ArrowInvalid(
            "the stream ends without its end-of-stream marker: it is cut, or its writer was not closed; get it whole"
        )
    if stream and file.read(1):
        raise pa.ArrowInvalid("something comes after the end of the stream: a file may have one stream")


def _has_footer(file: pa.NativeFile) -> bool:
    if not file.seekable():
        return False
    begin = file.read(len(_MAGIC))
    file.seek(0)
    return bool(begin == _MAGIC)


_READERS: Mapping[str, Callable[[pa.NativeFile, pa.Schema], Batches]] = {
    "jsonl": _jsonl,
    "csv": _csv,
    "text": _text,
    "arrow": _arrow,
}


def parse_columns(said: Sequence[str]) -> pa.Schema:
    """["text", "year:int64", "endings:list<string>"] as a schema; string where no type is said. Raises JobError."""
    fields = []
    for column in said:
        name, _, kind = column.partition(":")
        inner = kind.removeprefix("list<").removesuffix(">") if kind.startswith("list<") and kind.endswith(">") else ""
        try:
            found = pa.type_for_alias(inner or kind or "string")
        except ValueError:
            raise JobError(f"columns: expected NAME or NAME:TYPE, such as year:int64, got {column}") from None
        fields.append(pa.field(name, pa.list_(found) if inner else found))
    names = [field.name for field in fields]
    if wrong := [name for name in names if not name or names.count(name) > 1]:
        raise JobError(f"columns: expected names that differ, got {', '.join(wrong) or 'an empty one'}")
    return pa.schema(fields)
