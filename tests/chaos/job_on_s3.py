"""A job whose corpus, model and output are on a real S3 server behind the fault proxy, and its driver processes."""

import faulthandler
import io
import json
import multiprocessing
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import s3fs
import yaml

from tests.proxy import Proxy, fault_proxy
from tests.s3 import S3Process, S3Server, s3_server
from tests.support import make_checkpoint, random_texts, write_shard

TIMEOUT = 240  # seconds
_REFERENCE = "reference"
_COUNTS = ("rows", "dead", "units", "tokens", "window_tokens", "labels", "truncated", "shards", "padding")

# drivers are forked from a process that has imported their modules, so that they start at once
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["distilray.pipeline.cli.main", "distilray.pipeline.engines.ray_data", "s3fs", "tests.chaos.job_on_s3"]
)


@dataclass(frozen=True)
class JobOnS3:
    """A job and its outputs on an S3 server."""

    folder: Path
    server: S3Process
    proxy: Proxy

    @property
    def fs(self) -> s3fs.S3FileSystem:
        """A file system that accesses the server directly, without the proxy."""
        return s3fs.S3FileSystem(**self.server.storage_options, use_listings_cache=False)

    def start(
        self, out: str, engine: str = "local", environment: Mapping[str, str] | None = None, sink: str = ""
    ) -> BaseProcess:
        """Start `distilray run` with the sink s3://out/OUT, or with the given sink, in a process of its own.

        The file `log(out)` receives its output.
        """
        arguments = ["run", str(self.folder / "job.yaml")]
        for override in (f"sink.uri={sink or f's3://out/{out}'}", f"compute.engine={engine}"):
            arguments += ["--set", override]
        process = _processes.Process(target=_drive, args=(arguments, str(self.log(out)), dict(environment or {})))
        process.start()
        return process

    def finish(self, out: str) -> None:
        """Run the job to its end. Raises AssertionError with the end of the log if it fails."""
        process = self.start(out)
        process.join(TIMEOUT)
        assert process.exitcode == 0, f"exit code {process.exitcode}:\n{self.log(out).read_text()[-3000:]}"

    def log(self, out: str) -> Path:
        return self.folder / f"{out}.log"

    def names(self, out: str) -> set[str]:
        """Return the names of all objects of an output, relative to its sink."""
        return {name.removeprefix(f"out/{out}/") for name in self.fs.find(f"out/{out}")}

    def table(self, out: str, part: str) -> pa.Table:
        """Return all rows of data/ or dead/, in order of shard and row."""
        fs = self.fs
        files = fs.cat(sorted(fs.glob(f"out/{out}/{part}/*.parquet")), on_error="raise")
        tables = [pq.read_table(io.BytesIO(data)).replace_schema_metadata(None) for data in files.values()]
        return pa.concat_tables(tables).sort_by([("shard", "ascending"), ("row", "ascending")])

    def differences(self, out: str) -> dict[str, Any]:
        """Return the differences between a finished output and the output of the uninterrupted run. Empty if equal."""
        wrong: dict[str, Any] = {}
        if unequal := self._lasting(out) ^ self._lasting(_REFERENCE):
            wrong["objects"] = sorted(unequal)[:10]
        for part in ("data", "dead"):
            table, expected = self.table(out, part), self.table(_REFERENCE, part)
            rows, expected_rows = _count_rows(table), _count_rows(expected)
            errors = {
                "lost": sorted(expected_rows - rows)[:10],
                "twice": [row for row, count in rows.items() if count > 1][:10],
                "foreign": sorted(rows.keys() - expected_rows.keys())[:10],
            }
            wrong |= {f"{part} {name}": value for name, value in errors.items() if value}
            if not any(errors.values()) and not table.equals(expected):
                wrong[f"{part} differs"] = [n for n in table.column_names if not table[n].equals(expected[n])]
        manifest, reference = self._counts(out), self._counts(_REFERENCE)
        wrong |= {name: [value, reference[name]] for name, value in manifest.items() if value != reference[name]}
        return wrong

    def _lasting(self, out: str) -> set[str]:
        """Return the objects of an output without those in _runs/. Every run adds one ton_s3."""
        return {name for name in self.names(out) if not name.startswith("_runs/")}

    def _counts(self, out: str) -> dict[str, Any]:
        manifest = json.loads(self.fs.cat_file(f"out/{out}/_manifest.json"))
        return {name: manifest[name] for name in _COUNTS}


@contextmanager
def job_on_s3(folder: Path, shards: int = 2, rows: int = 30, seed: int = 0, **model: int) -> Iterator[JobOnS3]:
    """Make a job with units of ten rows, and run it once without interruption.

    The 15th and the last text of every shard are null.
    """
    with s3_server(folder / "s3") as server, fault_proxy(server.endpoint, seed) as proxy:
        on_s3 = JobOnS3(folder, server, proxy)
        make_checkpoint(folder / "model", **{"layers": 1, **model})
        for shard in range(shards):
            texts: list[str | None] = [*random_texts(rows, shard, words=(20, 40))]
            texts[14] = texts[-1] = None
            write_shard(folder / f"corpus/{shard:03}.parquet", texts, row_group_size=10, id=list(range(rows)))
        fs = on_s3.fs
        for bucket in ("corpus", "models", "out"):
            fs.mkdir(bucket)
        fs.put(f"{folder}/corpus/", "corpus/news/", recursive=True)
        fs.put(f"{folder}/model/", "models/ner/", recursive=True)
        options = {**S3Server(proxy.endpoint).storage_options, "config_kwargs": {"read_timeout": 5}}
        job = {
            "source": {"uri": "s3://corpus/news/", "keep": ["id"], "storage_options": options},
            "tasks": [{"task": "token-classification", "model": "s3://models/ner/", "storage_options": options}],
            "sink": {"uri": f"s3://out/{_REFERENCE}", "storage_options": options},
            "compute": {"unit_bytes": 3000, "dtype": "float32", "threads": 1},
        }
        (folder / "job.yaml").write_text(yaml.safe_dump(job))
        on_s3.finish(_REFERENCE)
        yield on_s3


def _count_rows(table: pa.Table) -> Counter[tuple[str, int]]:
    return Counter(zip(table["shard"].to_pylist(), table["row"].to_pylist(), strict=True))


def _drive(arguments: Sequence[str], log: str, environment: Mapping[str, str]) -> None:
    """Run the command line in this process. log: the file that receives its output."""
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    faulthandler.register(signal.SIGUSR1)
    os.environ.update(environment)
    from distilray.pipeline.cli.main import main

    sys.exit(main(arguments))
