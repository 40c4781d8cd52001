"""The plan: every unit of a corpus, from the shards' footers alone."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any
from urllib.parse import unquote

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from distilray.operators.read import TEXT_TYPES, Read, Unit, WatchedFile, is_text, version
from distilray.pipeline.errors import JobError
from distilray.pipeline.job import Source

_FOOTER_THREADS = 32  # a footer is two small requests: many at once, or 100,000 shards take hours
_PROBLEMS_SHOWN = 5
_ENDINGS = (".parquet", ".parq", ".pq")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Shard:
    """A file of the corpus. size: bytes; groups: (rows, uncompressed bytes of text) of each row group.

    error: (reason, message) if its rows cannot be read at all.
    """

    uri: str
    version: str
    size: int
    schema: pa.Schema | None = None
    groups: tuple[tuple[int, int], ...] = ()
    error: tuple[str, str] | None = None

    @property
    def rows(self) -> int:
        return sum(rows for rows, _ in self.groups)


@dataclass(frozen=True)
class Plan:
    """What a run has to do. read: how rows are read; units: in the order of the corpus."""

    read: Read
    units: tuple[Unit, ...]
    shards: int
    bytes: int
    text_bytes: int

    @property
    def rows(self) -> int:
        """Rows to answer, those of unreadable shards not counted: nobody knows how many they are."""
        return sum(unit.rows for unit in self.units if unit.error is None)

    @property
    def dead_shards(self) -> int:
        return sum(unit.error is not None for unit in self.units)


@dataclass(frozen=True)
class Corpus:
    """Every shard, checked, and how its rows are read."""

    read: Read
    shards: tuple[Shard, ...]

    def plan(self, unit_bytes: int) -> Plan:
        """Cut into units of about `unit_bytes` of text."""
        cut = (unit for shard in self.shards for unit in _cut(shard, self.read.partitions, unit_bytes))
        units = tuple(_named(unit, number) for number, unit in enumerate(cut))
        text_bytes = sum(size for shard in self.shards for _, size in shard.groups)
        return Plan(self.read, units, len(self.shards), sum(shard.size for shard in self.shards), text_bytes)


def survey(source: Source) -> Corpus:
    """Lists the shards, reads their footers and checks their schemas.

    Raises JobError if there are no shards, if none can be read, or if a column that the job names is in none of
    them. A single bad shard is no error: it becomes a dead letter.
    """
    found = list(list_shards(source))
    if not found:
        raise JobError(f"no .parquet files in {', '.join(source.uris)}")
    with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
        shards = list(pool.map(lambda item: read_footer(source, *item), found))
    partitions = infer_partitions([partition_values(shard.uri) for shard in shards])
    kept = _kept_schema(shards, source, partitions)
    read = Read(source.text, kept, partitions, source.storage_options)
    return Corpus(read, tuple(_check_schema(shard, source.text, kept) for shard in shards))


def list_shards(source: Source) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(URI, file info) of every Parquet file, sorted within each of the source's URIs.

    Files and folders whose names start with "_" or "." are not part of a corpus. Raises JobError if a place cannot
    be listed, or is named twice.
    """
    seen: set[str] = set()
    for uri in source.uris:
        try:
            fs, path = fsspec.url_to_fs(uri, **source.storage_options)
            fs.invalidate_cache()  # fsspec keeps listings for as long as the process lives
            infos = _find(fs, path, uri)
        except Exception as error:  # every store has its own exceptions; all of them mean "cannot be listed"
            raise JobError(f"cannot list source {uri}: {explain(error)}") from error
        for name in sorted(infos):
            shard = fs.unstrip_protocol(name) if "://" in uri else name
            if shard in seen:
                raise JobError(f"{shard} is named twice by source.uri: its rows would be answered twice")
            seen.add(shard)
            yield shard, infos[name]


def _find(fs: fsspec.AbstractFileSystem, path: str, uri: str) -> dict[str, Mapping[str, Any]]:
    """Files under a folder, those a glob matches (or has under a folder it matches), or the one file."""
    try:
        info = fs.info(path)
    except FileNotFoundError:
        if not any(mark in path for mark in "*?["):
            raise FileNotFoundError(f"no such file, folder or bucket: {uri}") from None
    else:
        return {path: info} if info["type"] == "file" else _files(fs, path)
    matches = fs.glob(path, detail=True)
    files = {name: info for name, info in matches.items() if info["type"] == "file" and not _is_hidden(name)}
    folders = (name for name, info in matches.items() if info["type"] != "file" and not _is_hidden(name))
    return files | {name: info for folder in folders for name, info in _files(fs, folder).items()}


def _files(fs: fsspec.AbstractFileSystem, folder: str) -> dict[str, Mapping[str, Any]]:
    found = fs.find(folder, detail=True).items()
    return {
        name: info
        for name, info in found
        if name.endswith(_ENDINGS) and not any(map(_is_hidden, name.removeprefix(folder).split("/")))
    }


def _is_hidden(path: str) -> bool:
    return path.rsplit("/", 1)[-1].startswith(("_", "."))


