"""Broken plans, manifests and objects of an output: each is one error that names the object."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilray.model.errors import StoreError
from distilray.pipeline import Compute, IncompleteError, Job, JobError, Sink, Source, TokenClassification, run, verify
from distilray.pipeline.report.output_page import report_page
from distilray.pipeline.sink.dead_letter_summary import read_dead_letters
from distilray.pipeline.sink.output import Output, open_output
from tests.pipeline.report.pages import Page
from tests.support import write_shard


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Job:
    """A job with a finished output."""
    folder = tmp_path_factory.mktemp("finished")
    write_shard(folder / "corpus/a.parquet", ["Mary met John.", "London"])
    job = Job(
        source=Source(uri=str(folder / "corpus")),
        tasks=[TokenClassification(model=str(checkpoint))],
        sink=Sink(uri=str(folder / "out")),
        compute=Compute(engine="local"),
    )
    run(job, quiet=True)
    return job


@pytest.fixture
def job(finished: Job, tmp_path: Path) -> Job:
    """The finished job with a copy of its output."""
    shutil.copytree(finished.sink.uri, tmp_path / "out")
    return finished.model_copy(update={"sink": Sink(uri=str(tmp_path / "out"))})


def replace_column(file: Path, name: str, values: list[object]) -> None:
    table = pq.read_table(file)
    at = table.schema.get_field_index(name)
    pq.write_table(table.set_column(at, table.schema.field(at), pa.array(values, table.schema.types[at])), file)


def replace_metadata(file: Path, text: bytes) -> None:
    pq.write_table(pq.read_table(file).replace_schema_metadata({b"distilray.plan": text}), file)


BREAKS: dict[str, Callable[[Path], object]] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-20]),
    "empty": lambda file: file.write_bytes(b""),
    "words": lambda file: file.write_bytes(b"these are words"),
    "no column": lambda file: pq.write_table(pq.read_table(file).drop(["version"]), file),
    "null": lambda file: replace_column(file, "rows", [None]),
    "negative": lambda file: replace_column(file, "rows", [-2]),
    "no metadata": lambda file: pq.write_table(pq.read_table(file).replace_schema_metadata(None), file),
    "no JSON": lambda file: replace_metadata(file, b"{"),
    "another JSON": lambda file: replace_metadata(file, b"[1]"),
    "not UTF-8": lambda file: replace_metadata(file, b'{"fingerprint": "\xff"}'),
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_plan_is_an_error(name: str, job: Job, tmp_path: Path) -> None:
    BREAKS[name](tmp_path / "out/_plan.parquet")
    with pytest.raises(JobError, match=r"out/_plan.parquet is not as distilray wrote it \("):
        run(job, quiet=True)


@pytest.mark.parametrize("key", ["kept", "partitions", "forecast"])
def test_a_plan_with_a_key_of_another_type_is_an_error(key: str, job: Job, tmp_path: Path) -> None:
    file = tmp_path / "out/_plan.parquet"
    content = json.loads(pq.read_schema(file).metadata[b"distilray.plan"]) | {key: {"x": 1}}
    replace_metadata(file, json.dumps(content).encode())
    with pytest.raises(JobError, match=r"out/_plan.parquet is not as distilray wrote it \("):
        run(job, quiet=True)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff"])
def test_a_broken_manifest_is_an_error(text: bytes, job: Job, tmp_path: Path) -> None:
    (tmp_path / "out/_manifest.json").write_bytes(text)
    with pytest.raises(
        JobError, match=r"out/_manifest.json is not as distilray wrote it \(.*remove it, and run the job"
    ):
        run(job, quiet=True)


def test_a_run_rewrites_a_removed_manifest_and_computes_nothing(job: Job, tmp_path: Path) -> None:
    manifest = tmp_path / "out/_manifest.json"
    before = json.loads(manifest.read_text())
    manifest.unlink()
    assert run(job, quiet=True).computed.units == 0
    after = json.loads(manifest.read_text())
    of_a_run = {"timing", "forecast", "job"}  # "job" has the sink that the output was copied from
    assert {name: after[name] for name in before.keys() - of_a_run} == {
        name: before[name] for name in before.keys() - of_a_run
    }
    assert verify(job.sink.uri).ok


@pytest.mark.parametrize("command", [lambda job: run(job, quiet=True), lambda job: report_page(job.sink.uri)])
@pytest.mark.parametrize("key", ["labels", "dead", "passes"])
def test_a_manifest_without_a_key_is_an_error(
    key: str, command: Callable[[Job], object], job: Job, tmp_path: Path
) -> None:
    manifest = tmp_path / "out/_manifest.json"
    content = json.loads(manifest.read_text())
    for broken in ({**content, key: 3}, {name: value for name, value in content.items() if name != key}):
        manifest.write_text(json.dumps(broken))
        with pytest.raises(
            JobError, match=rf"_manifest.json is not as distilray wrote it \(.*have another type: {key}\)"
        ):
            command(job)


def test_a_manifest_without_parity_has_a_report(job: Job, tmp_path: Path) -> None:
    manifest = tmp_path / "out/_manifest.json"
    content = json.loads(manifest.read_text())
    del content["parity"]
    manifest.write_text(json.dumps(content))
    assert Page(report_page(job.sink.uri)).figures["rows"] == "2"


def test_dead_letters_with_other_columns_are_an_error(job: Job, tmp_path: Path) -> None:
    letters = read_dead_letters(open_output(job.sink), {"null_text": 1}, {"000000"})
    assert (letters.read, letters.objects) == (0, 0)
    write_shard(tmp_path / "out/dead/000000.parquet", ["x"], shard=["a"], row=[1], reason=["null_text"])
    with pytest.raises(JobError, match=r"dead/000000.parquet is not as distilray wrote it \(.*stage"):
        read_dead_letters(open_output(job.sink), {"null_text": 1}, {"000000"})


def test_dead_letters_that_a_retry_removes_meanwhile_are_skipped(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Output, "object_sizes", lambda *_: {"000000": 100})
    letters = read_dead_letters(open_output(job.sink), {"null_text": 1}, {"000000"})
    assert (letters.read, letters.objects) == (0, 1)


def test_a_failing_store_is_not_reported_as_a_broken_output(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice for a broken output is to empty it."""

    def fail(*_: object) -> None:
        raise StoreError("503 Slow Down")

    monkeypatch.setattr("distilray.pipeline.report.output_page.start_times", fail)
    with pytest.raises(StoreError, match="503"):
        report_page(job.sink.uri)


def test_an_unreadable_data_object_is_not_reported_as_an_unreadable_corpus(job: Job, tmp_path: Path) -> None:
    (path,) = (tmp_path / "out/data").iterdir()
    table = pq.read_table(path)
    renamed = table.rename_columns({"row": "number"}).replace_schema_metadata(table.schema.metadata)
    pq.write_table(renamed, path)
    with pytest.raises(JobError, match=rf"cannot read data/{path.name} of "):
        report_page(job.sink.uri)


def test_a_report_of_a_broken_object_does_not_advise_to_remove_it(job: Job, tmp_path: Path) -> None:
    """A retry that the report does not know of may be writing the object."""
    (path,) = (tmp_path / "out/data").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    (tmp_path / "out/_SUCCESS").unlink()
    with pytest.raises(
        IncompleteError, match=f"data/{path.name} is not a valid data object.*distilray verify shows"
    ) as found:
        report_page(job.sink.uri)
    assert "emove" not in str(found.value)
    with pytest.raises(IncompleteError, match="Remove these objects"):
        run(job, quiet=True)
