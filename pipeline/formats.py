"""Files that are no Parquet as record batches: JSON lines, CSV, plain text, and Arrow's own."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from distilray.pipeline.errors import JobError

Batches = Iterator[pa.RecordBatch]

# format -> endings of its files, before those of a compression
ENDINGS = {
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "text": (".txt",),
    "arrow": (".arrow", ".arrows", ".feather"),
}
COMPRESSED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
DECLARED = ("jsonl", "csv")  # have no types of their own

_BLOCK = 2**26  # bytes that are parsed at a time: no line may be longer
_MAGIC = b"ARROW1"


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
    yield from pa.csv.open_csv(
        file,
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


def _text(file: pa.NativeFile, _: pa.Schema) -> Batches:
    """A row for each line, which ends with a line feed or with a carriage return before one."""
    yield _lines([])
    rest = b""
    while block := file.read(_BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > _BLOCK:
            raise pa.ArrowInvalid(f"a line is longer than {_BLOCK} bytes")
        yield _lines(lines)
    yield _lines([rest] if rest else [])


def _lines(lines: Sequence[bytes]) -> pa.RecordBatch:
    text = pa.array(lines, pa.binary())
    text = pc.if_else(pc.ends_with(text, b"\r"), pc.binary_slice(text, 0, -1), text)
    return pa.record_batch([pa.StringArray.from_buffers(len(text), *text.buffers()[1:])], ["text"])


def _arrow(file: pa.NativeFile, _: pa.Schema) -> Batches:
    """A stream, or a file with a footer: the format says how each begins. Nothing in it may point out of it."""
    opened = _opened(file)
    yield _nothing(opened.schema)
    batches = opened if hasattr(opened, "read_next_batch") else map(opened.get_batch, range(opened.num_record_batches))
    for batch in batches:
        batch.validate(full=True)
        yield batch


def _opened(file: pa.NativeFile) -> Any:
    if file.seekable():
        is_file = file.read(len(_MAGIC)) == _MAGIC
        file.seek(0)
        if is_file:
            return pa.ipc.open_file(file)
    return pa.ipc.open_stream(file)


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