def explain(error: Exception) -> str:
    """One line for an exception of a store; the type tells what its text often does not."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def read_footer(source: Source, uri: str, info: Mapping[str, Any]) -> Shard:
    """The shard's schema and row groups; bytes that are no Parquet make a dead shard, a failing store a JobError."""
    shard = Shard(uri, version(info), info["size"])
    if shard.size == 0:
        return replace(shard, error=("unreadable_shard", "the file is empty (0 bytes)"))
    watched = None
    try:
        fs, path = fsspec.url_to_fs(uri, **source.storage_options)
        with fs.open(path, "rb", cache_type="none") as file:
            watched = WatchedFile(file)
            metadata = pq.read_metadata(pa.PythonFile(watched, mode="r"))
            return replace(shard, schema=metadata.schema.to_arrow_schema(), groups=_groups(metadata, source.text))
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        if watched is None or watched.error is not None:
            raise JobError(f"cannot read shard {uri}: {explain(error)}") from error
        return replace(shard, error=("unreadable_shard", f"not a whole Parquet file: {explain(error)}"))


def _groups(metadata: pq.FileMetaData, text: str) -> tuple[tuple[int, int], ...]:
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    return tuple((group.num_rows, _text_size(group, text)) for group in groups)


def _text_size(group: pq.RowGroupMetaData, text: str) -> int:
    columns = (group.column(i) for i in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text)


def partition_values(uri: str) -> dict[str, str | None]:
    """The hive keys in a path: ".../year=2024/part-0.parquet" gives {"year": "2024"}."""
    pairs = (part.split("=", 1) for part in uri.split("/")[:-1] if "=" in part)
    return {unquote(key): None if value == _NULL_PARTITION else unquote(value) for key, value in pairs}


def infer_partitions(found: Sequence[Mapping[str, str | None]]) -> pa.Schema:
    """One type a key over the whole corpus: int64 if every value is a whole number, else string."""
    names = dict.fromkeys(name for values in found for name in values)
    return pa.schema([(name, _partition_type({values.get(name) for values in found})) for name in names])


def _partition_type(values: set[str | None]) -> pa.DataType:
    whole = all(value is None or re.fullmatch(r"-?\d{1,18}", value) for value in values)
    return pa.int64() if whole and values != {None} else pa.string()


def _kept_schema(shards: Sequence[Shard], source: Source, partitions: pa.Schema) -> pa.Schema:
    """The kept columns with the types of the first shard that has them all and the text."""
    wanted = [name for name in source.keep if name not in partitions.names]
    problems = []
    for shard in shards:
        schema = shard.schema if shard.schema is not None else pa.schema([])
        problem = shard.error[1] if shard.error else _schema_error(schema, source.text, wanted)
        if problem is None:
            return pa.schema([_plain(schema.field(name)) for name in wanted])
        problems.append(f"{shard.uri}: {problem}")
    raise JobError("\n  ".join([f"none of {len(shards)} shards can be used", *problems[:_PROBLEMS_SHOWN]]))


def _plain(field: pa.Field) -> pa.Field:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return pa.field(field.name, kind)


def _schema_error(schema: pa.Schema, text: str, wanted: Sequence[str]) -> str | None:
    missing = [name for name in dict.fromkeys([text, *wanted]) if name not in schema.names]
    if missing:
        return f"column {', '.join(missing)} is missing; the shard has {', '.join(schema.names)}"
    if not is_text(schema.field(text).type):
        return f"column {text} must be one of {TEXT_TYPES}; it is {schema.field(text).type}"
    return None


def _check_schema(shard: Shard, text: str, kept: pa.Schema) -> Shard:
    """The shard, dead if its columns do not fit the others'."""
    if shard.schema is None:
        return shard
    problem = _schema_error(shard.schema, text, kept.names) or _cast_error(shard.schema, kept)
    return replace(shard, error=("schema_mismatch", problem), groups=()) if problem else shard


def _cast_error(schema: pa.Schema, kept: pa.Schema) -> str | None:
    for field in kept:
        try:
            pa.nulls(0, _plain(schema.field(field.name)).type).cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return f"column {field.name} is {schema.field(field.name).type}; the other shards have {field.type}"
    return None


def _cut(shard: Shard, partitions: pa.Schema, unit_bytes: int) -> Iterator[Unit]:
    values = partition_values(shard.uri)
    unit = Unit("", shard.uri, shard.version, (0, 0), 0, 0, 0, tuple(values.get(name) for name in partitions.names))
    if shard.error:
        yield replace(unit, rows=1, error=shard.error)
        return
    for first, last in _runs(shard.groups, unit_bytes):
        rows = sum(rows for rows, _ in shard.groups[first:last])
        before = sum(rows for rows, _ in shard.groups[:first])
        pieces = min(rows, max(1, round(sum(size for _, size in shard.groups[first:last]) / unit_bytes)))
        pieces = pieces if last - first == 1 else 1
        for start, stop in pairwise(rows * piece // pieces for piece in range(pieces + 1)):
            yield replace(unit, row_groups=(first, last), skip=start, first_row=before + start, rows=stop - start)


def _runs(groups: Sequence[tuple[int, int]], unit_bytes: int) -> Iterator[tuple[int, int]]:
    """Runs of row groups with rows in them, each of about `unit_bytes` or one group that is larger."""
    first, rows, size = 0, 0, 0
    for i, (group_rows, group_bytes) in enumerate(groups):
        if rows and size + group_bytes > unit_bytes:
            yield first, i
            first, rows, size = i, 0, 0
        rows += group_rows
        size += group_bytes
    if rows:
        yield first, len(groups)


def _named(unit: Unit, number: int) -> Unit:
    """The object name: sorted like the corpus, and another if the shard or the cut is another."""
    identity = json.dumps([unit.uri, unit.version, unit.first_row, unit.rows])
    return replace(unit, name=f"{number:06d}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}")
