"""A finished unit to its objects: dead letters first, then the data object, whose put is the commit."""

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
    """A unit whose object was put: what it holds, which is in its footer too, and how long it took, which is not."""

    stats: Stats
    timing: Timing


@dataclass(frozen=True)
class Write:
    """Commits the one unit a table holds; gives a table of one row: the unit's name and its Stats as JSON."""

    uri: str
    tasks: Sequence[Task]
    columns: pa.Schema
    answers: pa.Schema
    dead_text: bool = False
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @timed("write")
    def __call__(self, table: pa.Table) -> pa.Table:
        """Raises UnitError, and commits nothing, if rows are missing or doubled."""
        unit = _whole_unit(table)
        is_dead = pc.is_valid(table[s.DEAD_REASON])
        dead, data = table.filter(is_dead), table.filter(pc.invert(is_dead))
        stats = _stats(data, dead, self.tasks)
        letters = [dead[c] for c in (s.SHARD, s.ROW, s.DEAD_STAGE, s.DEAD_REASON, s.DEAD_MESSAGE)]
        letters.append(dead[s.DEAD_TEXT] if self.dead_text else pa.nulls(dead.num_rows, pa.string()))
        schema = s.data_schema(self.columns, self.answers)
        fs, root = open_store(self.uri, self.storage_options)
        self.commit(fs, root, unit, data.select(schema.names).cast(schema), pa.table(letters, schema=s.DEAD), stats)
        return pa.table({"unit": [unit], "stats": [json.dumps(asdict(stats))]})

    def commit(self, fs: Any, root: str, unit: str, data: pa.Table, dead: pa.Table, stats: Stats) -> None:
        """The objects of a unit. Dead letters that an earlier try left, and this one has not, are orphans: see pipeline/count.py."""
        about = footer(unit, dead, stats)
        if dead.num_rows:
            letters = encode_parquet(dead, about)
            about = with_dead_letters(about, letters)
            write_object(fs, f"{root}/dead/{unit}.parquet", letters)
        write_object(fs, f"{root}/data/{unit}.parquet", encode_parquet(data, about))


def commit_of(table: pa.Table) -> Commit:
    """The one unit in what `Write` gave."""
    return Commit(Stats(**json.loads(table["stats"][0].as_py())), timing_of(table))


def _whole_unit(table: pa.Table) -> str:
    units = pc.unique(table[s.UNIT]).to_pylist()
    if len(units) != 1:
        raise UnitError(f"expected the rows of one unit, got those of {units}")
    expected = table[s.UNIT_ROWS][0].as_py()
    if table.num_rows != expected:
        raise UnitError(f"unit {units[0]}: expected {expected} rows, got {table.num_rows}; nothing was committed")
    return str(units[0])


def _stats(data: pa.Table, dead: pa.Table, tasks: Sequence[Task]) -> Stats:
    every = pa.concat_tables([data, dead])
    labels = {task.name: task.labels_to_count(data[task.name]) for task in tasks}
    cut = {task.name: pc.sum(data[task.truncated_column]).as_py() or 0 for task in tasks if task.truncates}
    return Stats(
        units=1,
        rows=data.num_rows,
        tokens=pc.sum(data[s.TOKENS]).as_py() or 0,
        window_tokens=every[s.WINDOW_TOKENS][0].as_py(),
        computed_tokens=every[s.COMPUTED_TOKENS][0].as_py(),
        truncated=cut,
        dead=_counts(dead[s.DEAD_REASON]),
        labels={name: _counts(column) for name, column in labels.items() if column is not None},
        backends={every[s.BACKEND][0].as_py(): 1},
        parity=json.loads(every[s.PARITY][0].as_py()) if s.PARITY in every.column_names else {},
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = pc.value_counts(column).to_pylist()
    return {pair["values"]: pair["counts"] for pair in sorted(pairs, key=lambda pair: str(pair["values"]))}
