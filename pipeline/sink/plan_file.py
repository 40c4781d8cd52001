"""The plan as a file: Parquet of its units, and what else it knows as JSON in the metadata."""

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
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.forecast import Forecast
from distilray.pipeline.planning.plan import Plan

_PLAN_KEY = b"distilray.plan"
# what to do about files that are broken
PLAN_ADVICE = (
    "put back a copy of it, such as an older version in the bucket; without one choose another sink: the objects of data/ "
    "stay right to read, for each of their rows says which it is"
)
MANIFEST_ADVICE = (
    "remove it, and run the job again: that counts what is there, computes nothing twice, and writes it anew"
)
RUNS_ADVICE = "remove it: it is of a run that has ended"
DEAD_ADVICE = "remove it and _SUCCESS, and run the job again: data/ holds it too, so that it is put again"

_SHOWN, _CHARACTERS = 5, 80  # keys that differ, and of their values

_UNIT = pa.schema(
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

_LISTS = 100_000  # row groups and the like: the memory of as many as a footer claims is asked for at once


@dataclass(frozen=True)
class StoredPlan:
    """A plan as it lies in a sink. about: the fingerprint, the job (not before version 0.4), and more."""

    units: tuple[Unit, ...]
    about: dict[str, Any]

    @property
    def schema(self) -> pa.Schema | None:
        """Of the data objects; None before version 0.4."""
        return decoded(self.about["schema"]) if "schema" in self.about else None


def encode_plan(plan: Plan, fingerprint: str, job: Job, schema: pa.Schema) -> bytes:
    """The file. schema: of the data objects."""
    about = {
        "fingerprint": fingerprint,
        "job": job.description(),
        "schema": encoded(schema),
        "shards": plan.shards,
        "empty": plan.empty,
        "bytes": plan.bytes,
        "text_bytes": plan.text_bytes,
        "tokens_per_pack": plan.tokens_per_pack,
        "forecast": plan.forecast and asdict(plan.forecast),
        "kept": encoded(plan.read.kept),
        "partitions": encoded(plan.read.partitions),
    }
    table = pa.Table.from_pylist([asdict(unit) for unit in plan.units], schema=_UNIT)
    buffer = io.BytesIO()
    whole = table.replace_schema_metadata({_PLAN_KEY: json.dumps(about)})
    # a dictionary's page claims a size that Arrow believes; zstd alone makes the file no larger
    pq.write_table(whole, buffer, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


def read_plan(data: bytes, where: str) -> StoredPlan:
    """Raises JobError for a file that is not as it was written."""
    with as_job_error(where, PLAN_ADVICE):
        limits = {"thrift_container_size_limit": _LISTS, "thrift_string_size_limit": len(data)}
        file = pq.ParquetFile(io.BytesIO(data), **limits)
        _check_footer(file.metadata, len(data))
        table = file.read()
        about = json.loads(table.schema.metadata[_PLAN_KEY])
        _check_plan(table, about)
        return StoredPlan(tuple(_unit(row) for row in table.to_pylist()), about)


def to_plan(stored: StoredPlan, job: Job, where: str) -> Plan:
    """The plan for a job that `check_same` has let pass. Raises JobError if it is not as it was written."""
    about = stored.about
    with as_job_error(where, PLAN_ADVICE):
        kept, partitions = (decoded(about[name]) for name in ("kept", "partitions"))
        read = Read(job.source.text, job.inputs, kept, partitions, job.source.storage_options)
        counts = (about["shards"], about["bytes"], about["text_bytes"])
        forecast = about.get("forecast")  # before version 0.3 a plan had none
        forecast = forecast and Forecast(**forecast)
        empty = tuple((uri, version) for uri, version in about.get("empty", []))  # before version 0.4 none was told
        return Plan(read, stored.units, *counts, about.get("tokens_per_pack"), forecast, empty)


@contextmanager
def as_job_error(where: str, advice: str) -> Iterator[None]:
    """A file of an output that is not as it was written is a JobError, whatever it is that raises but a failing store."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise JobError(f"{where} is not as distilray wrote it ({explain(error)}): {advice}") from error


def check_same_job(stored: StoredPlan, job: Job, fingerprint: str, uri: str) -> None:
    """Raises JobError, which names the keys that differ, if the plan in the sink `uri` is of a job with other answers."""
    if stored.about["fingerprint"] == fingerprint:
        return
    with as_job_error(f"the job in the plan of {uri}", PLAN_ADVICE):
        said = _differences(stored.about.get("job"), job)
    raise JobError(
        f"{uri} holds the output of a different job: {said}; put that back, choose another sink, or empty this one"
    )


def _differences(there: Mapping[str, Any] | None, job: Job) -> str:
    if there is None:  # before version 0.4
        return "another source, task, model or dtype"
    old, new = (dict(_answering(each)) for each in (there, job.description()))
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    said = [f"{key} was {_short(old.get(key))} and is {_short(new.get(key))}" for key in keys[:_SHOWN]]
    more = [f"{len(keys) - _SHOWN} more keys"] if len(keys) > _SHOWN else []
    return "; ".join([*said, *more]) or "the files of a model are not those that it began with"


def _short(value: str | None) -> str:
    if value is None:
        return "not there"
    return value if len(value) <= _CHARACTERS else f"{value[:_CHARACTERS]}..."


def _answering(job: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The keys that a fingerprint covers and their values, as text."""
    yield from _keys({"source": job["source"], "tasks": job["tasks"], "compute": {"dtype": job["compute"]["dtype"]}})


def _keys(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(each, dict) for each in value)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _keys(each, f"{path}.{key}" if path else str(key))
    else:
        yield path, json.dumps(value, ensure_ascii=False)


def _check_footer(metadata: pq.FileMetaData, size: int) -> None:
    """Raises ValueError for rows that a file of so many bytes cannot hold: Arrow would ask for their memory."""
    for i in range(metadata.num_row_groups):
        if not 0 <= (rows := metadata.row_group(i).num_rows) <= size:  # each has a name of its own
            raise ValueError(f"its row group {i} claims {rows} rows, the file has {size} bytes")


def _check_plan(table: pa.Table, about: Any) -> None:
    """Raises ValueError for what no plan has."""
    if not isinstance(about, dict) or "fingerprint" not in about:
        raise ValueError("expected a JSON object with a fingerprint")
    if not table.schema.equals(_UNIT):
        raise ValueError(f"expected columns {_UNIT.names} of their types, got {table.schema.names}")
    table.validate(full=True)
    if lost := [name for name in _UNIT.names if name != "error" and table[name].null_count]:
        raise ValueError(f"null in {', '.join(lost)}")
    if wrong := [name for name in ("skip", "first_row", "rows") if pc.any(pc.less(table[name], 0)).as_py()]:
        raise ValueError(f"a negative number in {', '.join(wrong)}")


def encoded(schema: pa.Schema) -> str:
    """A schema as text."""
    return base64.b64encode(schema.serialize()).decode()


def decoded(text: str) -> pa.Schema:
    """What `encoded` gave."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _unit(row: Mapping[str, Any]) -> Unit:
    first, last = row["row_groups"]
    error = row["error"] and (row["error"][0], row["error"][1])
    return Unit(**{**row, "row_groups": (first, last), "partitions": tuple(row["partitions"]), "error": error})
