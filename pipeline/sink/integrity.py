"""The objects of a unit, read whole: which rows they have."""

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
_LETTERS = pa.schema(list(s.DEAD)[:5])  # before version 0.4 there was no text


@dataclass(frozen=True)
class UnitCheck:
    """What was found in a unit's objects."""

    rows: int = 0
    dead_letters: int = 0
    bytes: int = 0
    problems: tuple[str, ...] = ()


def check_unit(output: Output, unit: Unit, dies: bool, schema: pa.Schema | None, checksums: bool) -> UnitCheck:
    """The addresses in a unit's objects against the plan's. dies: it has dead letters; schema: of its data, None if nobody
    knows. Raises StoreError, and FileNotFoundError for an object that is gone."""
    rows, problems, size = [], [], 0
    for folder, wanted in (("data", schema), *([("dead", _LETTERS)] if dies else [])):
        name = f"{folder}/{unit.name}.parquet"
        data = output.fs.cat_file(f"{output.root}/{name}")  # a failing store is no problem of the output
        size += len(data)
        try:
            found, wrong = _addresses(data, unit, wanted, checksums)
        except READ_ERRORS as error:
            found, wrong = np.empty(0, dtype=np.int64), [f"cannot be read: {_first_line(error)}"]
        rows.append(found)
        problems += [f"{name} {problem}: {RECOMPUTE_UNIT_ADVICE.format(unit.name)}" for problem in wrong]
    counts = [len(each) for each in rows]
    if not problems and (wrong_rows := _rows_problem(np.concatenate(rows), unit)):
        problems.append(f"data/{unit.name}.parquet {wrong_rows}: {RECOMPUTE_UNIT_ADVICE.format(unit.name)}")
    return UnitCheck(counts[0], sum(counts[1:]), size, tuple(problems))


def _addresses(
    data: bytes, unit: Unit, wanted: pa.Schema | None, checksums: bool
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], list[str]]:
    """The row numbers in a file, -1 for null, and what is wrong with it. Raises what Arrow does for broken bytes."""
    file = pq.ParquetFile(io.BytesIO(data), page_checksum_verification=True)
    schema = file.schema_arrow.remove_metadata()
    if wanted is _LETTERS:
        schema = pa.schema(list(schema)[: len(wanted)])
    if wanted is not None and not schema.equals(wanted):
        return np.empty(0, dtype=np.int64), [f"has another schema than planned: {_difference(schema, wanted)}"]
    problems, rows = [], []
    for batch in file.iter_batches(columns=None if checksums else [s.SHARD, s.ROW]):
        rows.append(pc.fill_null(batch[s.ROW], -1).to_numpy())
        if batch.num_rows and not pc.all(pc.equal(batch[s.SHARD], unit.uri), min_count=0).as_py():
            problems.append(f"has rows of another shard than {unit.uri}")
    return np.concatenate([np.empty(0, dtype=np.int64), *rows]), problems[:1]


def _rows_problem(rows: np.ndarray[tuple[int], np.dtype[np.int64]], unit: Unit) -> str | None:
    """Data and dead letters together must be the planned rows, each once."""
    planned = np.full(1, -1) if unit.error else np.arange(unit.first_row, unit.first_row + unit.rows)
    found, times = np.unique(rows, return_counts=True)
    foreign, missing, twice = np.setdiff1d(found, planned), np.setdiff1d(planned, found), found[times > 1]
    said = [
        f"{len(each)} rows {what}, such as {each[0]}"
        for each, what in (
            (missing, "neither answered nor dead"),
            (twice, "more than once"),
            (foreign, "of another unit"),
        )
        if len(each)
    ]
    return f"and its dead letters have {'; '.join(said)}" if said else None


def _difference(schema: pa.Schema, wanted: pa.Schema) -> str:
    """The first column that differs."""
    for i in range(max(len(schema), len(wanted))):
        ours, theirs = (str(each.field(i)) if i < len(each) else "none" for each in (schema, wanted))
        if ours != theirs:
            return f"column {i} is {ours}, not {theirs}"
    return "its order differs"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
