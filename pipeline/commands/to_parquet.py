"""Files of other formats to Parquet shards: one for each file, and row n of the one is row n of the other."""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain, open_store
from distilray.operators.objects.object_store import write_streamed
from distilray.operators.objects.watched_file import WatchedFile
from distilray.operators.rows.columns import CORRUPT
from distilray.pipeline.corpus.file_formats import Batches, parse_columns, read_batches
from distilray.pipeline.corpus.file_names import COMPRESSED, DECLARED, ENDINGS
from distilray.pipeline.corpus.footers import read_footers
from distilray.pipeline.corpus.listing import Shard, fixed_part, list_files
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Sink, Source
from distilray.pipeline.sink.output import open_output

_ABOUT = b"distilray.converted"  # in the footer of a shard: of what it was made
_GROUP_BYTES, _GROUP_ROWS = 2**25, 2**16  # of a row group, about
_AHEAD = 2**24  # bytes that are read at a time
_SHOWN = 5  # shards that an error names
_STATE = "state.json"  # of a folder that `save_to_disk` of Hugging Face datasets wrote


@dataclass(frozen=True)
class Converted:
    """What lies in the sink now. new: files that this call converted."""

    files: int
    rows: int
    new: int


@dataclass(frozen=True)
class _Made:
    """A shard. nulls: by column."""

    rows: int
    nulls: Mapping[str, int]
    new: bool = True


def to_parquet(source: Source, sink: Sink, columns: Sequence[str] = (), kind: str | None = None) -> Converted:
    """Writes the shard NAME.parquet for each file NAME, in the same folders; one that is there already is kept.

    columns: what JSON lines and CSV hold, as NAME or NAME:TYPE; others are left out. kind: jsonl, csv, text or arrow; None: as
    the files' names say. Raises JobError for a file that cannot be converted, naming the row that a bad line comes after,
    for a shard that was made of something else or of no file of the source, for a sink that cannot be written, and if a column
    has no value at all; StoreError.
    """
    fs, base, files = _found(source, kind)
    kind = kind or _kind_of(files)
    if (kind in DECLARED) != bool(columns):
        needs = "name them (--columns text year:int64)" if kind in DECLARED else "name none, its files tell them"
        raise JobError(f"the columns of {kind}: {needs}")
    schema = parse_columns(columns)
    out = open_output(sink)
    targets = {path: f"{out.root}/{path.removeprefix(base).lstrip('/')}.parquet" for path in files}
    there = _there(out.fs, out.root)
    _check_others(there.keys() - set(targets.values()), source, sink)

    def make(path: str) -> _Made:
        file, target = files[path], targets[path]
        of = {"uri": file.uri, "version": file.version, "format": kind, "columns": list(columns)}
        if (said := there.get(target)) is not None:
            if said["of"] != of:
                raise JobError(f"{target} was made of {said['of']}, expected {of}: choose another folder")
            return _Made(said["rows"], said["nulls"], new=False)
        made: list[_Made] = []
        try:
            with fs.open(path, "rb", cache_type="readahead", block_size=_AHEAD) as raw:
                batches = _read(WatchedFile(raw, file.size, file.uri), file, kind, schema)
                write_streamed(out.fs, target, partial(_write, batches, of, made))
        except (JobError, StoreError):
            raise
        except Exception as error:  # every store has its own exceptions, and Parquet does not have all of Arrow's types
            raise JobError(f"cannot convert {file.uri} to {target}: {explain(error)}") from error
        return made[0]

    made = list(_all(make, list(files)))
    rows = sum(each.rows for each in made)
    if empty := [name for name in schema.names if rows and sum(each.nulls[name] for each in made) == rows]:
        raise JobError(
            f"column {', '.join(empty)} has no value in any of {rows} rows: is it called so in {source.uri}?"
        )
    return Converted(len(made), rows, sum(each.new for each in made))


def _all(make: Callable[[str], _Made], paths: Sequence[str]) -> Iterator[_Made]:
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(make, paths)
    finally:
        pool.shutdown(cancel_futures=True)


def _found(source: Source, kind: str | None) -> tuple[Any, str, dict[str, Shard]]:
    """The file system, the folder that the shards' names are relative to, and the files by their path."""
    if not isinstance(source.uri, str):
        raise JobError("expected one folder, glob or file: convert each of several to a folder of its own")
    if kind is not None and kind not in ENDINGS:
        raise JobError(f"expected one of the formats {', '.join(ENDINGS)}, got {kind}")
    plain = ENDINGS[kind] if kind else tuple(ending for endings in ENDINGS.values() for ending in endings)
    ((fs, files),) = list_files(source, (*plain, *(f"{ending}{packed}" for ending in plain for packed in COMPRESSED)))
    path = open_store(source.uri, source.storage_options)[1]
    if path in files:
        return fs, os.path.dirname(path), files
    files = _of_datasets(fs, files)
    if not files:
        raise JobError(f"no files that end in {', '.join(plain)} in {source.uri}")
    return fs, fixed_part(path) if any(mark in path for mark in "*?[") else path, files


