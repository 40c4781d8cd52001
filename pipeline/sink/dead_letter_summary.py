"""The dead letters of an output, counted by reason, with examples."""

import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distilray.operators.rows import schema as s
from distilray.pipeline.sink.output import Output
from distilray.pipeline.sink.plan_file import DEAD_ADVICE, as_job_error

_MAX_OBJECTS, _MAX_EXAMPLES, _MAX_CHARACTERS = (
    16,
    3,
    300,
)  # the most objects read, examples of a reason, length of a text


@dataclass(frozen=True)
class DeadLetter:
    """A row without an answer. row: its number, None for a whole shard. text: None if the output does not keep it."""

    shard: str
    row: int | None
    stage: str
    reason: str
    message: str
    text: str | None


@dataclass(frozen=True)
class DeadLetterReason:
    """A reason with the number of its rows, their share of all dead letters, and some examples."""

    name: str
    rows: int
    share: float
    examples: tuple[DeadLetter, ...]


@dataclass(frozen=True)
class DeadLetters:
    """The dead letters of an output.

    read: the number of objects in dead/ that the examples come from. objects: the number of all objects in dead/ that
    belong to committed units.
    """

    reasons: tuple[DeadLetterReason, ...]
    read: int
    objects: int


def read_dead_letters(output: Output, dead: Mapping[str, int], committed: Collection[str]) -> DeadLetters:
    """Read examples of the dead letters of an output.

    dead: the number of rows by reason. committed: the names of the units whose dead letters count. Raises JobError if
    an object was not written by distilray, StoreError if the store fails.
    """
    names = sorted(output.object_sizes("dead").keys() & set(committed)) if dead else []
    picks = np.unique(np.linspace(0, len(names) - 1, min(_MAX_OBJECTS, len(names))).round().astype(int))
    tables = [table for i in picks if (table := _read(output, names[i])) is not None]
    table = pa.concat_tables(tables) if tables else s.DEAD.empty_table()
    total = max(sum(dead.values()), 1)
    ordered = sorted(dead.items(), key=lambda item: (-item[1], item[0]))
    reasons = (DeadLetterReason(name, rows, rows / total, _examples(table, name)) for name, rows in ordered)
    return DeadLetters(tuple(reasons), len(tables), len(names))


def _read(output: Output, name: str) -> pa.Table | None:
    """Read one object of dead/, or return None if it no longer exists because a retry has answered all of its rows."""
    try:
        data = output.fs.cat_file(f"{output.root}/dead/{name}.parquet")
    except FileNotFoundError:
        return None
    with as_job_error(f"{output.uri}/dead/{name}.parquet", DEAD_ADVICE):
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        if "text" not in table.column_names:  # before version 0.4
            table = table.append_column("text", pa.nulls(len(table), pa.string()))
        return table.select(s.DEAD.names).cast(s.DEAD)


def _examples(table: pa.Table, reason: str) -> tuple[DeadLetter, ...]:
    return tuple(dead_letters_of(table.filter(pc.equal(table[s.REASON], reason)).slice(0, _MAX_EXAMPLES)))


def dead_letters_of(table: pa.Table) -> list[DeadLetter]:
    """Convert a table in the schema of dead/ to dead letters, with long texts and messages cut."""
    return [DeadLetter(**{**row, **_cut_texts(row)}) for row in table.to_pylist()]


def _cut_texts(row: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: _cut(row[name]) for name in (s.MESSAGE, "text")}


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= _MAX_CHARACTERS:
        return text
    return f"{text[:_MAX_CHARACTERS]}\u2026 (of {len(text):,} characters)"
