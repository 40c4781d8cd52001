"""The output folder: the plan put first, one object a unit, the manifest and _SUCCESS last.

A unit is done when its object lies in data/; nothing else is remembered, so a resume lists data/ and does the rest.
"""

import base64
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distilray.model.store import StoreError, explain, open_store
from distilray.operators.read import Read, Unit
from distilray.operators.storage import put, put_first
from distilray.operators.write import STATS_KEY, Stats
from distilray.pipeline.errors import JobError
from distilray.pipeline.footers import read_footers
from distilray.pipeline.forecast import Forecast
from distilray.pipeline.job import Sink, Source
from distilray.pipeline.plan import Plan

_PLAN, _MANIFEST, _SUCCESS = "_plan.parquet", "_manifest.json", "_SUCCESS"
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


class IncompleteError(RuntimeError):
    """Rows planned and rows answered differ: the run must not say success."""


@dataclass(frozen=True)
class Output:
    """A sink, opened."""

    fs: Any
    root: str
    uri: str

    def load_plan(self, source: Source, inputs: pa.Schema, fingerprint: str) -> Plan | None:
        """The plan of an earlier run of the same job; None in a new folder.

        Raises JobError if another job, or something else, has written here.
        """
        path = f"{self.root}/{_PLAN}"
        if not self.fs.exists(path):
            if self.committed():
                raise JobError(
                    f"{self.uri} has data/ but no {_PLAN}: it is not an output of distilray; choose another sink"
                )
            return None
        table = pq.read_table(io.BytesIO(self.fs.cat_file(path)))
        about = json.loads(table.schema.metadata[_PLAN_KEY])
        if about["fingerprint"] != fingerprint:
            raise JobError(
                f"{self.uri} holds the output of a different job (another source, task, model or dtype); "
                "choose another sink, or empty this one"
            )
        kept, partitions = (_schema(about[name]) for name in ("kept", "partitions"))
        units = tuple(_unit(row) for row in table.to_pylist())
        read = Read(source.text, inputs, kept, partitions, source.storage_options)
        counts = (about["shards"], about["bytes"], about["text_bytes"])
        forecast = about.get("forecast")  # before version 0.3 a plan had none
        return Plan(read, units, *counts, about.get("tokens_per_pack"), forecast and Forecast(**forecast))

    def save_plan(self, plan: Plan, fingerprint: str) -> bool:
        """Put by the first run, so that every other has the same units; False if another run was first.

        Raises JobError if the sink cannot be written.
        """
        about = {
            "fingerprint": fingerprint,
            "shards": plan.shards,
            "bytes": plan.bytes,
            "text_bytes": plan.text_bytes,
            "tokens_per_pack": plan.tokens_per_pack,
            "forecast": plan.forecast and asdict(plan.forecast),
            "kept": base64.b64encode(plan.read.kept.serialize()).decode(),
            "partitions": base64.b64encode(plan.read.partitions.serialize()).decode(),
        }
        table = pa.Table.from_pylist([asdict(unit) for unit in plan.units], schema=_UNIT)
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({_PLAN_KEY: json.dumps(about)}), buffer, compression="zstd")
        try:
            return put_first(self.fs, f"{self.root}/{_PLAN}", buffer.getvalue())
        except StoreError as error:
            raise StoreError(f"cannot write to sink {self.uri}: {error}") from error
        except Exception as error:  # every store has its own exceptions; all of them mean "cannot be written"
            raise JobError(f"cannot write to sink {self.uri}: {explain(error)}") from error

    def committed(self) -> dict[str, int]:
        """The units whose object is there, and its size in bytes."""
        folder = f"{self.root}/data"
        self.fs.invalidate_cache()
        try:
            infos = self.fs.ls(folder, detail=True)
        except FileNotFoundError:
            return {}
        sizes = {info["name"].rsplit("/", 1)[-1]: info["size"] for info in infos}
        return {
            name.removesuffix(".parquet"): size
            for name, size in sizes.items()
            if name.endswith(".parquet") and not name.startswith(".")
        }

    def stats(self, units: Mapping[str, int]) -> Stats:
        """The sum of what committed units, with their sizes, say of themselves in their footers. Raises StoreError."""
        files = [(f"{self.root}/data/{unit}.parquet", size) for unit, size in units.items()]
        return total(_unit_stats(footer) for footer in read_footers(self.fs, files))

    def manifest(self) -> dict[str, Any] | None:
        """What `finish` wrote; None before that."""
        if not self.fs.exists(f"{self.root}/{_SUCCESS}"):
            return None
        manifest: dict[str, Any] = json.loads(self.fs.cat_file(f"{self.root}/{_MANIFEST}"))
        return manifest

    def finished(self, plan: Plan) -> dict[str, Any] | None:
        """The manifest if nothing is left to do."""
        manifest = self.manifest()
        done = self.committed() if manifest else {}
        return manifest if all(unit.name in done for unit in plan.units) else None

    def finish(self, plan: Plan, stats: Stats, about: Mapping[str, Any]) -> dict[str, Any]:
        """Manifest, then _SUCCESS, if planned = answered + dead; else IncompleteError and neither."""
        committed, units = self.committed(), {unit.name for unit in plan.units}
        missing = units - committed.keys()
        planned = plan.rows + plan.dead_shards
        if foreign := committed.keys() - units:
            raise IncompleteError(f"{self.uri}/data holds {len(foreign)} objects of no unit, such as {min(foreign)}")
        if missing or stats.rows + stats.dead_letters != planned:
            raise IncompleteError(
                f"{planned} rows planned, {stats.rows} answered, {stats.dead_letters} dead letters, "
                f"{len(missing)} of {len(plan.units)} units missing in {self.uri}; run the job again"
            )
        manifest = {**about, **asdict(stats), "padding": stats.padding, "shards": plan.shards}
        put(self.fs, f"{self.root}/{_MANIFEST}", json.dumps(manifest, indent=2).encode())
        put(self.fs, f"{self.root}/{_SUCCESS}", b"")
        return manifest


