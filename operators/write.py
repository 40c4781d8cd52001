"""The write step, which writes the objects of a finished unit.

The step writes the dead letters first. Writing the data object commits the unit.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.storage.store import open_store
from distilray.operators.errors import UnitError
from distilray.operators.objects.object_store import write_object
from distilray.operators.objects.stats import Stats
from distilray.operators.objects.unit_object import encode_parquet, footer, with_dead_letters
from distilray.operators.rows import schema as s
from distilray.operators.rows.timing import Timing, timed, timing_of
from distilray.operators.tasks.task import Task


@dataclass(frozen=True)
class Commit:
    """A committed unit. stats: the statistics, which its footer holds too. timing: the times, which are in no file."""

    stats: Stats
    timing: Timing


@dataclass(frozen=True)
class Write:
    """The write step. It commits the unit of a table.

    It returns a table of one row: the name of the unit and its Stats as JSON.
    """

    uri: str
    tasks: Sequence[Task]
    columns: pa.Schema
    answers: pa.Schema
    dead_text: bool = False
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @timed("write")
    def __call__(self, table: pa.Table) -> pa.Table:
        """Commit the unit of a table.

        Raises UnitError and commits nothing if rows are missing or duplicated, or if the dead letters are too large.
        """
        unit = _whole_unit(table)
        is_dead = pc.is_valid(table[s.DEAD_REASON])
        dead, data = table.filter(is_dead), table.filter(pc.invert(is_dead))
        stats = _stats(data, dead, self.tasks)
        dead_columns = [dead[c] for c in (s.SHARD, s.ROW, s.DEAD_STAGE, s.DEAD_REASON, s.DEAD_MESSAGE)]
        dead_columns.append(dead[s.DEAD_TEXT] if self.dead_text else pa.nulls(dead.num_rows, pa.string()))
        schema = s.data_schema(self.columns, self.answers)
        fs, root = open_store(self.uri, self.storage_options)
        self.commit(
            fs, root, unit, data.select(schema.names).cast(schema), pa.table(dead_columns, schema=s.DEAD), stats
        )
        return pa.table({"unit": [unit], "stats": [json.dumps(asdict(stats))]})

    def commit(self, fs: Any, root: str, unit: str, data: pa.Table, dead: pa.Table, stats: Stats) -> None:
        """Write the objects of a unit.

        An earlier attempt may have left an object in dead/ that this attempt does not write. Such an object
        is an orphan, which the next run or retry removes, see pipeline/sink/reconcile.py.
        """
        metadata = footer(unit, dead, stats)
        if dead.num_rows:
            dead_letters = encode_parquet(dead, metadata)
            metadata = with_dead_letters(metadata, dead_letters)
            write_object(fs, f"{root}/dead/{unit}.parquet", dead_letters)
        write_object(fs, f"{root}/data/{unit}.parquet", encode_parquet(data, metadata))


def commit_of(table: pa.Table) -> Commit:
    """Return the commit in a table that `Write` returned."""
    return Commit(Stats(**json.loads(table["stats"][0].as_py())), timing_of(table))


def _whole_unit(table: pa.Table) -> str:
    """Return the name of the unit. Raises UnitError if the table does not hold exactly the rows of one unit."""
    units = pc.unique(table[s.UNIT]).to_pylist()
    if len(units) != 1:
        raise UnitError(f"expected the rows of one unit, got those of {units}")
    expected = table[s.UNIT_ROWS][0].as_py()
    if table.num_rows != expected:
        raise UnitError(f"unit {units[0]}: expected {expected} rows, got {table.num_rows}; nothing was committed")
    return str(units[0])


def _stats(data: pa.Table, dead: pa.Table, tasks: Sequence[Task]) -> Stats:
    rows = pa.concat_tables([data, dead])
    labels = {task.name: task.labels_to_count(data[task.name]) for task in tasks}
    truncated = {task.name: pc.sum(data[task.truncated_column]).as_py() or 0 for task in tasks if task.truncates}
    return Stats(
        units=1,
        rows=data.num_rows,
        tokens=pc.sum(data[s.TOKENS]).as_py() or 0,
        window_tokens=rows[s.WINDOW_TOKENS][0].as_py(),
        computed_tokens=rows[s.COMPUTED_TOKENS][0].as_py(),
        truncated=truncated,
        dead=_counts(dead[s.DEAD_REASON]),
        labels={name: _counts(column) for name, column in labels.items() if column is not None},
        backends={rows[s.BACKEND][0].as_py(): 1},
        parity=json.loads(rows[s.PARITY][0].as_py()) if s.PARITY in rows.column_names else {},
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = pc.value_counts(column).to_pylist()
    return {pair["values"]: pair["counts"] for pair in sorted(pairs, key=lambda pair: str(pair["values"]))}
