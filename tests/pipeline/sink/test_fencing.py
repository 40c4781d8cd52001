"""Two runs on one sink: the newer run owns it, the older run stops, and every row is answered once."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
from fsspec import AbstractFileSystem

from distilray.model.errors import StoreError
from distilray.operators.objects.object_store import write_if_absent, write_object, write_streamed
from distilray.pipeline import Compute, Job, JobError, Sink, Source, TokenClassification
from distilray.pipeline.commands.run import execute
from distilray.pipeline.errors import FencedError
from distilray.pipeline.report.output_page import report_page
from distilray.pipeline.sink import fencing
from distilray.pipeline.sink.fencing import take_over
from tests.clusters import cluster_of
from tests.s3 import s3_server
from tests.support import output_bytes, random_texts, read_output, slow_job, write_shard

PATIENCE = 500  # seconds


def job_of(folder: Path, out: Path) -> Job:
    return Job(
        source=Source(uri=str(folder / "corpus")),
        tasks=[TokenClassification(model=str(folder / "model"))],
        sink=Sink(uri=str(out)),
        compute=Compute(engine="local", unit_bytes=2000),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A folder with a small corpus, a model, and their output in `alone`."""
    folder = tmp_path_factory.mktemp("fencing")
    (folder / "model").symlink_to(checkpoint)
    for shard in range(2):
        write_shard(folder / f"corpus/{shard}.parquet", [*random_texts(39, shard), None], row_group_size=8)
    assert execute(job_of(folder, folder / "alone")).manifest["units"] > 6
    return folder


def test_a_newer_run_takes_over_and_the_older_stops(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fencing, "_CHECK_SECONDS", 0.0)
    job, newer = job_of(folder, tmp_path / "out"), []

    def start_another(_: object) -> None:
        if not newer:
            newer.append(execute(job))

    message = rf"run 2 of process {os.getpid()} on .*, started 20.*; run 1 stops"
    with pytest.raises(FencedError, match=message):
        execute(job, on_unit=start_another)
    assert newer[0].manifest["rows"] == 78
    assert output_bytes(tmp_path / "out") == output_bytes(folder / "alone")
    assert execute(job).computed.units == 0
    assert len(list((tmp_path / "out/_runs").iterdir())) == 2  # a run over a finished output writes no record
    record = json.loads((tmp_path / "out/_runs/000001.json").read_text())
    assert record.keys() == {"host", "pid", "started", "token", "versions"}


def test_an_older_run_that_checks_rarely_does_not_write_success(folder: Path, tmp_path: Path) -> None:
    job = job_of(folder, tmp_path / "out")
    units: list[object] = []

    def start_another(stats: object) -> None:
        units.append(stats)
        if len(units) == 2:
            take_over(fsspec.filesystem("file"), str(tmp_path / "out"))

    with pytest.raises(FencedError):
        execute(job, on_unit=start_another)
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert execute(job).manifest["rows"] == 78


