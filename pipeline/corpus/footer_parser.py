"""The process that parses untrusted footers. A hostile footer may end it inside Arrow's C++ code, past any `except`.

`footer_pool` runs this file as a script. The script imports no other part of distilray, so that it starts in a tenth of
a second. A request has many footers, and each footer gets one reply. Requests and replies are msgpack messages. The
length of a message, in 8 bytes, precedes it.
"""

import resource
import signal
import sys
from collections.abc import Collection, Mapping
from typing import Any, BinaryIO

if __name__ == "__main__":
    sys.modules["numpy"] = None  # type: ignore[assignment]  # pyarrow works without it, and starts in half the time

import msgpack
import pyarrow as pa
import pyarrow.parquet as pq

_MEMORY = 2**31  # bytes of address space: a footer may claim counts and lengths of any size
_SECONDS = 60.0  # CPU seconds for a request


def main() -> None:
    """Answer requests until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver handles Ctrl-C, and closes the pipe
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    send(sys.stdout.buffer, {})  # reports that this process has started
    while (request := receive(sys.stdin.buffer)) is not None:
        signal.setitimer(signal.ITIMER_PROF, _SECONDS)
        schemas: dict[pa.Schema, int] = {}
        for footer in request["footers"]:
            send(sys.stdout.buffer, _answer(footer, set(request["texts"]), schemas))


def send(pipe: BinaryIO, message: Mapping[str, Any]) -> None:
    """Write a message to a pipe. Raises OSError if the reader has closed it."""
    data = msgpack.packb(message)
    pipe.write(len(data).to_bytes(8, "little") + data)
    pipe.flush()


def receive(pipe: BinaryIO) -> dict[str, Any] | None:
    """Read the next message from a pipe, or return None at its end."""
    length = pipe.read(8)
    data = pipe.read(int.from_bytes(length, "little")) if len(length) == 8 else b""
    if len(length) < 8 or len(data) < int.from_bytes(length, "little"):
        return None
    message: dict[str, Any] = msgpack.unpackb(data)
    return message


def _answer(footer: bytes, texts: Collection[str], schemas: dict[pa.Schema, int]) -> dict[str, Any]:
    """Return the reply for a footer: its problem, or its row groups and the number of its schema.

    texts: the columns whose bytes are summed. schemas: the schemas of this request so far, each with its number. A new
    schema is added to them and serialized into the reply.
    """
    try:
        metadata = pq.read_metadata(pa.BufferReader(footer))
        schema, groups = metadata.schema.to_arrow_schema(), _groups(metadata, texts)
        if (number := schemas.get(schema)) is not None:
            return {"groups": groups, "schema": number}
        new = schema.serialize()
        pa.ipc.read_schema(new)  # fails here if it would fail in the driver
    except Exception as error:  # invalid footers raise errors of Arrow, UTF-8, memory and others
        lines = str(error).strip().splitlines()
        return {"wrong": f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__}
    number = schemas[schema] = len(schemas)
    return {"groups": groups, "schema": number, "new": new.to_pybytes()}


def _groups(metadata: pq.FileMetaData, texts: Collection[str]) -> list[tuple[int, int]]:
    """Return (rows, uncompressed bytes of text) of each row group.

    Raises ValueError if the numbers are negative or inconsistent.
    """
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if any(group.num_columns != metadata.num_columns for group in groups):
        raise ValueError(f"a row group does not have the {metadata.num_columns} columns of the schema")
    counts = [(group.num_rows, _text_size(group, texts)) for group in groups]
    if any(rows < 0 or size < 0 for rows, size in counts):
        raise ValueError("the footer has a negative number of rows or bytes")
    if (rows_of_groups := sum(rows for rows, _ in counts)) != metadata.num_rows:
        raise ValueError(f"the footer has {metadata.num_rows} rows, its row groups have {rows_of_groups}")
    return counts


def _text_size(group: pq.RowGroupMetaData, texts: Collection[str]) -> int:
    columns = (group.column(i) for i in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema.split(".")[0] in texts)


if __name__ == "__main__":
    main()
