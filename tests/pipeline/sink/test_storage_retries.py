"""Faults of a store, injected by a proxy: calls are retried, faults never become data, and errors are one line."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from distilray.model.errors import StoreError
from distilray.model.storage import store
from distilray.model.storage.store import (
    RetryingFileSystem,
    call_with_retries,
    explain,
    is_transient,
    open_store,
    read_exactly,
)
from distilray.operators.objects.object_store import remove_object, write_if_absent, write_object
from distilray.pipeline import Source
from distilray.pipeline.cli.exit_codes import UNFINISHED
from distilray.pipeline.cli.main import main
from distilray.pipeline.corpus.listing import list_shards
from tests.proxy import AFTER, BEFORE, IN_BODY, Proxy, Rule, fault_proxy
from tests.s3 import SECRET, S3Server
from tests.support import random_texts, write_shard

pytestmark = pytest.mark.s3

DATA = bytes(range(256)) * 400
# a client without retries of its own, so that all retries are those of distilray
IMPATIENT = {"retries": {"mode": "standard", "max_attempts": 0}, "connect_timeout": 2, "read_timeout": 1}
FAULTS = [kind for kind in (*BEFORE, *AFTER) if kind != "delay"]


@pytest.fixture(scope="module")
def proxy(server: S3Server) -> Iterator[Proxy]:
    fsspec.filesystem("s3", **server.storage_options).mkdir("bucket")
    with fault_proxy(server.endpoint) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _quick(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(store, "_PAUSE", 0.02)
    yield
    proxy.rules()


@pytest.fixture
def options(server: S3Server, proxy: Proxy) -> dict[str, Any]:
    return {**server.storage_options, "endpoint_url": proxy.endpoint, "config_kwargs": IMPATIENT}


@pytest.fixture
def fs(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> RetryingFileSystem:
    """A store with the file bucket/x, which is read in seven pieces."""
    monkeypatch.setattr(store, "_REQUEST_BYTES", 2**14)
    fs, root = open_store("s3://bucket/", options)
    assert root == "bucket"
    fs.pipe_file("bucket/x", DATA)
    return fs  # type: ignore[no-any-return]


def read_part(fs: RetryingFileSystem, start: int, size: int) -> bytes:
    with fs.open("bucket/x", "rb", cache_type="none") as file:
        file.seek(start)
        return read_exactly(file, size, "bucket/x")


READS: dict[str, tuple[Callable[[RetryingFileSystem], object], object]] = {
    "cat_file": (lambda fs: fs.cat_file("bucket/x"), DATA),
    "cat_ranges": (lambda fs: fs.cat_ranges(["bucket/x"] * 2, [0, 500], [100, 9000]), [DATA[:100], DATA[500:9000]]),
    "open": (lambda fs: read_part(fs, 7, 10_000), DATA[7:10_007]),
}
CALLS = READS | {
    "info": (lambda fs: (fs.invalidate_cache(), fs.info("bucket/x")["size"])[1], len(DATA)),
    "exists": (lambda fs: (fs.invalidate_cache(), fs.exists("bucket/x"))[1], True),
    "ls": (lambda fs: (fs.invalidate_cache(), "bucket/x" in fs.ls("bucket", detail=False))[1], True),
    "put": (lambda fs: (write_object(fs, "bucket/y", DATA), fs.cat_file("bucket/y"))[1], DATA),
    "remove": (
        lambda fs: (write_object(fs, "bucket/z", b""), remove_object(fs, "bucket/z"), fs.exists("bucket/z"))[2],
        False,
    ),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("kind", ["short", "truncated", "reset_body"])
def test_a_truncated_body_is_retried(fs: RetryingFileSystem, proxy: Proxy, name: str, kind: str) -> None:
    call, expected = READS[name]
    proxy.rules(Rule([kind], method="GET", path="/bucket/x", times=2))
    before = proxy.counts().get(kind, 0)
    assert call(fs) == expected
    assert proxy.counts()[kind] == before + 2


@pytest.mark.chaos
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", [*FAULTS, *IN_BODY])
def test_every_call_survives_every_fault(fs: RetryingFileSystem, proxy: Proxy, name: str, kind: str) -> None:
    call, expected = CALLS[name]
    proxy.rules(Rule([kind], times=2))
    assert call(fs) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", FAULTS)
def test_a_client_with_default_settings_survives_every_fault(server: S3Server, proxy: Proxy, kind: str) -> None:
    fs, _ = open_store("s3://bucket/", {**server.storage_options, "endpoint_url": proxy.endpoint})
    assert fs.config_kwargs["retries"]["mode"] == "standard"
    fs.pipe_file("bucket/x", DATA)
    proxy.rules(Rule([kind], times=4, seconds=1))
    assert fs.cat_file("bucket/x") == DATA


@pytest.mark.parametrize("kind", ["error_after", "reset_after"])
def test_a_conditional_write_with_a_lost_response_succeeds(fs: RetryingFileSystem, proxy: Proxy, kind: str) -> None:
    proxy.rules(Rule([kind], method="PUT", times=1))
    assert write_if_absent(fs, f"bucket/{kind}/1", b"ours")
    assert not write_if_absent(fs, f"bucket/{kind}/1", b"another's")
    assert fs.cat_file(f"bucket/{kind}/1") == b"ours"
    fs.ls(f"bucket/{kind}")  # the client caches this listing, without the next object
    proxy.rules(Rule([kind], method="PUT", times=1))
    assert write_if_absent(fs, f"bucket/{kind}/2", b"ours")


@pytest.mark.parametrize("name", CALLS)
def test_a_permanently_failing_store_is_a_store_error(fs: RetryingFileSystem, proxy: Proxy, name: str) -> None:
    call, _ = CALLS[name]
    proxy.rules(Rule(["error"]))
    try:
        found = call(fs)
    except StoreError as error:
        found = [error]
    assert isinstance(found, list)
    assert all(isinstance(error, StoreError) and "failed 4 times" in str(error) for error in found)


@pytest.mark.parametrize("pattern", ["", "*/*.parquet", "*", "**/*.parquet"])
def test_a_folder_that_cannot_be_listed_is_an_error(
    fs: RetryingFileSystem, options: dict[str, Any], proxy: Proxy, pattern: str
) -> None:
    for name in "ab":
        fs.pipe_file(f"bucket/lists/{name}/x.parquet", DATA)
    source = Source(uri=f"s3://bucket/lists/{pattern}", storage_options=options)
    assert len(list(list_shards(source))) == 2
    inside = "prefix=lists%2Fa%2F" if pattern in ("*", "*/*.parquet") else "list-type=2&prefix=lists"
    proxy.rules(Rule(["error"], path=inside))
    with pytest.raises(StoreError, match="cannot list source"):
        list(list_shards(source))
    assert proxy.counts()["error"]


def test_permanent_errors_are_not_retried(fs: RetryingFileSystem, proxy: Proxy) -> None:
    before = proxy.counts()["requests"]
    with pytest.raises(FileNotFoundError):
        fs.cat_file("bucket/none")
    assert proxy.counts()["requests"] - before == 2  # one request for a file, one for a folder
    attempts = []
    with pytest.raises(ValueError, match="no"):
        call_with_retries("x", lambda: attempts.append(1) or int("no"))
    assert len(attempts) == 1
    assert not is_transient(OSError(28, "No space left on device"))
    assert is_transient(OSError(5, "Input/output error"))


def test_an_error_does_not_show_a_password() -> None:
    assert (
        explain(OSError("cannot connect to http://me:hunter2@host/x\nmore"))
        == "OSError: cannot connect to http://***@host/x"
    )


def job_on(proxy: Proxy, options: dict[str, Any], checkpoint: Path, folder: Path, engine: str) -> Path:
    """Write a job file with a local corpus and a sink behind the proxy, which refuses all units."""
    write_shard(folder / "corpus/a.parquet", random_texts(40, 1), row_group_size=10)
    job = {
        "source": {"uri": str(folder / "corpus")},
        "tasks": [{"task": "token-classification", "model": str(checkpoint)}],
        "sink": {"uri": f"s3://bucket/{folder.name}", "storage_options": options},
        "compute": {"engine": engine, "unit_bytes": 1000},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    proxy.rules(Rule(["error"], method="PUT", path="/data/"))
    return folder / "job.yaml"


AGAIN = "committed units are kept; run the same command again to resume"


def test_exhausted_retries_print_one_line(
    proxy: Proxy, options: dict[str, Any], checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = job_on(proxy, options, checkpoint, tmp_path, "local")
    assert main(["run", str(job)]) == UNFINISHED
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.match(r"distilray: bucket/[^/]+/data/000000-\w+\.parquet: OSError: .* \(failed 4 times\); ", line)
    assert "an internal error" in line
    assert line.endswith(AGAIN)
    assert SECRET not in line
    proxy.rules()
    assert main(["run", str(job)]) == 0


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.chaos
def test_exhausted_retries_print_one_line_on_ray(
    proxy: Proxy, options: dict[str, Any], checkpoint: Path, tmp_path: Path
) -> None:
    job = job_on(proxy, options, checkpoint, tmp_path, "ray")
    command = [sys.executable, "-m", "distilray", "run", str(job)]
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == UNFINISHED
    assert done.stderr.count("\n") == 1, done.stderr
    line = done.stderr.strip()
    assert "an internal error" in line
    assert line.endswith(AGAIN)
    assert SECRET not in done.stdout + done.stderr
