"""Runs with secrets: their output, logs and files contain no secret."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import yaml

from distilray.pipeline.cli.main import main
from distilray.pipeline.job.job import parse_job
from tests.security.planted import PLANTED, planted_in
from tests.support import write_shard


@pytest.fixture
def job(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A job that succeeds. It has secrets at every place that accepts one. Local files accept any options."""
    write_shard(tmp_path / "corpus/a.parquet", ["Mary met John in London.", None] * 10)
    for name, secret in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"), PLANTED.values(), strict=False):
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:PLANTED-password-4@127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return {
        "source": {"uri": str(tmp_path / "corpus"), "storage_options": dict(PLANTED)},
        "tasks": [{"task": "token-classification", "model": str(checkpoint), "storage_options": dict(PLANTED)}],
        "sink": {"uri": str(tmp_path / "out"), "storage_options": dict(PLANTED)},
        "compute": {"engine": "local"},
    }


FAILURES: dict[str, Callable[[dict[str, Any], Path], Any]] = {
    "no corpus": lambda job, _: job["source"].update(uri="/nowhere/PLANTED"),
    "no column": lambda job, _: job["source"].update(text="body"),
    "no model": lambda job, _: job["tasks"][0].update(model="/nowhere"),
    "another head": lambda job, _: job["tasks"][0].update(task="question-answering", questions=["who?"]),
    "unknown key": lambda job, _: job["sink"].update(storage_option=PLANTED["secret"]),
    "wrong type": lambda job, _: job["sink"].update(storage_options=PLANTED["secret"]),
    "unknown options of the store": lambda job, _: job["source"].update(uri="s3://bucket/x"),
    "an unreachable store": lambda job, _: job["source"].update(uri="s3://bucket/x", storage_options={}),
    "an unreachable sink": lambda job, _: job["sink"].update(uri="s3://bucket/out", storage_options={}),
    "an unreachable model": lambda job, _: job["tasks"][0].update(model="s3://bucket/m", storage_options={}),
    "an unknown protocol": lambda job, _: job["source"].update(uri="nothing://PLANTED/x"),
    "only a broken shard": lambda _, tmp_path: (tmp_path / "corpus/a.parquet").write_bytes(b"PAR1"),
}


def run_job(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], log: pytest.LogCaptureFixture
) -> tuple[int, str]:
    """Run `distilray run`. Return its exit code, and all its output and log lines."""
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    with log.at_level(logging.INFO):
        try:
            code = main(["run", str(tmp_path / "job.yaml")])
        except Exception as error:
            code = 1
            log.messages.append(repr(error))
            print("raised:", error)
    captured = capsys.readouterr()
    return code, captured.out + captured.err + log.text


def files_with_secrets(folder: Path) -> dict[str, list[str]]:
    """Return the files in a folder that contain a secret, except the job file. Decode Parquet files as well."""
    import pyarrow.parquet as pq

    secrets_by_file = {}
    for file in sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "job.yaml"):
        data = file.read_bytes()
        if file.suffix == ".parquet" and data[-4:] == b"PAR1" and len(data) > 12:
            table = pq.read_table(file)
            data += repr((table.to_pylist(), pq.read_metadata(file).metadata)).encode()
        secrets_by_file[file.name] = planted_in(data)
    return {name: secrets for name, secrets in secrets_by_file.items() if secrets}


def test_a_run_that_succeeds_keeps_its_secrets(
    job: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    code, printed = run_job(job, tmp_path, capsys, caplog)
    assert (code, (tmp_path / "out/_SUCCESS").exists()) == (0, True), printed
    assert list((tmp_path / "out/dead").iterdir())
    assert not planted_in(printed)
    assert files_with_secrets(tmp_path / "out") == {}
    assert files_with_secrets(Path(os.environ["DISTILRAY_CACHE"])) == {}
    assert not planted_in(
        repr(parse_job(job, "job")) + str(parse_job(job, "job")) + parse_job(job, "job").model_dump_json()
    )
    job["source"]["text"] = "other"
    code, printed = run_job(job, tmp_path, capsys, caplog)  # another job with the same sink
    assert code == 2
    assert not planted_in(printed)


@pytest.mark.parametrize("failure", FAILURES)
def test_a_run_that_fails_keeps_its_secrets(
    failure: str,
    job: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    FAILURES[failure](job, tmp_path)
    code, printed = run_job(job, tmp_path, capsys, caplog)
    assert code != 0
    assert len(printed) > 20
    assert not planted_in(printed), printed
    if (tmp_path / "out").exists():
        assert files_with_secrets(tmp_path / "out") == {}


@pytest.mark.slow
@pytest.mark.parametrize("failure", [None, "only a broken shard", "a shard that changes"])
def test_a_run_on_ray_keeps_its_secrets(failure: str | None, job: dict[str, Any], tmp_path: Path) -> None:
    """Search the logs of Ray, which include the names of its actors and tasks."""
    job["compute"] = {"engine": "ray"}
    temporary = Path(mkdtemp(dir="/tmp"))  # a short path: it contains sockets
    if failure in FAILURES:
        FAILURES[failure](job, tmp_path)
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    code = (
        "import ray, sys; ray.init(num_cpus=2, include_dashboard=False, log_to_driver=True); "
        "from distilray.pipeline.cli.main import main; code = main(['run', sys.argv[1]]); "
        "from ray.util.state import list_tasks; sys.exit(code)"
    )
    environment = {
        **os.environ,
        "RAY_TMPDIR": str(temporary),
        "RAY_BACKEND_LOG_LEVEL": "info",
        "RAY_DATA_LOG_LEVEL": "DEBUG",
    }
    environment.pop("AWS_ENDPOINT_URL")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "job.yaml")],
        env=environment, capture_output=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode == 0) == (failure not in FAILURES), done.stderr.decode()[-2000:]
    assert not planted_in(done.stdout + done.stderr)
    logs = list((temporary / "ray").rglob("*.log")) + list((temporary / "ray").rglob("*.out"))
    assert logs
    assert [str(file) for file in logs if planted_in(file.read_bytes())] == []
    if failure is None:
        assert files_with_secrets(tmp_path / "out") == {}
