"""The command `distilray to-parquet`: the conversion of files of other formats to Parquet shards.

Each file becomes one shard, and row n of the file is row n of the shard.
"""

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

_ORIGIN = b"distilray.converted"  # the footer key whose value describes the file that a shard was made from
_GROUP_BYTES, _GROUP_ROWS = 2**25, 2**16  # about the size of a row group
_READAHEAD_BYTES = 2**24
_SHARDS_SHOWN = 5  # in an error
_DATASET_STATE = "state.json"  # in a folder that `save_to_disk` of Hugging Face datasets wrote


@dataclass(frozen=True)
class Converted:
    """The shards in the sink after a conversion. new: the number of files that this call converted."""

    files: int
    rows: int
    new: int


@dataclass(frozen=True)
class _ConvertedShard:
    """A converted shard. nulls: the number of nulls by column. new: whether this call made it."""

    rows: int
    nulls: Mapping[str, int]
    new: bool = True


def to_parquet(source: Source, sink: Sink, columns: Sequence[str] = (), kind: str | None = None) -> Converted:
    """Convert each file NAME of the source to the shard NAME.parquet in the sink, in the same folders.

    A shard that already exists is kept. columns: the columns of JSON lines and CSV to convert, as NAME or NAME:TYPE;
    others are left out. kind: jsonl, csv, text or arrow; None: the format is inferred from the endings of the files.

    Raises JobError if a file cannot be converted; the message has the number of the last row before the bad line. Also
    raises JobError if a shard was made from another file or in another way, if a shard has no file in the source, if
    the sink cannot be written, or if a column has no value in any row. Raises StoreError if the store fails.
    """
    fs, base, files = _list_source(source, kind)
    kind = kind or _format_of(files)
    if (kind in DECLARED) != bool(columns):
        problem = (
            "expected the columns to convert, such as --columns text year:int64, got none"
            if kind in DECLARED
            else f"expected no columns, because the files declare them, got {', '.join(columns)}"
        )
        raise JobError(f"{kind}: {problem}")
    schema = parse_columns(columns)
    out = open_output(sink)
    targets = {path: f"{out.root}/{path.removeprefix(base).lstrip('/')}.parquet" for path in files}
    existing = _read_origins(out.fs, out.root)
    _check_all_have_files(existing.keys() - set(targets.values()), source, sink)

    def convert(path: str) -> _ConvertedShard:
        file, target = files[path], targets[path]
        origin = {"uri": file.uri, "version": file.version, "format": kind, "columns": list(columns)}
        if (footer := existing.get(target)) is not None:
            if footer["of"] != origin:
                raise JobError(f"{target} was made from {footer['of']}, expected {origin}: choose another folder")
            return _ConvertedShard(footer["rows"], footer["nulls"], new=False)
        shards: list[_ConvertedShard] = []
        try:
            with fs.open(path, "rb", cache_type="readahead", block_size=_READAHEAD_BYTES) as raw:
                batches = _read(WatchedFile(raw, file.size, file.uri), file, kind, schema)
                write_streamed(out.fs, target, partial(_write, batches, origin, shards))
        except (JobError, StoreError):
            raise
        except Exception as error:  # stores raise many types, and Parquet cannot hold all types of Arrow
            raise JobError(f"cannot convert {file.uri} to {target}: {explain(error)}") from error
        return shards[0]

    shards = list(_map_in_threads(convert, list(files)))
    rows = sum(shard.rows for shard in shards)
    if empty := [name for name in schema.names if rows and sum(shard.nulls[name] for shard in shards) == rows]:
        raise JobError(f"column {', '.join(empty)} has no value in any of {rows} rows: check its name in {source.uri}")
    return Converted(len(shards), rows, sum(shard.new for shard in shards))


def _map_in_threads(convert: Callable[[str], _ConvertedShard], paths: Sequence[str]) -> Iterator[_ConvertedShard]:
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(convert, paths)
    finally:
        pool.shutdown(cancel_futures=True)


def _list_source(source: Source, kind: str | None) -> tuple[Any, str, dict[str, Shard]]:
    """Return the file system, the folder to which the names of shards are relative, and the files by path."""
    if not isinstance(source.uri, str):
        raise JobError("expected one folder, glob or file, got several: convert each to its own folder")
    if kind is not None and kind not in ENDINGS:
        raise JobError(f"expected one of the formats {', '.join(ENDINGS)}, got {kind}")
    plain = ENDINGS[kind] if kind else tuple(ending for endings in ENDINGS.values() for ending in endings)
    ((fs, files),) = list_files(
        source, (*plain, *(f"{ending}{compression}" for ending in plain for compression in COMPRESSED))
    )
    path = open_store(source.uri, source.storage_options)[1]
    if path in files:
        return fs, os.path.dirname(path), files
    files = _without_other_files_of_datasets(fs, files)
    if not files:
        raise JobError(
            f"no files that end in {', '.join(plain)} in {source.uri}: correct the source, or give one file "
            "and its format"
        )
    return fs, fixed_part(path) if any(mark in path for mark in "*?[") else path, files


