"""Reads footers in a process of its own: a hostile one may end the process from inside Arrow, past any `except`.

`footer_pool` runs this file as a script. It imports no other part of distilray, so that it starts in a tenth of a second.
A request has many footers and gets a reply for each, all of them messages of msgpack behind their lengths.
"""

import resource
import signal
import sys
from collections.abc import Collection, Mapping
from typing import Any, BinaryIO

if __name__ == "__main__":
    sys.modules["numpy"] = None  # type: ignore[assignment]  # pyarrow does without, and starts in half the time

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq

_MEMORY = 2**31  # bytes of address space: a footer may claim any number of anything
_SECONDS = 60.0  # of a CPU, for a request


def main() -> None:
    """Answers requests until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the driver, which closes the pipe
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    send(sys.stdout.buffer, {})  # it can start
    while (request := receive(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        schemas: dict[pa.Schema, int] = {}
        for footer in request["footers"]:
            send(sys.stdout.buffer, _answer(footer, set(request["texts"]), schemas))


def send(pipe: BinaryIO, message: Mapping[str, Any]) -> None:
    """Raises OSError if nobody reads it."""
    data = msgpack.packb(message)
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def receive(pipe: BinaryIO) -> dict[str, Any] | None:
    """The next message, None at the end of the pipe."""
    head = pipe.read(8)
    data = pipe.read(int.from_bytes(head, "little")) if len(head) == 8 else b""
    if len(head) < 8 or len(data) < int.from_bytes(head, "little"):
        return None
    message: dict[str, Any] = msgpack.unpackb(data)
    return message


def _answer(footer: bytes, texts: Collection[str], schemas: dict[pa.Schema, int]) -> dict[str, Any]:
    """What is wrong, or the row groups and the number of the schema, serialised where the request had none like it."""
    try:
        metadata = pq.read_metadata(pa.BufferReader(footer))
        schema, groups = metadata.schema.to_arrow_schema(), _groups(metadata, texts)
        if (number := schemas.get(schema)) is not None:
            return {"groups": groups, "schema": number}
        new = schema.serialize()
        pa.ipc.read_schema(new)  # or the driver could not
    except Exception as error:  # Arrow's, of UTF-8, of memory: bytes that are no footer raise what they like
        lines = str(error).strip().splitlines()
        return {"wrong": f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__}
    number = schemas[schema] = len(schemas)
    return {"groups": groups, "schema": number, "new": new.to_pybytes()}


def _groups(metadata: pq.FileMetaData, texts: Collection[str]) -> list[tuple[int, int]]:
    """Rows and uncompressed bytes of text of each row group. Raises ValueError for numbers that cannot be."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if any(group.num_columns != metadata.num_columns for group in groups):
        raise ValueError(f"a row group has not the {metadata.num_columns} columns of the schema")
    found = [(group.num_rows, _text_size(group, texts)) for group in groups]
    if any(rows < 0 or size < 0 for rows, size in found):
        raise ValueError("the footer has a negative number of rows or bytes")
    if sum(rows for rows, _ in found) != metadata.num_rows:
        raise ValueError(f"the footer has {metadata.num_rows} rows, its row groups {sum(rows for rows, _ in found)}")
    return found


def _text_size(group: pq.RowGroupMetaData, texts: Collection[str]) -> int:
    columns = (group.column(i) for i in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema.split(".")[0] in texts)


if __name__ == "__main__":
    main()