def test_a_resume_with_other_versions_warns(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    job, current = job_of(folder, tmp_path / "out"), fencing.versions()
    older = {**current, "torch": "1.0"}

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(job, on_unit=stop)
    record = tmp_path / "out/_runs/000001.json"
    fields = json.loads(record.read_text())
    record.write_text(json.dumps({**fields, "versions": older}))
    del fields["versions"]
    (tmp_path / "out/_runs/000002.json").write_text(json.dumps(fields))  # as version 0.4 writes it
    (tmp_path / "out/_runs/000003.json").touch()  # broken, but only a warning depends on it
    manifest = execute(job).manifest
    assert (manifest["versions"], manifest["other_versions"]) == (current, [older])
    broken, warning = caplog.messages
    assert "cannot read the versions of an earlier run from" in broken
    assert "_runs/000003.json: " in broken
    assert f"used torch 1.0 (now {current['torch']})" in warning
    with pytest.raises(JobError, match=r"_runs/000003\.json is not as distilray wrote it .*: remove "):
        report_page(str(tmp_path / "out"), rows=0)
    (tmp_path / "out/_runs/000003.json").unlink()
    assert "torch 1.0" in report_page(str(tmp_path / "out"), rows=0)
    assert execute(job).manifest == manifest


def test_an_emptied_sink_stops_its_run(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FencedError, match=r"run 1 stops: its record .*_runs/000001\.json is missing, .*run the job again"
    ):
        execute(job_of(folder, tmp_path / "out"), on_unit=lambda _: shutil.rmtree(tmp_path / "out", ignore_errors=True))


def test_each_run_takes_a_number_of_its_own(tmp_path: Path) -> None:
    fs = fsspec.filesystem("file")
    with ThreadPoolExecutor(8) as pool:
        fences = list(pool.map(lambda _: take_over(fs, str(tmp_path)), range(24)))
    assert sorted(fence.number for fence in fences) == list(range(1, 25))
    for fence in fences[:-1]:
        if fence.number < 24:
            with pytest.raises(FencedError, match="run 24 of"):
                fence.check()


def test_an_overwritten_record_stops_the_earlier_run(tmp_path: Path) -> None:
    older = take_over(fsspec.filesystem("file"), str(tmp_path))
    newer = take_over(fsspec.filesystem("file"), str(tmp_path / "elsewhere"))
    (tmp_path / "_runs/000001.json").write_bytes(newer.record)  # a store without conditional writes
    with pytest.raises(FencedError):
        older.check()


def test_a_conditional_write_succeeds_only_for_the_first_content(tmp_path: Path) -> None:
    fs = fsspec.filesystem("file")
    assert write_if_absent(fs, str(tmp_path / "x"), b"mine")
    assert write_if_absent(fs, str(tmp_path / "x"), b"mine")  # a repetition, as after a lost response
    assert not write_if_absent(fs, str(tmp_path / "x"), b"another's")
    assert (tmp_path / "x").read_bytes() == b"mine"


def test_fencing_works_on_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    fs = fsspec.filesystem("file")
    assert write_if_absent(fs, str(tmp_path / "x"), b"mine")
    assert not write_if_absent(fs, str(tmp_path / "x"), b"another's")
    assert (tmp_path / "x").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    older, newer = (take_over(fs, str(tmp_path / "out")) for _ in range(2))
    newer.check()
    with pytest.raises(FencedError, match="run 2 of"):
        older.check()


def write_as_draft(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    write_streamed(fs, path, lambda file: file.write(data))


@pytest.mark.parametrize("write", [write_object, write_if_absent, write_as_draft])
def test_a_full_disk_is_an_error_and_leaves_no_partial_object(
    write: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match=r"cannot write to .*/out: OSError: .*No space left"):
        write(fsspec.filesystem("file"), str(tmp_path / "out/x"), b"data")
    assert not list((tmp_path / "out").iterdir())


def test_an_empty_shard_that_has_rows_now_is_an_error(folder: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_shard(corpus / "0.parquet", random_texts(20, 0))
    empty = write_shard(corpus / "1.parquet", [])
    job = job_of(folder, tmp_path / "out").model_copy(update={"source": Source(uri=str(corpus))})
    execute(job)
    (tmp_path / "out/_SUCCESS").unlink()
    assert execute(job).manifest["rows"] == 20
    (tmp_path / "out/_SUCCESS").unlink()
    write_shard(empty, random_texts(5, 1))
    with pytest.raises(JobError, match=r"1 of 2 shards changed .*1\.parquet had ETag or size \d+, now it has"):
        execute(job)


def test_a_corpus_that_changed_between_two_runs_is_an_error(folder: Path, tmp_path: Path) -> None:
    job = job_of(folder, tmp_path / "out")
    corpus = tmp_path / "corpus"
    shards = [write_shard(corpus / f"{i}.parquet", random_texts(20, i), row_group_size=8) for i in range(3)]
    job = job.model_copy(update={"source": Source(uri=str(corpus))})
    execute(job)
    before = shards[0].read_bytes()
    (tmp_path / "out/_SUCCESS").unlink()
    write_shard(shards[0], random_texts(21, 7), row_group_size=8)  # all units of this shard are committed
    with pytest.raises(
        JobError, match=rf"1 of 3 shards changed .*0\.parquet had ETag or size {len(before)}, now it has"
    ):
        execute(job)
    shards[0].unlink()
    with pytest.raises(JobError, match=r"0\.parquet had ETag or size \d+, now it is missing; restore the shards"):
        execute(job)
    shards[0].write_bytes(before)
    assert execute(job).computed.units == 0
    shards[0].unlink()
    assert execute(job).manifest["rows"] == 60  # a finished output does not need the corpus


def start(job: Path, out: str, environment: Mapping[str, str], *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "distilray", "run", str(job), "--set", f"sink.uri={out}", *more]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env={**os.environ, **environment}, text=True, **pipes)


@pytest.fixture(scope="module")
def long_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job that takes some seconds, and its output in `alone`."""
    folder = tmp_path_factory.mktemp("long_folder")
    slow_job(folder, 160)
    assert start(folder / "job.yaml", str(folder / "alone"), {}).wait(PATIENCE) == 0
    return folder


def assert_one_run_finishes(drivers: list[subprocess.Popen[str]]) -> None:
    errors = [driver.communicate(timeout=PATIENCE)[1] for driver in drivers]
    assert sorted(driver.returncode for driver in drivers) == [0, 1], errors
    (loser,) = (i for i in range(2) if drivers[i].returncode)
    assert f"of process {drivers[1 - loser].pid} on" in errors[loser]
    assert "has taken over" in errors[loser]
    assert "Traceback" not in errors[loser]


@pytest.mark.slow
def test_one_of_two_simultaneous_drivers_finishes(long_folder: Path, tmp_path: Path) -> None:
    assert_one_run_finishes([start(long_folder / "job.yaml", str(tmp_path / "out"), {}) for _ in range(2)])
    assert output_bytes(tmp_path / "out") == output_bytes(long_folder / "alone")


@pytest.mark.slow
def test_one_of_two_drivers_finishes_the_run_of_a_killed_driver(long_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = start(long_folder / "job.yaml", str(out), {})
    while not list(out.glob("data/[0-9]*.parquet")):
        assert first.poll() is None
        time.sleep(0.05)
    first.kill()
    first.wait()
    assert_one_run_finishes([start(long_folder / "job.yaml", str(out), {}) for _ in range(2)])
    assert output_bytes(out) == output_bytes(long_folder / "alone")


@pytest.fixture(scope="module")
def on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an S3 server with an empty bucket."""
    with s3_server(tmp_path_factory.mktemp("s3") / "data") as server:
        fsspec.filesystem("s3", **server.storage_options).mkdir("bucket")
        yield server.environment


@pytest.mark.chaos
@pytest.mark.cluster
@pytest.mark.s3
def test_one_of_two_simultaneous_drivers_finishes_on_ray_and_s3(
    long_folder: Path, on_s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = "s3://bucket/out"
    for name, value in on_s3.items():  # the workers of the cluster need the credentials, too
        monkeypatch.setenv(name, value)
    with cluster_of(2) as cluster:
        environment = on_s3 | {"RAY_ADDRESS": cluster.address}
        more = ("--set", "compute.engine=ray")
        assert_one_run_finishes([start(long_folder / "job.yaml", out, environment, *more) for _ in range(2)])
    options = {"endpoint_url": on_s3["AWS_ENDPOINT_URL"], "key": on_s3["AWS_ACCESS_KEY_ID"]}
    fs = fsspec.filesystem("s3", **options, secret=on_s3["AWS_SECRET_ACCESS_KEY"])
    fs.get("bucket/out/data/", str(tmp_path / "data/"), recursive=True)
    assert read_output(tmp_path).equals(read_output(long_folder / "alone"))
    assert sum(pq.read_metadata(file).num_rows for file in (tmp_path / "data").iterdir()) == 636
