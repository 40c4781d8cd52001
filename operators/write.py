"""A finished unit to its objects: dead letters first, then the data object, whose put is the commit."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distilray.model.metrics import merge
from distilray.model.store import open_store
from distilray.operators import schema as s
from distilray.operators.storage import put, remove
from distilray.operators.task import Task, truncated_column
from distilray.operators.timing import Timing, timed, timing_of

STATS_KEY = b"distilray.stats"


class UnitError(RuntimeError):
    """A unit that did not arrive whole at its commit."""


@dataclass(frozen=True)
class Stats:
    """What a unit, or a run, answered. tokens: of the texts; computed_tokens: counted where the model runs;
    window_tokens: what the windows hold, [CLS] and [SEP] and overlaps included; truncated: rows by task;
    dead: rows by reason; labels: counts by task and label; backends: units by what computed them."""

    units: int = 0
    rows: int = 0
    tokens: int = 0
    window_tokens: int = 0
    computed_tokens: int = 0
    truncated: Mapping[str, int] = field(default_factory=dict)
    dead: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    backends: Mapping[str, int] = field(default_factory=dict)

    @property
    def padding(self) -> int:
        """Token positions computed that hold no token."""
        return self.computed_tokens - self.window_tokens

    @property
    def dead_letters(self) -> int:
        return sum(self.dead.values())

    def __add__(self, other: "Stats") -> "Stats":
        return Stats(**merge(vars(self), vars(other)))  # asdict would copy them: dear with 100,000 units


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
        fs, root = open_store(self.uri, self.storage_options)
        if dead.num_rows:
            columns = [dead[c] for c in (s.SHARD, s.ROW, s.DEAD_STAGE, s.DEAD_REASON, s.DEAD_MESSAGE)]
            columns.append(dead[s.DEAD_TEXT] if self.dead_text else pa.nulls(dead.num_rows, pa.string()))
            put(fs, f"{root}/dead/{unit}.parquet", _parquet(pa.table(columns, schema=s.DEAD), stats))
        elif fs.exists(f"{root}/dead/{unit}.parquet"):  # an earlier try that did not come to its commit
            remove(fs, f"{root}/dead/{unit}.parquet")
        schema = s.data_schema(self.columns, self.answers)
        put(fs, f"{root}/data/{unit}.parquet", _parquet(data.select(schema.names).cast(schema), stats))
        return pa.table({"unit": [unit], "stats": [json.dumps(asdict(stats))]})


def written(table: pa.Table) -> Commit:
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
    labels = {task.name: task.counted(data[task.name]) for task in tasks}
    cut = {task.name: pc.sum(data[truncated_column(task)]).as_py() or 0 for task in tasks if task.truncates}
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
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = pc.value_counts(column).to_pylist()
    return {pair["values"]: pair["counts"] for pair in sorted(pairs, key=lambda pair: str(pair["values"]))}


def _parquet(table: pa.Table, stats: Stats) -> bytes:
    """The file in memory: it holds no time and no place, so that the same unit is the same bytes."""
    buffer = io.BytesIO()
    table = table.replace_schema_metadata({STATS_KEY: json.dumps(asdict(stats))})
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
