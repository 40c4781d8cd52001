"""The check of a unit's objects: they are read whole, and their rows are compared with the plan."""

import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distilray.operators.rows import schema as s
from distilray.operators.rows.unit import Unit
from distilray.pipeline.sink.output import Output
from distilray.pipeline.sink.reconcile import READ_ERRORS

RECOMPUTE_UNIT_ADVICE = "remove data/{}.parquet and run the job again"
_DEAD_SCHEMA = pa.schema(list(s.DEAD)[:5])  # without "text", which dead letters have only since version 0.4


@dataclass(frozen=True)
class UnitCheck:
    """The rows, dead letters and bytes in a unit's objects, and their problems."""

    rows: int = 0
    dead_letters: int = 0
    bytes: int = 0
    problems: tuple[str, ...] = ()


def check_unit(
    output: Output, unit: Unit, has_dead_letters: bool, schema: pa.Schema | None, checksums: bool
) -> UnitCheck:
    """Compare the shards and row numbers in a unit's objects with the plan.

    has_dead_letters: whether the unit has an object in dead/. schema: of the unit's data object, None if it is unknown.
    checksums: whether to read all columns, which verifies the checksums of their pages. Raises StoreError if the store
    fails, FileNotFoundError if an object is missing.
    """
    rows, problems, size = [], [], 0
    for folder, expected in (("data", schema), *([("dead", _DEAD_SCHEMA)] if has_dead_letters else [])):
        name = f"{folder}/{unit.name}.parquet"
        # outside the try, because a failure of the store is not a problem of the output
        data = output.fs.cat_file(f"{output.root}/{name}")
        size += len(data)
        try:
            numbers, file_problems = _row_numbers(data, unit, expected, checksums)
        except READ_ERRORS as error:
            numbers, file_problems = np.empty(0, dtype=np.int64), [f"cannot be read: {_first_line(error)}"]
        rows.append(numbers)
        problems += [f"{name} {problem}: {RECOMPUTE_UNIT_ADVICE.format(unit.name)}" for problem in file_problems]
    counts = [len(numbers) for numbers in rows]
    if not problems and (rows_problem := _rows_problem(np.concatenate(rows), unit)):
        problems.append(f"data/{unit.name}.parquet {rows_problem}: {RECOMPUTE_UNIT_ADVICE.format(unit.name)}")
    return UnitCheck(counts[0], sum(counts[1:]), size, tuple(problems))


def _row_numbers(
    data: bytes, unit: Unit, expected: pa.Schema | None, checksums: bool
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[str]]:
    """Return the row numbers in a file, with -1 for null, and the problems of the file.

    Raises one of READ_ERRORS if the file is broken.
    """
    file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    schema = file.schema_arrow.remove_metadata()
    if expected is _DEAD_SCHEMA:
        schema = pa.schema(list(schema)[: len(expected)])
    if expected is not None and not schema.equals(expected):
        return np.empty(0, dtype=np.int64), [f"does not have the planned schema: {_difference(schema, expected)}"]
    problems, rows = [], []
    for batch in file.iter_batches(columns=None if checksums else [s.SHARD, s.ROW]):
        rows.append(pc.fill_null(batch[s.ROW], -1).to_numpy())
        if batch.num_rows and not pc.all(pc.equal(batch[s.SHARD], unit.uri), min_count=0).as_py():
            problems.append(f"has rows of another shard than {unit.uri}")
    return np.concatenate([np.empty(0, dtype=np.int64), *rows]), problems[:1]


def _rows_problem(rows: np.ndarray[tuple[int], np.dtype[np.int64]], unit: Unit) -> str | None:
    """Return how the rows of data and dead letters differ from the planned rows, or None.

    Each planned row must occur once.
    """
    planned = np.full(1, -1) if unit.error else np.arange(unit.first_row, unit.first_row + unit.rows)
    present, times = np.unique(rows, return_counts=True)
    missing, repeated = np.setdiff1d(planned, present), present[times > 1]
    foreign = np.setdiff1d(present, planned)
    problems = [
        f"{len(numbers)} rows {problem}, such as {numbers[0]}"
        for numbers, problem in (
            (missing, "are missing"),
            (repeated, "occur more than once"),
            (foreign, "belong to another unit"),
        )
        if len(numbers)
    ]
    return f"and its dead letters do not have the planned rows: {'; '.join(problems)}" if problems else None


def _difference(schema: pa.Schema, expected: pa.Schema) -> str:
    """Describe the first column that differs."""
    for i in range(max(len(schema), len(expected))):
        got, planned = (str(each.field(i)) if i < len(each) else "none" for each in (schema, expected))
        if got != planned:
            return f"column {i} is {got}, not {planned}"
    return "the order of its columns differs"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