def _of_datasets(fs: Any, files: dict[str, Shard]) -> dict[str, Shard]:
    """The files without those that lie in a folder of Hugging Face datasets and are none of its data, such as caches."""
    for folder in sorted({os.path.dirname(path) for path in files}):
        if not fs.exists(f"{folder}/{_STATE}"):
            continue
        try:
            state = json.loads(fs.cat_file(f"{folder}/{_STATE}"))
            data = {f"{folder}/{each['filename']}" for each in state["_data_files"]}
        except (ValueError, KeyError, TypeError) as error:
            raise JobError(f"{folder}/{_STATE} is not that of a saved dataset: {explain(error)}") from error
        if state.get("_indices_data_files"):
            raise JobError(f"{folder} is a selection of rows of others: call flatten_indices() before save_to_disk")
        if missing := [path for path in sorted(data - files.keys()) if not fs.exists(path)]:
            raise JobError(f"{folder}/{_STATE} names files that are not there: {', '.join(missing)}")
        files = {path: file for path, file in files.items() if os.path.dirname(path) != folder or path in data}
    return files


def _there(fs: Any, root: str) -> dict[str, dict[str, Any]]:
    """What the shards that are there say of themselves. Raises JobError for one that was not made here."""
    infos: Mapping[str, Any] = fs.find(root, detail=True)
    found = {path: info["size"] for path, info in infos.items() if path.endswith(".parquet")}
    said = {}
    for path, footer in zip(found, read_footers(fs, list(found.items())), strict=True):
        about = None if isinstance(footer, Exception) else (footer.metadata or {}).get(_ABOUT)
        if about is None:
            raise JobError(f"{path} was not made here: choose a folder of its own")
        said[path] = json.loads(about)
    return said


def _check_others(others: Collection[str], source: Source, sink: Sink) -> None:
    """Raises JobError for shards that no file of the source has: a job would read them, too."""
    if others:
        more = f" and {len(others) - _SHOWN:,} more" if len(others) > _SHOWN else ""
        raise JobError(
            f"{sink.uri} has shards of files that are not in {source.uri}: {', '.join(sorted(others)[:_SHOWN])}{more}: "
            "remove them if their files are gone, or choose another folder"
        )


def _read(watched: WatchedFile, file: Shard, kind: str, schema: pa.Schema) -> Batches:
    rows = 0
    try:
        for batch in read_batches(watched, file.uri, kind, schema):
            yield batch
            rows += len(batch)
    except CORRUPT as error:
        if watched.error is not None:
            raise watched.error from error
        raise JobError(f"{file.uri}: after row {rows}: {explain(error)}") from error


def _write(batches: Batches, of: Mapping[str, Any], made: list[_Made], file: BinaryIO) -> None:
    first = next(batches)
    rows, nulls = 0, dict.fromkeys(first.schema.names, 0)
    with pq.ParquetWriter(file, first.schema, compression="zstd", write_page_checksum=True) as writer:
        for table in _groups(first, batches):
            writer.write_table(table, row_group_size=_GROUP_ROWS)
            rows += table.num_rows
            nulls = {name: count + table[name].null_count for name, count in nulls.items()}
        writer.add_key_value_metadata({_ABOUT: json.dumps({"of": of, "rows": rows, "nulls": nulls})})
    made.append(_Made(rows, nulls))


def _groups(first: pa.RecordBatch, batches: Batches) -> Iterator[pa.Table]:
    """The rows in tables of about the bytes of a row group, or of one batch that has more."""
    held, size = [first], first.nbytes
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= _GROUP_BYTES:
            yield pa.Table.from_batches(held)
            held, size = [], 0
    if held:
        yield pa.Table.from_batches(held)


def _kind_of(paths: Iterable[str]) -> str:
    """What the names say. Raises JobError if they say nothing, or several things."""
    kinds: dict[str | None, str] = {}
    for path in paths:
        name = path
        for packed in COMPRESSED:
            name = name.removesuffix(packed)
        kinds.setdefault(next((kind for kind, endings in ENDINGS.items() if name.endswith(endings)), None), path)
    kind, *others = kinds
    if kind is None or others:
        raise JobError(f"of which format are {', '.join(kinds.values())}? say one of {', '.join(ENDINGS)}")
    return kind
