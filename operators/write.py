"""A finished unit to its objects: dead letters first, then the data object, whose put is the commit."""

import base64
import hashlib
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
from distilray.operators.parity import Compared, together
from distilray.operators.storage import put
from distilray.operators.task import Task, truncated_column
from distilray.operators.timing import Timing, timed, timing_of

# in the footers of a unit's objects: its Stats, its name, which dead letters belong to it
STATS_KEY, UNIT_KEY, DEAD_KEY = b"distilray.stats", b"distilray.unit", b"distilray.dead"
LETTERS_KEY = b"distilray.letters"  # of a data object: the object of its dead letters, empty if a retry left none
LETTERS_BYTES = 3 * 2**24  # 64 MiB in base64, half of what pipeline/footers.py reads


class UnitError(RuntimeError):
    """A unit that did not arrive whole at its commit."""


@dataclass(frozen=True)
class Stats:
    """What a unit, or a run, answered. tokens: of the texts; computed_tokens: counted where the model runs;
    window_tokens: what the windows hold, [CLS] and [SEP] and overlaps included; truncated: rows by task;
    dead: rows by reason; labels: counts by task and label; backends: units by what computed them; parity: by task, how
    sampled rows compare with a float32 reference."""

    units: int = 0
    rows: int = 0
    tokens: int = 0
    window_tokens: int = 0
    computed_tokens: int = 0
    truncated: Mapping[str, int] = field(default_factory=dict)
    dead: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    backends: Mapping[str, int] = field(default_factory=dict)
    parity: Mapping[str, Compared] = field(default_factory=dict)

    @property
    def padding(self) -> int:
        """Token positions computed that hold no token."""
        return self.computed_tokens - self.window_tokens

    @property
    def dead_letters(self) -> int:
        return sum(self.dead.values())

    def __add__(self, other: "Stats") -> "Stats":
        mine, others = (
            {**vars(each), "parity": {}} for each in (self, other)
        )  # asdict would copy: dear with 100,000 units
        return Stats(**{**merge(mine, others), "parity": together(self.parity, other.parity)})


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
        self.put(fs, root, unit, data.select(schema.names).cast(schema), pa.table(letters, schema=s.DEAD), stats)
        return pa.table({"unit": [unit], "stats": [json.dumps(asdict(stats))]})

    def put(self, fs: Any, root: str, unit: str, data: pa.Table, dead: pa.Table, stats: Stats) -> None:
        """The objects of a unit. Dead letters that an earlier try left, and this one has not, are orphans: see pipeline/count.py."""
        about = footer(unit, dead, stats)
        if dead.num_rows:
            letters = parquet(dead, about)
            about = with_letters(about, letters)
            put(fs, f"{root}/dead/{unit}.parquet", letters)
        put(fs, f"{root}/data/{unit}.parquet", parquet(data, about))


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
        parity=json.loads(every[s.PARITY][0].as_py()) if s.PARITY in every.column_names else {},
    )


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    pairs = pc.value_counts(column).to_pylist()
    return {pair["values"]: pair["counts"] for pair in sorted(pairs, key=lambda pair: str(pair["values"]))}


def footer(unit: str, dead: pa.Table, stats: Stats) -> dict[bytes, str]:
    """What both objects of a unit say of it."""
    return {STATS_KEY: json.dumps(asdict(stats)), UNIT_KEY: unit, DEAD_KEY: digest(dead)}


def with_letters(about: Mapping[bytes, str], letters: bytes) -> dict[bytes, str]:
    """The footer of a data object that holds its dead letters' object too, so that it can be put again. Raises UnitError for
    more of it than footers are read."""
    if len(letters) > LETTERS_BYTES:
        unit, found, most = about[UNIT_KEY], len(letters) >> 20, LETTERS_BYTES >> 20
        todo = "lower compute.unit_bytes, or leave out their texts (sink.dead_text)"
        raise UnitError(
            f"unit {unit}: its dead letters have {found} MiB, more than {most}; {todo}; nothing was committed"
        )
    return {**about, LETTERS_KEY: base64.b64encode(letters).decode()}


def digest(dead: pa.Table) -> str:
    """Tells which rows are dead and why; messages may differ from try to try."""
    letters = list(zip(dead[s.ROW].to_pylist(), dead[s.REASON].to_pylist(), strict=True))
    return hashlib.sha256(json.dumps(letters).encode()).hexdigest()[:32]


def parquet(table: pa.Table, about: Mapping[bytes, str]) -> bytes:
    """The file in memory: it holds no time and no place, so that the same unit is the same bytes."""
    buffer, plain = io.BytesIO(), table.replace_schema_metadata(None)
    with pq.ParquetWriter(buffer, plain.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(plain)
        writer.add_key_value_metadata(dict(about))  # as the schema's metadata, all of it would be there twice
    return buffer.getvalue()
