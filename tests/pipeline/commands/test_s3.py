"""Jobs with corpus, model and output on a real S3 server."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import s3fs
import yaml

from distilray.model.errors import CheckpointError
from distilray.pipeline import Compute, Job, JobError, Sink, Source, TokenClassification, verify
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.run import execute
from distilray.pipeline.report.output_page import report_page
from tests.pipeline.report.pages import Page
from tests.s3 import KEY, SECRET, S3Server
from tests.support import random_texts, read_output, write_shard

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def bucket(server: S3Server, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> s3fs.S3FileSystem:
    """The buckets corpus (two partitions), models (one model) and out (empty)."""
    fs = s3fs.S3FileSystem(**server.storage_options)
    local = tmp_path_factory.mktemp("corpus")
    for year in (2023, 2024):
        write_shard(local / f"year={year}/a.parquet", random_texts(60, year), row_group_size=20, id=list(range(60)))
    for name in ("corpus", "models", "out"):
        fs.mkdir(name)
    fs.put(f"{local}/", "corpus/news/", recursive=True)
    fs.put(f"{checkpoint}/", "models/ner/", recursive=True)
    return fs


def s3_job(out: str, options: dict[str, object], engine: str = "local", corpus: str = "s3://corpus/news/") -> Job:
    return Job(
        source=Source(uri=corpus, keep=["id"], storage_options=options),
        tasks=[TokenClassification(model="s3://models/ner/", storage_options=options)],
        sink=Sink(uri=out, storage_options=options),
        compute=Compute(engine=engine, unit_bytes=3000),
    )


def assert_equals_local_output(fs: s3fs.S3FileSystem, out: str, checkpoint: Path, tmp_path: Path) -> None:
    """Assert that the output on S3 equals that of the same corpus on disk, except for the URIs of the shards."""
    fs.get("corpus/news/", f"{tmp_path}/corpus/", recursive=True)
    job = Job(
        source=Source(uri=str(tmp_path / "corpus"), keep=["id"]),
        tasks=[TokenClassification(model=str(checkpoint))],
        sink=Sink(uri=str(tmp_path / "local")),
        compute=Compute(engine="local", unit_bytes=3000),
    )
    execute(job)
    fs.get(f"{out}/data/", f"{tmp_path}/remote/data/", recursive=True)
    remote, local = read_output(tmp_path / "remote"), read_output(tmp_path / "local")
    assert set(remote["shard"].to_pylist()) == {f"s3://corpus/news/year={year}/a.parquet" for year in (2023, 2024)}
    assert remote.drop_columns("shard").equals(local.drop_columns("shard"))


def test_storage_options_may_hold_credentials(
    server: S3Server, bucket: s3fs.S3FileSystem, checkpoint: Path, tmp_path: Path
) -> None:
    execute(s3_job("s3://out/options", server.storage_options))
    assert_equals_local_output(bucket, "out/options", checkpoint, tmp_path)
    names = bucket.ls("out/options", detail=False)
    assert {name.rsplit("/", 1)[-1] for name in names} >= {"_SUCCESS", "_manifest.json", "_plan.parquet", "data"}


def test_to_parquet_writes_shards_to_s3(server: S3Server, bucket: s3fs.S3FileSystem) -> None:
    bucket.pipe("corpus/lines/year=1/a.jsonl.gz", gzip.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    command = ["to-parquet", "s3://corpus/lines/", "s3://out/lines/", "--columns", "text"]
    for name, value in server.storage_options.items():
        command += [f"--set={place}.storage_options.{name}={value}" for place in ("source", "sink")]
    assert main(command) == 0
    (info,) = bucket.find("out/lines", detail=True).values()
    assert info["name"] == "out/lines/year=1/a.jsonl.gz.parquet"
    assert pq.read_table(info["name"], filesystem=bucket, partitioning=None)["text"].to_pylist() == ["one", "two"]
    assert main(command) == 0
    assert bucket.find("out/lines", detail=True, refresh=True)[info["name"]]["ETag"] == info["ETag"]
    bucket.pipe("corpus/lines/year=1/a.jsonl.gz", gzip.compress(b'{"text": "one"}\n{"text": "TWO"}\n'))
    assert main(command) == 2


def test_a_report_of_an_output_on_s3_shows_its_rates_and_texts(server: S3Server, bucket: s3fs.S3FileSystem) -> None:
    manifest = execute(s3_job("s3://out/report", server.storage_options)).manifest
    names = {name: bucket.info(name)["ETag"] for name in bucket.find("out/report")}
    options = [
        f"{part}.storage_options.{name}={value}"
        for part in ("sink", "source")
        for name, value in server.storage_options.items()
    ]
    html = report_page("s3://out/report", options)
    page = Page(html)
    assert page.figures["tokens"] == f"{manifest['tokens']:,}"
    # a chart is shown only if the units were not all written within one second of the store's clock
    assert "rows/s" in page.text
    assert "Sample documents year=2023/a.parquet row 0" in " ".join(page.text.split())
    assert not any(secret in html for secret in (KEY, SECRET, server.endpoint))
    assert names == {name: bucket.info(name)["ETag"] for name in bucket.find("out/report")}


def test_a_resume_on_s3_computes_missing_units(server: S3Server, bucket: s3fs.S3FileSystem) -> None:
    job = s3_job("s3://out/resume/", server.storage_options)
    first = execute(job)
    lost = sorted(bucket.ls("out/resume/data", detail=False))[::2]
    bucket.rm([*lost, "out/resume/_SUCCESS"])
    again = execute(job)
    assert again.computed.units == len(lost)
    of_a_run = {"timing", "forecast"}
    assert again.manifest.keys() == first.manifest.keys()
    for name in first.manifest.keys() - of_a_run:
        assert again.manifest[name] == first.manifest[name]
    for folder in ("", "data/"):  # consoles create folders as empty objects
        bucket.call_s3("put_object", Bucket="out", Key=f"resume/{folder}", Body=b"")
    options = [f"sink.storage_options.{name}={value}" for name, value in server.storage_options.items()]
    assert verify("s3://out/resume/", options).problems == []


@pytest.mark.cluster
@pytest.mark.slow
def test_the_environment_may_hold_credentials_on_ray(
    server: S3Server, bucket: s3fs.S3FileSystem, checkpoint: Path, tmp_path: Path
) -> None:
    job = s3_job("s3://out/environment", {}, engine="ray").description()
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    environment = {**os.environ, **server.environment, "RAY_ADDRESS": "local"}  # the workers inherit it
    command = [sys.executable, "-m", "distilray", "run", str(tmp_path / "job.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_equals_local_output(bucket, "out/environment", checkpoint, tmp_path)


@pytest.mark.parametrize("wrong", [{"secret": "not-the-secret"}, {"key": "nobody"}, {"anon": True}])
def test_wrong_credentials_are_an_error(
    server: S3Server, bucket: s3fs.S3FileSystem, checkpoint: Path, tmp_path: Path, wrong: dict[str, object]
) -> None:
    options = {**server.storage_options, **wrong}
    if "anon" in wrong:
        options = {"endpoint_url": server.endpoint, "anon": True}
    with pytest.raises(CheckpointError, match="cannot read s3://models/ner/.*: PermissionError") as caught:
        execute(s3_job("s3://out/denied", options))
    assert "not-the-secret" not in str(caught.value)
    local_model = [TokenClassification(model=str(checkpoint))]
    with pytest.raises(JobError, match="cannot list source s3://corpus/news/: PermissionError"):
        execute(
            s3_job(str(tmp_path / "out"), options).model_copy(
                update={"tasks": local_model, "sink": Sink(uri=str(tmp_path))}
            )
        )
    with pytest.raises(JobError, match="cannot reach sink s3://out/denied: PermissionError"):
        job = s3_job("s3://out/denied", options)
        execute(job.model_copy(update={"tasks": local_model, "source": Source(uri=str(tmp_path))}))


def test_a_missing_bucket_or_key_is_an_error(server: S3Server, bucket: s3fs.S3FileSystem, tmp_path: Path) -> None:
    options = server.storage_options
    with pytest.raises(JobError, match="cannot list source s3://nowhere/: .*no such file, folder or bucket"):
        execute(s3_job("s3://out/missing", options, corpus="s3://nowhere/"))
    with pytest.raises(JobError, match="cannot list source s3://corpus/other/a.parquet: .*no such file"):
        execute(s3_job("s3://out/missing", options, corpus="s3://corpus/other/a.parquet"))
    with pytest.raises(CheckpointError, match="no config.json in s3://models/absent"):
        job = s3_job("s3://out/missing", options)
        absent = [TokenClassification(model="s3://models/absent", storage_options=options)]
        execute(job.model_copy(update={"tasks": absent}))
    with pytest.raises(JobError, match="cannot reach sink s3://nowhere/out: .*bucket"):
        execute(s3_job("s3://nowhere/out", options))
    assert not bucket.exists("out/missing")


def test_a_source_may_be_a_single_shard_or_a_glob(server: S3Server, bucket: s3fs.S3FileSystem) -> None:
    for name, uri in (("one", "s3://corpus/news/year=2024/a.parquet"), ("glob", "s3://corpus/news/*/a.parquet")):
        manifest = execute(s3_job(f"s3://out/{name}", server.storage_options, corpus=uri)).manifest
        assert manifest["rows"] == (60 if name == "one" else 120)
    with bucket.open(bucket.ls("out/one/data", detail=False)[0]) as file:
        assert pq.read_table(file)["year"].to_pylist()[0] == 2024
