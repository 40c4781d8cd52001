"""The conversion of columns of a shard to plain types and valid UTF-8, with a reason for each row where this fails."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.arrays import offsets_of
from distilray.operators.errors import ColumnSizeError
from distilray.operators.rows.ragged import one_chunk

TEXT_TYPES = "string, large_string, string_view, binary, large_binary, null, or a dictionary of one of them"
# the errors that Arrow raises for bytes that are not valid Parquet
CORRUPT = (pa.ArrowException, OSError, UnicodeDecodeError)

_MAX_BYTES = 2**31 - 1  # the limit of a string column, whose offsets are int32

Dead = tuple[pa.Array, pa.Array]  # reason and message of each row; null for a row that is not dead


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type without its encoding: the value type of a dictionary, the string type of a view."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column of this type can hold texts."""
    plain = plain_type(kind)
    return _is_string(plain) or pa.types.is_binary(plain) or pa.types.is_large_binary(plain) or pa.types.is_null(plain)


def columns_error(schema: pa.Schema, text: str, inputs: pa.Schema, required: Sequence[str], subject: str) -> str | None:
    """Return why rows of this schema cannot be answered, or None.

    required: other columns that must exist. subject: the words before the list of columns, such as "the shard has".
    """
    names = list(dict.fromkeys([text, *inputs.names, *required]))
    if missing := [name for name in names if name not in schema.names]:
        return f"column {', '.join(missing)} is missing; {subject} {', '.join(schema.names)}"
    if duplicates := [name for name in names if schema.names.count(name) > 1]:
        return f"expected columns of different names, got {', '.join(duplicates)} more than once"
    for column in [pa.field(text, pa.string()), *inputs]:
        kind = schema.field(column.name).type
        if pa.types.is_string(column.type) and not is_text(kind):
            return f"column {column.name} must be one of {TEXT_TYPES}; it is {kind}"
        if pa.types.is_list(column.type) and not is_text_list(kind):
            return f"column {column.name} must be a list of one of {TEXT_TYPES}; it is {kind}"
    return None


def inputs_of(table: pa.Table, text: str, inputs: pa.Schema) -> tuple[list[pa.Array], Dead]:
    """Return the text and the other columns that tasks read, and the reasons of rows with invalid values."""
    values, dead = valid_texts(table[text], "the text")
    columns = [values]
    for column in inputs:
        parse = valid_texts if pa.types.is_string(column.type) else valid_text_lists
        values, also_dead = parse(table[column.name], f"column {column.name}")
        columns.append(values)
        dead = first_reasons(dead, also_dead)
    return columns, dead


def null_dead_rows(values: Sequence[pa.Array], dead: Dead) -> list[pa.Array]:
    """Return the values with nulls in dead rows, so that no column of a dead row is computed."""
    alive = pc.is_null(dead[0])
    return [pc.if_else(alive, column, pa.scalar(None, column.type)) for column in values]


def valid_texts(column: pa.ChunkedArray, subject: str) -> tuple[pa.Array, Dead]:
    """Return the valid UTF-8 texts, null for dead rows, and the reasons. subject: the column's name in messages."""
    text, bad = _utf8(column, pa.string())
    return text, _dead(pc.and_(pc.is_null(text), pc.invert(bad)), bad, subject)


def valid_text_lists(column: pa.ChunkedArray, subject: str) -> tuple[pa.ListArray, Dead]:
    """Return the lists of valid UTF-8 texts, null for dead rows, and the reasons.

    A row is dead if its list is null or if one of its texts is null or invalid.
    """
    lists = one_chunk(column.cast(pa.list_(column.type.value_type)))
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    text, bad = _utf8(pa.chunked_array([lists.flatten()]), pa.string())
    row = np.repeat(np.arange(len(lists)), counts)
    null, bad = (
        pa.array(np.bincount(row, values.to_numpy(zero_copy_only=False), minlength=len(lists)) > 0)
        for values in (pc.and_(pc.is_null(text), pc.invert(bad)), bad)
    )
    dead = _dead(pc.or_(null, pc.is_null(lists)), bad, subject)
    offsets = pa.array(offsets_of(counts), pa.int32())
    return pa.ListArray.from_arrays(offsets, text, mask=pc.is_valid(dead[0])), dead


