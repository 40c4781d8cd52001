"""Every column and Arrow schema, in one place."""

import pyarrow as pa

# columns of the output; docs/output.md describes them
SHARD, ROW, TRUNCATED = "shard", "row", "truncated"
STAGE, REASON, MESSAGE = "stage", "reason", "message"
RESERVED = (SHARD, ROW, TRUNCATED)

# columns that travel between operators only; the underscore keeps them apart from a corpus's own
UNIT, UNIT_ROWS, TEXT = "_unit", "_unit_rows", "_text"
DEAD_STAGE, DEAD_REASON, DEAD_MESSAGE = "_stage", "_reason", "_message"
INPUT_IDS, WORD_IDS, START, END = "_input_ids", "_word_ids", "_start", "_end"
WINDOW_START, WINDOW_END = "_window_start", "_window_end"
TOKENS, WINDOW_TOKENS, COMPUTED_TOKENS = "_tokens", "_window_tokens", "_computed_tokens"
BACKEND = "_backend"

ENTITY = pa.struct(
    [
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("text", pa.string()),
    ]
)
ENTITIES = pa.list_(ENTITY)

DEAD = pa.schema(
    [
        pa.field(SHARD, pa.string()),
        pa.field(ROW, pa.int64()),  # null: the whole shard
        pa.field(STAGE, pa.string()),
        pa.field(REASON, pa.string()),
        pa.field(MESSAGE, pa.string()),
    ]
)


def rows_schema(kept: pa.Schema) -> pa.Schema:
    """What `read` gives: an address, the kept columns, the text, and for a bad row why it is dead."""
    address = [pa.field(SHARD, pa.string()), pa.field(ROW, pa.int64())]
    travel = [
        pa.field(UNIT, pa.string()),
        pa.field(UNIT_ROWS, pa.int64()),
        pa.field(TEXT, pa.string()),
        pa.field(DEAD_STAGE, pa.string()),
        pa.field(DEAD_REASON, pa.string()),
        pa.field(DEAD_MESSAGE, pa.string()),
    ]
    return pa.schema([*address, *kept, *travel])


def data_schema(kept: pa.Schema, name: str, truncated: bool) -> pa.Schema:
    """What `data/*.parquet` holds; `name` is the task's column."""
    address = [pa.field(SHARD, pa.string()), pa.field(ROW, pa.int64())]
    flag = [pa.field(TRUNCATED, pa.bool_())] if truncated else []
    return pa.schema([*address, *kept, pa.field(name, ENTITIES), *flag])
