"""The shards of a corpus: their footers read, their schemas checked."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from distilray.model.errors import StoreError
from distilray.operators.read import Read
from distilray.operators.rows.columns import columns_error, plain_type
from distilray.pipeline.corpus.footer_pool import parse_footers
from distilray.pipeline.corpus.footers import read_tails
from distilray.pipeline.corpus.listing import Shard, list_files
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Source

_PROBLEMS_SHOWN = 5
_ROWS_PER_BYTE, _TEXT_PER_BYTE = 10_000, 2**17  # of a file: what no writer reaches, not even with equal texts
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Corpus:
    """Every shard, checked, and how its rows are read."""

    read: Read
    shards: tuple[Shard, ...]


def survey(source: Source, inputs: pa.Schema, most: int | None = None) -> Corpus:
    """Lists the shards, reads their footers and checks their schemas; inputs: what tasks read beside the text; most: of the
    first so many shards, None: of all.

    Raises JobError if there are no shards, if none can be read, or if a column that the job names is in none of
    them. A single bad shard is no error: it becomes a dead letter.
    """
    names = {source.text, *inputs.names}
    shards = [shard for fs, files in _first(list_files(source), most) for shard in _opened(fs, files, names)]
    if not shards:
        raise JobError(f"no .parquet files in {', '.join(source.uris)}")
    partitions = infer_partitions([partition_values(shard.uri) for shard in shards])
    kept = _kept_schema(shards, source, inputs, partitions)
    read = Read(source.text, inputs, kept, partitions, source.storage_options)
    problems = {
        schema: _columns_error(schema, source, inputs, kept.names) or _type_error(schema, kept)
        for schema in {shard.schema for shard in shards}
    }
    return Corpus(read, tuple(_checked(shard, problems[shard.schema]) for shard in shards))


def _first(found: Iterable[tuple[Any, dict[str, Shard]]], most: int | None) -> Iterator[tuple[Any, dict[str, Shard]]]:
    """The first `most` files of what `listed` gives."""
    for fs, files in found:
        yield fs, dict(islice(files.items(), most))
        if most is not None and (most := most - len(files)) <= 0:
            return


def _opened(fs: Any, files: Mapping[str, Shard], texts: Collection[str]) -> Iterator[Shard]:
    """The shards with their schemas and row groups; bytes that are no Parquet make a dead shard, a failing store a StoreError."""
    schemas: dict[pa.Schema, pa.Schema] = {}  # most shards share one: kept once
    tails = read_tails(fs, [(path, shard.size) for path, shard in files.items() if shard.size])
    footers = parse_footers(tails, texts)
    try:
        for shard in files.values():
            if shard.size == 0:
                yield replace(shard, error=("unreadable_shard", "the file is empty (0 bytes)"))
            elif isinstance(footer := next(footers), str):
                yield replace(shard, error=("unreadable_shard", f"not a whole Parquet file: {footer}"))
            elif wrong := _too_much(footer.groups, shard.size):
                yield replace(shard, error=("unreadable_shard", f"not a whole Parquet file: {wrong}"))
            else:
                yield replace(shard, schema=schemas.setdefault(footer.schema, footer.schema), groups=footer.groups)
    except StoreError as error:
        raise StoreError(f"cannot read shard {error}") from error


def _too_much(groups: Collection[tuple[int, int]], size: int) -> str | None:
    """What is wrong with a footer that promises more than any compression holds: units would be made of it."""
    for what, most, said in (
        ("rows", _ROWS_PER_BYTE, sum(rows for rows, _ in groups)),
        ("bytes of text", _TEXT_PER_BYTE, sum(text for _, text in groups)),
    ):
        if said > most * size:
            return f"its footer promises {said} {what} in {size} bytes"
    return None


def partition_values(uri: str) -> dict[str, str | None]:
    """The hive keys in a path: ".../year=2024/part-0.parquet" gives {"year": "2024"}."""
    pairs = (part.split("=", 1) for part in uri.split("/")[:-1] if "=" in part)
    return {unquote(key): None if value == _NULL_PARTITION else unquote(value) for key, value in pairs}


def infer_partitions(found: Sequence[Mapping[str, str | None]]) -> pa.Schema:
    """One type a key over the whole corpus: int64 if every value is a whole number, else string."""
    names = dict.fromkeys(name for values in found for name in values)
    return pa.schema([(name, _partition_type({values.get(name) for values in found})) for name in names])


def _partition_type(values: set[str | None]) -> pa.DataType:
    whole = all(value is None or re.fullmatch(r"-?[0-9]{1,18}", value) for value in values)
    return pa.int64() if whole and values != {None} else pa.string()


def _kept_schema(shards: Sequence[Shard], source: Source, inputs: pa.Schema, partitions: pa.Schema) -> pa.Schema:
    """The kept columns, each with the type most shards have, widened where no value can change by it."""
    wanted = [name for name in source.keep if name not in partitions.names]
    schemas = Counter(shard.schema for shard in shards if not shard.error)
    problems = {schema: _columns_error(schema, source, inputs, wanted) for schema in schemas}
    usable = {schema: count for schema, count in schemas.items() if problems[schema] is None}
    if not usable:
        some = shards[:_PROBLEMS_SHOWN]
        said = [f"{shard.uri}: {shard.error[1] if shard.error else problems[shard.schema]}" for shard in some]
        raise JobError("\n  ".join([f"none of {len(shards)} shards can be used", *said]))
    types: dict[str, Counter[pa.DataType]] = {name: Counter() for name in wanted}
    for schema, count in usable.items():
        for name in wanted:
            types[name][plain_type(schema.field(name).type)] += count
    return pa.schema(
        [(name, _common_type([kind for kind, _ in counts.most_common()])) for name, counts in types.items()]
    )


def _common_type(types: Sequence[pa.DataType]) -> pa.DataType:
    """The first type, widened to hold each of the others that it can be widened to."""
    common, *others = types
    for other in others:
        common = _widened(common, other) or common
    return common


def _widened(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """A type that holds the values of both unchanged, or None."""
    try:
        schemas = [pa.schema([("", kind)]) for kind in (a, b)]
        wide = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None
    whole_to_real = pa.types.is_floating(wide) and (pa.types.is_integer(a) or pa.types.is_integer(b))
    return None if whole_to_real else wide


def _columns_error(schema: pa.Schema, source: Source, inputs: pa.Schema, wanted: Sequence[str]) -> str | None:
    return columns_error(schema, source.text, inputs, wanted, "the shard has")


def _type_error(schema: pa.Schema, kept: pa.Schema) -> str | None:
    for wanted in kept:
        kind = schema.field(wanted.name).type
        if _widened(plain_type(kind), wanted.type) != wanted.type:
            return f"column {wanted.name} is {kind}; the other shards have {wanted.type}"
    return None


def _checked(shard: Shard, problem: str | None) -> Shard:
    """The shard, dead if its columns do not fit the others'."""
    return replace(shard, error=("schema_mismatch", problem), groups=()) if problem and not shard.error else shard