def _without_other_files_of_datasets(fs: Any, files: dict[str, Shard]) -> dict[str, Shard]:
    """Leave out files in folders of Hugging Face datasets that are not data of the dataset, such as caches."""
    for folder in sorted({os.path.dirname(path) for path in files}):
        state_path = f"{folder}/{_DATASET_STATE}"
        if not fs.exists(state_path):
            continue
        try:
            state = json.loads(fs.cat_file(state_path))
            data = {f"{folder}/{file['filename']}" for file in state["_data_files"]}
        except (ValueError, KeyError, TypeError) as error:
            raise JobError(
                f"{state_path} is not the state of a saved dataset: {explain(error)}; save the dataset again"
            ) from error
        if state.get("_indices_data_files"):
            raise JobError(
                f"{folder} is a selection of rows of another dataset: call flatten_indices() before save_to_disk"
            )
        if missing := [path for path in sorted(data - files.keys()) if not fs.exists(path)]:
            raise JobError(
                f"{state_path} names files that do not exist: {', '.join(missing)}; "
                "restore them, or save the dataset again"
            )
        files = {path: file for path, file in files.items() if os.path.dirname(path) != folder or path in data}
    return files


def _read_origins(fs: Any, root: str) -> dict[str, dict[str, Any]]:
    """Read the origin of each shard in the sink, by path. Raises JobError for a shard that was not converted here."""
    infos: Mapping[str, Any] = fs.find(root, detail=True)
    sizes = {path: info["size"] for path, info in infos.items() if path.endswith(".parquet")}
    origins = {}
    for path, footer in zip(sizes, read_footers(fs, list(sizes.items())), strict=True):
        origin = None if isinstance(footer, Exception) else (footer.metadata or {}).get(_ORIGIN)
        if origin is None:
            raise JobError(f"{path} was not made by distilray to-parquet: choose an empty folder")
        origins[path] = json.loads(origin)
    return origins


def _check_all_have_files(without_file: Collection[str], source: Source, sink: Sink) -> None:
    """Raise JobError if the sink has shards without a file in the source, because a job would read them, too.

    without_file: the paths of these shards.
    """
    if without_file:
        more = f" and {len(without_file) - _SHARDS_SHOWN:,} more" if len(without_file) > _SHARDS_SHOWN else ""
        raise JobError(
            f"{sink.uri} has shards of files that are not in {source.uri}: "
            f"{', '.join(sorted(without_file)[:_SHARDS_SHOWN])}{more}; "
            "remove these shards if their files are gone, or choose another folder"
        )


def _read(watched: WatchedFile, file: Shard, kind: str, schema: pa.Schema) -> Batches:
    """Read a file in batches. Raises JobError for an invalid file, with the number of rows before the error."""
    rows = 0
    try:
        for batch in read_batches(watched, file.uri, kind, schema):
            yield batch
            rows += len(batch)
    except CORRUPT as error:
        if watched.error is not None:
            raise watched.error from error
        raise JobError(f"{file.uri}: after row {rows}: {explain(error)}") from error


def _write(batches: Batches, origin: Mapping[str, Any], shards: list[_ConvertedShard], file: BinaryIO) -> None:
    """Write a shard, and append its description to `shards`."""
    first = next(batches)
    rows, nulls = 0, dict.fromkeys(first.schema.names, 0)
    with pq.ParquetWriter(file, first.schema, compression="zstd", write_page_checksum=True) as writer:
        for table in _row_groups(first, batches):
            writer.write_table(table, row_group_size=_GROUP_ROWS)
            rows += table.num_rows
            nulls = {name: count + table[name].null_count for name, count in nulls.items()}
        writer.add_key_value_metadata({_ORIGIN: json.dumps({"of": origin, "rows": rows, "nulls": nulls})})
    shards.append(_ConvertedShard(rows, nulls))


def _row_groups(first: pa.RecordBatch, batches: Batches) -> Iterator[pa.Table]:
    """Join batches to tables of about `_GROUP_BYTES`. A batch that is larger makes a larger table."""
    pending, size = [first], first.nbytes
    for batch in batches:
        pending.append(batch)
        size += batch.nbytes
        if size >= _GROUP_BYTES:
            yield pa.Table.from_batches(pending)
            pending, size = [], 0
    if pending:
        yield pa.Table.from_batches(pending)


def _format_of(paths: Iterable[str]) -> str:
    """Infer the format from the endings of the files. Raises JobError if an ending is unknown or there are several."""
    examples: dict[str | None, str] = {}  # format -> a path
    for path in paths:
        name = path
        for compression in COMPRESSED:
            name = name.removesuffix(compression)
        examples.setdefault(next((kind for kind, endings in ENDINGS.items() if name.endswith(endings)), None), path)
    kind, *others = examples
    if kind is None or others:
        raise JobError(
            f"expected files of one format, got {', '.join(examples.values())}: "
            f"set the format to one of {', '.join(ENDINGS)}"
        )
    return kind
