"""All column names and Arrow schemas."""

import pyarrow as pa

# columns of the output; docs/output.md describes them
SHARD, ROW = "shard", "row"
STAGE, REASON, MESSAGE = "stage", "reason", "message"
RESERVED = (SHARD, ROW)

# columns that travel between the steps only; the underscore distinguishes them from the columns of a corpus
INPUT_PREFIX, TOKENS_PREFIX = "_in.", "_tokens."
# the prefixes of the columns that the predict step drops
INTERNAL = ("_text", INPUT_PREFIX, TOKENS_PREFIX)
UNIT, UNIT_ROWS, TEXT = "_unit", "_unit_rows", "_text"
DEAD_STAGE, DEAD_REASON, DEAD_MESSAGE, DEAD_TEXT = DEATH = "_stage", "_reason", "_message", "_dead_text"
TOKENS, WINDOW_TOKENS, COMPUTED_TOKENS = "_tokens", "_window_tokens", "_computed_tokens"
BACKEND, PARITY = "_backend", "_parity"

TEXTS = pa.list_(pa.string())

# one token of a text; [CLS] and [SEP] are not among the tokens
TOKEN = pa.struct([pa.field(name, pa.int32()) for name in ("input_ids", "word_ids", "start", "end")])

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

LABEL = pa.struct([pa.field("label", pa.string()), pa.field("score", pa.float32())])

CHOICE = pa.struct(
    [pa.field("index", pa.int32()), pa.field("score", pa.float32()), pa.field("scores", pa.list_(pa.float32()))]
)

FILLED = pa.struct(
    [
        pa.field("mask", pa.int32()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("token_id", pa.int32()),
        pa.field("token", pa.string()),
        pa.field("score", pa.float32()),
    ]
)

ANSWER = pa.struct(
    [
        pa.field("question", pa.string()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("score", pa.float32()),
        pa.field("text", pa.string()),
    ]
)

DEAD = pa.schema(
    [
        pa.field(SHARD, pa.string()),
        pa.field(ROW, pa.int64()),  # null: the dead letter stands for the whole shard
        pa.field(STAGE, pa.string()),
        pa.field(REASON, pa.string()),
        pa.field(MESSAGE, pa.string()),
        pa.field("text", pa.string()),  # null: the row has no text, or the job does not set sink.dead_text
    ]
)


def input_column(name: str) -> str:
    """Return the internal name of a column that a task reads. TEXT is the internal name of the text."""
    return f"{INPUT_PREFIX}{name}"


def tokens_column(tokenizer: int, name: str) -> str:
    """Return the name of the column with the tokens of a column. tokenizer: the number of the tokenizer group."""
    return f"{TOKENS_PREFIX}{tokenizer}.{name}"


def rows_schema(kept: pa.Schema, inputs: pa.Schema) -> pa.Schema:
    """Return the schema of the read step: address, kept columns, inputs of the tasks, and reasons of dead rows."""
    address = [pa.field(SHARD, pa.string()), pa.field(ROW, pa.int64())]
    travel = [
        pa.field(UNIT, pa.string()),
        pa.field(UNIT_ROWS, pa.int64()),
        pa.field(TEXT, pa.string()),
        *(pa.field(input_column(field.name), field.type) for field in inputs),
        *(pa.field(name, pa.string()) for name in DEATH),
    ]
    return pa.schema([*address, *kept, *travel])


def data_schema(kept: pa.Schema, answers: pa.Schema) -> pa.Schema:
    """Return the schema of `data/*.parquet`. answers: the columns of the tasks."""
    return pa.schema([pa.field(SHARD, pa.string()), pa.field(ROW, pa.int64()), *kept, *answers])
