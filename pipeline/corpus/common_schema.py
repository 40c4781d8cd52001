"""The common types of the kept columns, and shards that do not fit them."""

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from distilray.operators.rows.columns import columns_error, plain_type
from distilray.pipeline.corpus.listing import Shard
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Source

_PROBLEMS_SHOWN = 5


def kept_schema(shards: Sequence[Shard], source: Source, inputs: pa.Schema, partitions: pa.Schema) -> pa.Schema:
    """Return the kept columns, each with its common type.

    The common type is the type that most shards have. It is widened to hold the types of the other shards, where
    widening changes no value.

    Raises JobError if no shard has all columns of the job.
    """
    kept = [name for name in source.keep if name not in partitions.names]
    schemas = Counter(shard.schema for shard in shards if not shard.error)
    problems = {schema: columns_problem(schema, source, inputs, kept) for schema in schemas}
    usable = {schema: count for schema, count in schemas.items() if problems[schema] is None}
    if not usable:
        shown = shards[:_PROBLEMS_SHOWN]
        lines = [f"{shard.uri}: {shard.error[1] if shard.error else problems[shard.schema]}" for shard in shown]
        raise JobError(
            "\n  ".join(
                [f"none of {len(shards)} shards can be used; correct the columns in the job, or the shards", *lines]
            )
        )
    types: dict[str, Counter[pa.DataType]] = {name: Counter() for name in kept}
    for schema, count in usable.items():
        for name in kept:
            types[name][plain_type(schema.field(name).type)] += count
    return pa.schema(
        [(name, _common_type([data_type for data_type, _ in counts.most_common()])) for name, counts in types.items()]
    )


def _common_type(types: Sequence[pa.DataType]) -> pa.DataType:
    """Return the first type, widened to hold each of the other types for which this is possible."""
    common, *others = types
    for other in others:
        common = _widened(common, other) or common
    return common


def _widened(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Return a type that holds the values of both types unchanged, or None."""
    try:
        schemas = [pa.schema([("", data_type)]) for data_type in (a, b)]
        wide = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return None
    integer_to_float = pa.types.is_floating(wide) and (pa.types.is_integer(a) or pa.types.is_integer(b))
    return None if integer_to_float else wide


def columns_problem(schema: pa.Schema, source: Source, inputs: pa.Schema, kept: Sequence[str]) -> str | None:
    """Return why rows of this schema cannot be answered, or None. kept: the names of the kept columns."""
    return columns_error(schema, source.text, inputs, kept, "the shard has")


def type_problem(schema: pa.Schema, kept: pa.Schema) -> str | None:
    """Return the problem of the first column that cannot be widened to its common type, or None.

    kept: the schema of the kept columns.
    """
    for field in kept:
        shard_type = schema.field(field.name).type
        if _widened(plain_type(shard_type), field.type) != field.type:
            return f"column {field.name} is {shard_type}; the other shards have {field.type}"
    return None