def _dead(null: pa.BooleanArray, bad: pa.BooleanArray, subject: str) -> Dead:
    """Return the reasons of rows whose text is null or is not valid UTF-8."""
    none, which = pa.scalar(None, pa.string()), pc.make_struct(null, bad)
    reason = pc.case_when(which, "null_text", "invalid_utf8", none)
    return reason, pc.case_when(which, f"{subject} is null", f"{subject} is not valid UTF-8", none)


def first_reasons(dead: Dead, also: Dead) -> Dead:
    """Return the first reason of each row; null for rows that are dead in neither."""
    return pc.coalesce(dead[0], also[0]), pc.coalesce(dead[1], also[1])


def convert_kept(column: pa.ChunkedArray, field: pa.Field, dead: Dead) -> tuple[pa.Array, Dead]:
    """Convert a kept column to the type of its field, and add the rows whose value is not valid UTF-8 to `dead`.

    Raises ArrowInvalid for invalid UTF-8 inside a nested column.
    """
    if not _is_string(field.type):
        column.validate(full=True)
        return one_chunk(column.cast(plain_type(column.type)).cast(field.type)), dead
    values, bad = _utf8(column, field.type)
    reason, message = dead
    bad = pc.and_(bad, pc.is_null(reason))
    text = f"column {field.name} is not valid UTF-8"
    return values, (pc.if_else(bad, "invalid_utf8", reason), pc.if_else(bad, text, message))


def is_text_list(kind: pa.DataType) -> bool:
    """Return whether a column of this type can hold lists of texts."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list) and is_text(kind.value_type)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _utf8(column: pa.ChunkedArray, kind: pa.DataType) -> tuple[pa.Array, pa.BooleanArray]:
    """Convert a column to `kind`, string or large_string.

    The result is null where the bytes are not UTF-8; the second value marks these rows. Raises ColumnSizeError if
    `kind` is string and the column has 2 GiB or more.
    """
    # large_binary: a slice keeps the offsets of its whole column, and the sizes of chunks add up
    chunked = column.cast(plain_type(column.type)).cast(pa.large_binary())
    size = pc.sum(pc.binary_length(chunked)).as_py() or 0
    if size > _MAX_BYTES and pa.types.is_string(kind):
        raise ColumnSizeError(
            f"a column has {size} bytes in {len(chunked)} rows that are read at once: expected at most {_MAX_BYTES}; "
            "write the shard with smaller row groups"
        )
    raw = one_chunk(chunked)
    bad = _invalid_utf8(raw)
    return pc.if_else(bad, pa.scalar(None, raw.type), raw).cast(pa.large_string()).cast(kind), bad


def _invalid_utf8(raw: pa.Array) -> pa.BooleanArray:
    """Find the invalid rows by bisection: one check for a valid column, a few more for each invalid row."""
    bad = np.zeros(len(raw), dtype=np.bool_)
    pending = [(0, len(raw))]
    while pending:
        first, last = pending.pop()
        try:
            raw.slice(first, last - first).cast(pa.large_string())
        except pa.ArrowInvalid:
            if last - first == 1:
                bad[first] = True
            else:
                middle = (first + last) // 2
                pending += [(first, middle), (middle, last)]
    return pa.array(bad)


def constant(value: object, kind: pa.DataType, rows: int) -> pa.Array:
    """Return an array that repeats a value `rows` times."""
    return pa.repeat(pa.scalar(value).cast(kind) if value is not None else pa.scalar(None, kind), rows)


def all_dead(rows: int, reason: str, message: str) -> Dead:
    """Return the same reason for every row."""
    return constant(reason, pa.string(), rows), constant(message, pa.string(), rows)
