"""The file of a plan: a Parquet table of the units, with everything else as JSON in the metadata of its schema."""

import base64
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain
from distilray.operators.read import Read
from distilray.operators.rows.unit import Unit
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.fingerprint import answer_keys
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.forecast import Forecast
from distilray.pipeline.planning.plan import Plan

# what to do about a broken file
PLAN_ADVICE = (
    "restore a copy of it, such as an older version in the bucket, or choose another sink; the objects of data/ can "
    "still be read, because each of their rows has its shard and row number"
)
MANIFEST_ADVICE = (
    "remove it, and run the job again, which counts the units without recomputing them and rewrites the file"
)
RUNS_ADVICE = "remove it: it belongs to a run that has ended"
DEAD_ADVICE = "remove it and _SUCCESS, and run the job again, which rewrites it from the copy in data/"

_PLAN_KEY = b"distilray.plan"
_KEYS_SHOWN, _CHARACTERS_SHOWN = 5, 80  # keys that differ; characters of a value
_MAX_LISTS = 100_000  # the longest list in a footer, such as its row groups: Arrow allocates the length that it claims

_UNITS = pa.schema(
    [
        ("name", pa.string()),
        ("uri", pa.string()),
        ("version", pa.string()),
        ("row_groups", pa.list_(pa.int64(), 2)),
        ("skip", pa.int64()),
        ("first_row", pa.int64()),
        ("rows", pa.int64()),
        ("partitions", pa.list_(pa.string())),
        ("error", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class StoredPlan:
    """A plan as it is stored in a sink.

    about: the JSON object with the fingerprint, the job (absent before version 0.4), and the other fields of the plan.
    """

    units: tuple[Unit, ...]
    about: dict[str, Any]

    @property
    def schema(self) -> pa.Schema | None:
        """The schema of the data objects; None before version 0.4."""
        return decode_schema(self.about["schema"]) if "schema" in self.about else None


def encode_plan(plan: Plan, fingerprint: str, job: Job, schema: pa.Schema) -> bytes:
    """Encode a plan to the bytes of its file. schema: the schema of the data objects."""
    about = {
        "fingerprint": fingerprint,
        "job": job.description(),
        "schema": encode_schema(schema),
        "shards": plan.shards,
        "empty": plan.empty,
        "bytes": plan.bytes,
        "text_bytes": plan.text_bytes,
        "tokens_per_pack": plan.tokens_per_pack,
        "forecast": plan.forecast and asdict(plan.forecast),
        "kept": encode_schema(plan.read.kept),
        "partitions": encode_schema(plan.read.partitions),
    }
    table = pa.Table.from_pylist([asdict(unit) for unit in plan.units], schema=_UNITS)
    buffer = io.BytesIO()
    table = table.replace_schema_metadata({_PLAN_KEY: json.dumps(about)})
    # no dictionaries: Arrow trusts the size that a dictionary page claims, and zstd alone makes the file as small
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


def read_plan(data: bytes, where: str) -> StoredPlan:
    """Decode the bytes of a plan's file. where: its URI, for messages. Raises JobError if the file is broken."""
    with as_job_error(where, PLAN_ADVICE):
        limits = {"thrift_container_size_limit": _MAX_LISTS, "thrift_string_size_limit": len(data)}
        file = pq.ParquetFile(io.BytesIO(data), **limits)
        _check_footer(file.metadata, len(data))
        table = file.read()
        about = json.loads(table.schema.metadata[_PLAN_KEY])
        _check_plan(table, about)
        return StoredPlan(tuple(_unit(row) for row in table.to_pylist()), about)


def to_plan(stored: StoredPlan, job: Job, where: str) -> Plan:
    """Convert a stored plan to the plan of a job, which must have passed `check_same_job`.

    where: the URI of the plan, for messages. Raises JobError if the plan is broken.
    """
    about = stored.about
    with as_job_error(where, PLAN_ADVICE):
        kept, partitions = (decode_schema(about[name]) for name in ("kept", "partitions"))
        read = Read(job.source.text, job.inputs, kept, partitions, job.source.storage_options)
        counts = (about["shards"], about["bytes"], about["text_bytes"])
        forecast = about.get("forecast")  # absent before version 0.3
        forecast = forecast and Forecast(**forecast)
        empty = tuple((uri, version) for uri, version in about.get("empty", []))  # absent before version 0.4
        return Plan(read, stored.units, *counts, about.get("tokens_per_pack"), forecast, empty)


@contextmanager
def as_job_error(where: str, advice: str) -> Iterator[None]:
    """Raise JobError for any exception in the block, except for a StoreError, which passes.

    The block reads a file of an output, and its exceptions mean that the file is broken. where: the URI of the file.
    advice: what to do about it.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise JobError(f"{where} is not as distilray wrote it ({explain(error)}): {advice}") from error


def check_same_job(stored: StoredPlan, job: Job, fingerprint: str, uri: str) -> None:
    """Raise JobError if the plan in the sink `uri` has another fingerprint. The message lists the keys that differ."""
    if stored.about["fingerprint"] == fingerprint:
        return
    with as_job_error(f"the job in the plan of {uri}", PLAN_ADVICE):
        differences = _differences(stored.about.get("job"), job)
    raise JobError(
        f"{uri} holds the output of a different job: {differences}; restore the old values, choose another sink, or "
        "empty this one"
    )


def _differences(stored: Mapping[str, Any] | None, job: Job) -> str:
    if stored is None:  # before version 0.4
        return "another source, task, model or dtype"
    old, new = (dict(_leaves(answer_keys(description))) for description in (stored, job.description()))
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    shown = [f"{key} was {_short(old.get(key))} and is {_short(new.get(key))}" for key in keys[:_KEYS_SHOWN]]
    more = [f"{len(keys) - _KEYS_SHOWN} more keys"] if len(keys) > _KEYS_SHOWN else []
    return "; ".join([*shown, *more]) or "the files of a model have changed since the first run"


def _short(value: str | None) -> str:
    if value is None:
        return "absent"
    return value if len(value) <= _CHARACTERS_SHOWN else f"{value[:_CHARACTERS_SHOWN]}..."


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted path and the JSON text of each value that is neither a dict nor a list of dicts."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(each, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def _check_footer(metadata: pq.FileMetaData, size: int) -> None:
    """Raise ValueError if a row group claims more rows than the file has bytes, before Arrow allocates their memory."""
    for i in range(metadata.num_row_groups):
        if not 0 <= (rows := metadata.row_group(i).num_rows) <= size:  # each row has a name of its own
            raise ValueError(f"its row group {i} claims {rows} rows, the file has {size} bytes")


def _check_plan(table: pa.Table, about: Any) -> None:
    """Raise ValueError if a table or its JSON object is not that of a plan."""
    if not isinstance(about, dict) or "fingerprint" not in about:
        raise ValueError("expected a JSON object with a fingerprint")
    if not table.schema.equals(_UNITS):
        raise ValueError(f"expected the columns {_UNITS.names} with their types, got {table.schema.names}")
    table.validate(full=True)
    if with_nulls := [name for name in _UNITS.names if name != "error" and table[name].null_count]:
        raise ValueError(f"expected no null, got null in {', '.join(with_nulls)}")
    if negative := [name for name in ("skip", "first_row", "rows") if pc.any(pc.less(table[name], 0)).as_py()]:
        raise ValueError(f"expected no negative number, got one in {', '.join(negative)}")


def encode_schema(schema: pa.Schema) -> str:
    """Encode a schema as text: base64 of Arrow's IPC message."""
    return base64.b64encode(schema.serialize()).decode()


def decode_schema(text: str) -> pa.Schema:
    """Decode a schema from the text that `encode_schema` returned."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _unit(row: Mapping[str, Any]) -> Unit:
    first, last = row["row_groups"]
    error = row["error"] and (row["error"][0], row["error"][1])
    return Unit(**{**row, "row_groups": (first, last), "partitions": tuple(row["partitions"]), "error": error})
