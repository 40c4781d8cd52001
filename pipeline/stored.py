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

from distilray.model.store import StoreError, explain
from distilray.operators.read import Unit
from distilray.pipeline.errors import JobError
from distilray.pipeline.job import Job
from distilray.pipeline.plan import Plan

_PLAN_KEY = b"distilray.plan"

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
class Stored:
    """A plan as it lies in a sink. about: the fingerprint, the job (not before version 0.4), and more."""

    units: tuple[Unit, ...]
    about: dict[str, Any]

    @property
    def schema(self) -> pa.Schema | None:
        """Of the data objects; None before version 0.4."""
        return decoded(self.about["schema"]) if "schema" in self.about else None


def written_plan(plan: Plan, fingerprint: str, job: Job, schema: pa.Schema) -> bytes:
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


def read_plan(data: bytes, where: str) -> Stored:
    """Raises JobError for a file that is not as it was written."""
    with broken(where):
        limits = {"thrift_container_size_limit": _LISTS, "thrift_string_size_limit": len(data)}
        table = pq.read_table(io.BytesIO(data), **limits)
        about = json.loads(table.schema.metadata[_PLAN_KEY])
        _check_plan(table, about)
        return Stored(tuple(_unit(row) for row in table.to_pylist()), about)


@contextmanager
def broken(where: str) -> Iterator[None]:
    """A file of an output that is not as it was written is a JobError, whatever it is that raises but a failing store."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise JobError(
            f"{where} is not as distilray wrote it ({explain(error)}): choose another sink, or empty this one"
        ) from error


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
