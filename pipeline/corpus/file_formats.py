"""Readers of JSON lines, CSV, plain text and Arrow files, as record batches."""

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

_BLOCK = 2**26  # bytes that are parsed at a time; a line cannot be longer
_PIECE = 2**22  # bytes of plain text that are read at a time; the array of line ends may be eight times as large
_HEADER = 2**20  # bytes that must hold the header of a CSV file
_MAGIC = b"ARROW1"
_LINE_FEED, _RETURN = 10, 13


def read_batches(file: Any, name: str, kind: str, columns: pa.Schema) -> Batches:
    """Read an open file in record batches, in order. The first batch has no rows, only the schema.

    name: its name, whose ending decides whether it is decompressed. kind: its format. columns: the schema of JSON lines
    or CSV; other formats ignore it. Raises an exception of Arrow for a line that does not fit the format or the
    columns.
    """
    codec = next((codec for ending, codec in COMPRESSED.items() if name.endswith(ending)), None)
    plain = pa.PythonFile(file, mode="r")
    return _READERS[kind](pa.CompressedInputStream(plain, codec) if codec else plain, columns)


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], field.type) for field in schema], schema=schema)


def _jsonl(file: pa.NativeFile, columns: pa.Schema) -> Batches:
    options = pa.json.ParseOptions(explicit_schema=columns, unexpected_field_behavior="ignore")
    yield _empty(columns)
    try:
        reader = pa.json.open_json(file, pa.json.ReadOptions(block_size=_BLOCK), options)
    except pa.ArrowInvalid as error:
        if str(error) == "Empty JSON stream":  # a file without lines has no rows
            return
        raise
    yield from reader


def _csv(file: pa.NativeFile, columns: pa.Schema) -> Batches:
    """Read CSV. An empty field is null, or an empty string in a string column.

    The UTF-8 of texts is checked later, when a job reads them.
    """
    yield _empty(columns)
    buffered = io.BufferedReader(file, _HEADER)
    names = _header(buffered.peek())
    if missing := [name for name in columns.names if name not in names]:
        header = ", ".join(names)
        raise pa.ArrowInvalid(
            f"column {', '.join(missing)} is missing; the header has {header} (commas separate columns)"
        )
    _check_unique(names, columns.names)
    yield from pa.csv.open_csv(
        buffered,
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
    """Return the column names in the first line of a CSV file. begin: its first bytes, which may end inside a row."""
    options = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda _: "skip")
    names: list[str] = pa.csv.open_csv(pa.BufferReader(begin), parse_options=options).schema.names
    return names


def _check_unique(names: Sequence[str], required: Sequence[str]) -> None:
    if repeated := [name for name in dict.fromkeys(required) if names.count(name) > 1]:
        raise pa.ArrowInvalid(f"column {', '.join(repeated)} occurs more than once: column names must differ")


def _text(file: pa.NativeFile, _: pa.Schema) -> Batches:
    """Read each line as a row. A line ends with a line feed, or with a carriage return and a line feed."""
    yield _lines(b"")
    rest = b""
    while piece := file.read(_PIECE):
        lines, end, rest = (rest + piece).rpartition(b"\n")
        if len(rest) > _BLOCK:
            raise pa.ArrowInvalid(f"a line is longer than the limit of {_BLOCK} bytes: split it")
        yield _lines(lines + end)
    yield _lines(rest + b"\n" if rest else b"")


def _lines(data: bytes) -> pa.RecordBatch:
    """Split bytes into lines. The bytes end with a line feed, or are empty."""
    raw = np.frombuffer(data, np.uint8)
    kept = raw != _LINE_FEED
    ends = np.flatnonzero(~kept)
    with_return = raw[ends - 1] == _RETURN  # index -1 is the last byte, which is a line feed
    kept[ends[with_return] - 1] = False
    offsets = np.zeros(len(ends) + 1, np.int32)
    offsets[1:] = ends - np.arange(len(ends)) - np.cumsum(with_return)
    text = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(raw[kept]))
    return pa.record_batch([text], ["text"])


class _Stream:
    """A file that records whether it was read to its end.

    Arrow accepts the end of a file in place of the end-of-stream marker. `ended` shows whether the file ended.
    """

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
    """Read an Arrow stream, or an Arrow file with a footer. The first bytes show which of them it is.

    Batches are validated, because the offsets in an untrusted file may point outside of it.
    """
    stream = None if _has_footer(file) else _Stream(file)
    opened = pa.ipc.open_stream(pa.PythonFile(stream, mode="r")) if stream else pa.ipc.open_file(file)
    _check_unique(opened.schema.names, opened.schema.names)
    yield _empty(opened.schema)
    for batch in opened if stream else map(opened.get_batch, range(opened.num_record_batches)):
        batch.validate(full=True)
        yield batch
    if stream and stream.ended:
        raise pa.ArrowInvalid(
            "the stream ends without its end-of-stream marker: it is truncated, or its writer was not closed; get a "
            "complete file"
        )
    if stream and file.read(1):
        raise pa.ArrowInvalid("there are bytes after the end of the stream: put each stream into a file of its own")


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


def parse_columns(columns: Sequence[str]) -> pa.Schema:
    """Parse columns such as ["text", "year:int64", "tags:list<string>"] into a schema. The default type is string.

    Raises JobError if a type is unknown, or if names are empty or equal.
    """
    fields = []
    for column in columns:
        name, _, kind = column.partition(":")
        inner = kind.removeprefix("list<").removesuffix(">") if kind.startswith("list<") and kind.endswith(">") else ""
        try:
            data_type = pa.type_for_alias(inner or kind or "string")
        except ValueError:
            raise JobError(f"columns: expected NAME or NAME:TYPE, such as year:int64, got {column}") from None
        fields.append(pa.field(name, pa.list_(data_type) if inner else data_type))
    names = [field.name for field in fields]
    if invalid := [name for name in names if not name or names.count(name) > 1]:
        raise JobError(f"columns: expected names that differ, got {', '.join(invalid) or 'an empty one'}")
    return pa.schema(fields)
