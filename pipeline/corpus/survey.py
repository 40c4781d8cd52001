"""The survey of a corpus: it reads the footers of the shards and checks their schemas."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from distilray.model.errors import StoreError
from distilray.operators.read import Read
from distilray.pipeline.corpus.common_schema import columns_problem, kept_schema, type_problem
from distilray.pipeline.corpus.footer_pool import parse_footers
from distilray.pipeline.corpus.footers import read_tails
from distilray.pipeline.corpus.listing import Shard, list_files
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Source

# the most rows and bytes of text per byte of a file; no writer reaches them, even if all texts are equal
_MAX_ROWS_PER_BYTE, _MAX_TEXT_PER_BYTE = 10_000, 2**17
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Corpus:
    """The checked shards of a corpus. read: the operator that reads the rows of a unit of these shards."""

    read: Read
    shards: tuple[Shard, ...]


def survey(source: Source, inputs: pa.Schema, max_shards: int | None = None) -> Corpus:
    """List the shards, read their footers and check their schemas.

    inputs: the columns that tasks read in addition to the text. max_shards: the number of shards to survey, from the
    first; None: all. Raises JobError if there are no shards, if none can be read, or if no shard has all columns of the
    job. A bad shard among good ones raises no error; it becomes a dead letter. Raises StoreError if the store fails.
    """
    names = {source.text, *inputs.names}
    shards = [shard for fs, files in _first(list_files(source), max_shards) for shard in _opened(fs, files, names)]
    if not shards:
        raise JobError(
            f"no .parquet files in {', '.join(source.uris)}: correct source.uri, or convert files of another format "
            "with distilray to-parquet"
        )
    partitions = infer_partitions([partition_values(shard.uri) for shard in shards])
    kept = kept_schema(shards, source, inputs, partitions)
    read = Read(source.text, inputs, kept, partitions, source.storage_options)
    problems = {
        schema: columns_problem(schema, source, inputs, kept.names) or type_problem(schema, kept)
        for schema in {shard.schema for shard in shards}
    }
    return Corpus(read, tuple(_checked(shard, problems[shard.schema]) for shard in shards))


def _first(
    listing: Iterable[tuple[Any, dict[str, Shard]]], max_shards: int | None
) -> Iterator[tuple[Any, dict[str, Shard]]]:
    """Yield the first `max_shards` files of a listing by `list_files`."""
    for fs, files in listing:
        yield fs, dict(islice(files.items(), max_shards))
        if max_shards is not None and (max_shards := max_shards - len(files)) <= 0:
            return


def _opened(fs: Any, files: Mapping[str, Shard], texts: Collection[str]) -> Iterator[Shard]:
    """Yield the shards with their schemas and row groups. A file that is not valid Parquet gets an error.

    texts: the columns whose bytes count as text. Raises StoreError if the store fails.
    """
    schemas: dict[pa.Schema, pa.Schema] = {}  # most shards share one schema, which is kept once
    tails = read_tails(fs, [(path, shard.size) for path, shard in files.items() if shard.size])
    footers = parse_footers(tails, texts)
    try:
        for shard in files.values():
            if shard.size == 0:
                yield replace(shard, error=("unreadable_shard", "the file is empty (0 bytes)"))
            elif isinstance(footer := next(footers), str):
                yield replace(shard, error=("unreadable_shard", f"not a whole Parquet file: {footer}"))
            elif problem := _size_problem(footer.groups, shard.size):
                yield replace(shard, error=("unreadable_shard", f"not a whole Parquet file: {problem}"))
            else:
                yield replace(shard, schema=schemas.setdefault(footer.schema, footer.schema), groups=footer.groups)
    except StoreError as error:
        raise StoreError(f"cannot read shard {error}") from error


def _size_problem(groups: Collection[tuple[int, int]], size: int) -> str | None:
    """Return the problem of a footer that claims more rows or text than its file can hold, or None.

    A plan would have units for all rows that a footer claims.
    """
    for kind, max_per_byte, claimed in (
        ("rows", _MAX_ROWS_PER_BYTE, sum(rows for rows, _ in groups)),
        ("bytes of text", _MAX_TEXT_PER_BYTE, sum(text for _, text in groups)),
    ):
        if claimed > max_per_byte * size:
            return f"its footer claims {claimed} {kind} in {size} bytes"
    return None


def partition_values(uri: str) -> dict[str, str | None]:
    """Return the hive keys in a path: ".../year=2024/part-0.parquet" gives {"year": "2024"}."""
    pairs = (part.split("=", 1) for part in uri.split("/")[:-1] if "=" in part)
    return {unquote(key): None if value == _NULL_PARTITION else unquote(value) for key, value in pairs}


def infer_partitions(partitions: Sequence[Mapping[str, str | None]]) -> pa.Schema:
    """Infer one type per key for the whole corpus: int64 if every value is an integer, else string.

    partitions: the hive keys of each shard.
    """
    names = dict.fromkeys(name for values in partitions for name in values)
    return pa.schema([(name, _partition_type({values.get(name) for values in partitions})) for name in names])


def _partition_type(values: set[str | None]) -> pa.DataType:
    are_integers = all(value is None or re.fullmatch(r"-?[0-9]{1,18}", value) for value in values)
    return pa.int64() if are_integers and values != {None} else pa.string()


def _checked(shard: Shard, problem: str | None) -> Shard:
    """Return the shard, with an error if its columns do not fit those of the other shards."""
    return replace(shard, error=("schema_mismatch", problem), groups=()) if problem and not shard.error else shard
