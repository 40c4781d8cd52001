"""A plan or a manifest that is not as it was written is one error, whatever is wrong with it."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilray.pipeline import Compute, Job, JobError, Sink, Source, TokenClassification, run
from tests.support import write_shard


@pytest.fixture
def job(tmp_path: Path, checkpoint: Path) -> Job:
    """One that has been run."""
    write_shard(tmp_path / "corpus/a.parquet", ["Mary met John.", "London"])
    job = Job(
        source=Source(uri=str(tmp_path / "corpus")),
        tasks=[TokenClassification(model=str(checkpoint))],
        sink=Sink(uri=str(tmp_path / "out")),
        compute=Compute(engine="local"),
    )
    run(job, quiet=True)
    return job


def with_column(file: Path, name: str, values: list[object]) -> None:
    table = pq.read_table(file)
    at = table.schema.get_field_index(name)
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(values, table.schema.types[at])), file)


def about(file: Path, text: bytes) -> None:
    pq.write_table(pq.read_table(file).replace_schema_metadata({b"distilray.plan": text}), file)


BREAKS: dict[str, Callable[[Path], object]] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "empty": lambda file: file.write_bytes(b""),
    "words": lambda file: file.write_bytes(b"these are words"),
    "no column": lambda file: pq.write_table(pq.read_table(file).drop(["version"]), file),
    "null": lambda file: with_column(file, "rows", [None]),
    "negative": lambda file: with_column(file, "rows", [-2]),
    "no metadata": lambda file: pq.write_table(pq.read_table(file).replace_schema_metadata(None), file),
    "no JSON": lambda file: about(file, b"{"),
    "another JSON": lambda file: about(file, b"[1]"),
    "not UTF-8": lambda file: about(file, b'{"fingerprint": "\xff"}'),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_plan_is_named(name: str, job: Job, tmp_path: Path) -> None:
    BREAKS[name](tmp_path / "out/_plan.parquet")
    with pytest.raises(JobError, match=r"out/_plan.parquet is not as distilray wrote it \("):
        run(job, quiet=True)


@pytest.mark.parametrize("key", ["kept", "partitions", "forecast"])
def test_a_plan_with_something_else_is_named(key: str, job: Job, tmp_path: Path) -> None:
    file = tmp_path / "out/_plan.parquet"
    said = json.loads(pq.read_schema(file).metadata[b"distilray.plan"]) | {key: {"x": 1}}
    about(file, json.dumps(said).encode())
    with pytest.raises(JobError, match=r"out/_plan.parquet is not as distilray wrote it \("):
        run(job, quiet=True)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff"])
def test_a_broken_manifest_is_named(text: bytes, job: Job, tmp_path: Path) -> None:
    (tmp_path / "out/_manifest.json").write_bytes(text)
    with pytest.raises(JobError, match=r"out/_manifest.json is not as distilray wrote it \("):
        run(job, quiet=True)