def open_output(sink: Sink) -> Output:
    """Raises JobError if the folder cannot be reached."""
    try:
        fs, root = open_store(sink.uri, sink.storage_options)
        fs.invalidate_cache()
        fs.exists(f"{root}/{_PLAN}")
        if "s3" in fs.protocol:
            _check_bucket(fs, root.split("/")[0])
    except StoreError as error:
        raise StoreError(f"cannot reach sink {sink.uri}: {error}") from error
    except Exception as error:  # every store has its own exceptions; all of them mean "unreachable"
        raise JobError(f"cannot reach sink {sink.uri}: {explain(error)}") from error
    return Output(fs, root, sink.uri)


def _check_bucket(fs: Any, bucket: str) -> None:
    """FileNotFoundError for a missing bucket, which some servers would make at the first put."""
    try:
        fs.call_s3("head_bucket", Bucket=bucket)
    except FileNotFoundError:
        raise FileNotFoundError(f"no such bucket: {bucket}") from None
    except PermissionError:
        return  # a role may well be allowed to write to a folder, and to ask nothing about its bucket


def _unit_stats(footer: pq.FileMetaData | Exception) -> Stats:
    if isinstance(footer, Exception):
        raise footer
    return Stats(**json.loads(footer.metadata[STATS_KEY]))


def total(stats: Iterable[Stats]) -> Stats:
    """The sum of any number of Stats."""
    return reduce(add, stats, Stats())


def _schema(encoded: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(encoded)))


def _unit(row: Mapping[str, Any]) -> Unit:
    first, last = row["row_groups"]
    error = row["error"] and (row["error"][0], row["error"][1])
    return Unit(**{**row, "row_groups": (first, last), "partitions": tuple(row["partitions"]), "error": error})
