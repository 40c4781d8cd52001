"""Columns of a shard as a run wants them: plain types, valid UTF-8, and a reason for every row that is not."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.arrays import offsets_of
from distilray.operators.errors import ColumnSizeError
from distilray.operators.rows.ragged import one_chunk

TEXT_TYPES = "string, large_string, string_view, binary, large_binary, null, or a dictionary of one of them"
# what Arrow raises for bytes that are no Parquet
CORRUPT = (pa.ArrowException, OSError, UnicodeDecodeError)

_MOST_BYTES = 2**31 - 1  # of a string column: its offsets are int32

Dead = tuple[pa.Array, pa.Array]  # reason and message of each row, null for a living one


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type without its encoding: a dictionary's values, a view's strings."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold texts."""
    plain = plain_type(kind)
    return _is_string(plain) or pa.types.is_binary(plain) or pa.types.is_large_binary(plain) or pa.types.is_null(plain)


def columns_error(schema: pa.Schema, text: str, inputs: pa.Schema, wanted: Sequence[str], has: str) -> str | None:
    """What keeps rows of this schema from being answered; wanted: other columns that must be there; has: "the shard has"."""
    names = list(dict.fromkeys([text, *inputs.names, *wanted]))
    if missing := [name for name in names if name not in schema.names]:
        return f"column {', '.join(missing)} is missing; {has} {', '.join(schema.names)}"
    if twice := [name for name in names if schema.names.count(name) > 1]:
        return f"column {', '.join(twice)} is there more than once"
    for column in [pa.field(text, pa.string()), *inputs]:
        kind = schema.field(column.name).type
        if pa.types.is_string(column.type) and not is_text(kind):
            return f"column {column.name} must be one of {TEXT_TYPES}; it is {kind}"
        if pa.types.is_list(column.type) and not is_text_list(kind):
            return f"column {column.name} must be a list of one of {TEXT_TYPES}; it is {kind}"
    return None


def inputs_of(table: pa.Table, text: str, inputs: pa.Schema) -> tuple[list[pa.Array], Dead]:
    """The text and the other columns that tasks read, and why rows are dead that cannot be read."""
    values, dead = texts(table[text], "the text")
    found = [values]
    for column in inputs:
        parse = texts if pa.types.is_string(column.type) else text_lists
        values, also_dead = parse(table[column.name], f"column {column.name}")
        found.append(values)
        dead = either(dead, also_dead)
    return found, dead


def living(values: Sequence[pa.Array], dead: Dead) -> list[pa.Array]:
    """The values, null in dead rows: a row that is dead in one column is not computed for the others."""
    alive = pc.is_null(dead[0])
    return [pc.if_else(alive, each, pa.scalar(None, each.type)) for each in values]


def texts(column: pa.ChunkedArray, called: str) -> tuple[pa.Array, Dead]:
    """Valid UTF-8 texts, null where a row is dead, and why it is; called: what the column is in messages."""
    text, bad = _utf8(column, pa.string())
    return text, _dead(pc.and_(pc.is_null(text), pc.invert(bad)), bad, called)


def text_lists(column: pa.ChunkedArray, called: str) -> tuple[pa.ListArray, Dead]:
    """Lists of valid UTF-8 texts, null where a row is dead: because the list is null, or one of its texts is bad."""
    lists = one_chunk(column.cast(pa.list_(column.type.value_type)))
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    text, bad = _utf8(pa.chunked_array([lists.flatten()]), pa.string())
    row = np.repeat(np.arange(len(lists)), counts)
    null, bad = (
        pa.array(np.bincount(row, values.to_numpy(zero_copy_only=False), minlength=len(lists)) > 0)
        for values in (pc.and_(pc.is_null(text), pc.invert(bad)), bad)
    )
    dead = _dead(pc.or_(null, pc.is_null(lists)), bad, called)
    offsets = pa.array(offsets_of(counts), pa.int32())
    return pa.ListArray.from_arrays(offsets, text, mask=pc.is_valid(dead[0])), dead


def _dead(null: pa.BooleanArray, bad: pa.BooleanArray, called: str) -> Dead:
    none, which = pa.scalar(None, pa.string()), pc.make_struct(null, bad)
    reason = pc.case_when(which, "null_text", "invalid_utf8", none)
    return reason, pc.case_when(which, f"{called} is null", f"{called} is not valid UTF-8", none)


def either(dead: Dead, also: Dead) -> Dead:
    """The first reason of two, where there is any."""
    return pc.coalesce(dead[0], also[0]), pc.coalesce(dead[1], also[1])


def keep(column: pa.ChunkedArray, field: pa.Field, dead: Dead) -> tuple[pa.Array, Dead]:
    """A kept column in its type, and `dead` with the rows added whose value is not valid UTF-8.

    Raises ArrowInvalid for invalid UTF-8 inside a nested column.
    """
    if not _is_string(field.type):
        column.validate(full=True)
        return one_chunk(column.cast(plain_type(column.type)).cast(field.type)), dead
    values, bad = _utf8(column, field.type)
    reason, message = dead
    bad = pc.and_(bad, pc.is_null(reason))
    says = f"column {field.name} is not valid UTF-8"
    return values, (pc.if_else(bad, "invalid_utf8", reason), pc.if_else(bad, says, message))


def is_text_list(kind: pa.DataType) -> bool:
    """Whether a column of this type can hold lists of texts."""
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return bool(is_list) and is_text(kind.value_type)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _utf8(column: pa.ChunkedArray, kind: pa.DataType) -> tuple[pa.Array, pa.BooleanArray]:
    """The column as `kind`, string or large_string, null where the bytes are not UTF-8, and where that is.

    Raises ColumnSizeError for 2 GiB or more that are to be string.
    """
    # large: a slice keeps the offsets of its whole column, and chunks add up
    chunked = column.cast(plain_type(column.type)).cast(pa.large_binary())
    size = pc.sum(pc.binary_length(chunked)).as_py() or 0
    if size > _MOST_BYTES and pa.types.is_string(kind):
        raise ColumnSizeError(
            f"a column has {size} bytes in {len(chunked)} rows that are read at once: expected at most {_MOST_BYTES}; "
            "write the shard with smaller row groups"
        )
    raw = one_chunk(chunked)
    bad = _invalid_utf8(raw)
    return pc.if_else(bad, pa.scalar(None, raw.type), raw).cast(pa.large_string()).cast(kind), bad


def _invalid_utf8(raw: pa.Array) -> pa.BooleanArray:
    """Bisects to the bad rows: one check for a clean column, a few more for each bad row."""
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
    """`rows` times the same value."""
    return pa.repeat(pa.scalar(value).cast(kind) if value is not None else pa.scalar(None, kind), rows)


def all_dead(rows: int, reason: str, message: str) -> Dead:
    """The same reason for every row."""
    return constant(reason, pa.string(), rows), constant(message, pa.string(), rows)
