"""`distilray retry` that is stopped or repeated at any point: the next command completes it."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
import s3fs

from distilray.operators import merge_retried as merge
from distilray.operators.objects.stats import Stats
from distilray.pipeline import load_job
from distilray.pipeline.commands.retry import retry
from distilray.pipeline.commands.run import execute
from distilray.pipeline.commands.verify import verify
from distilray.pipeline.sink.output import Output
from tests.pipeline.commands.broken_corpus import NULL, assert_equals_unbroken_run, output_uri, restore_shards
from tests.s3 import S3Server


class StoppedError(Exception):
    """Stops a retry as a kill does."""


def stop(*_: object, **__: object) -> None:
    raise StoppedError


CRASHES: dict[str, tuple[object, str]] = {
    "before the data object": (merge, "write_object"),
    "before the dead object": (merge, "write_dead_letters"),
    "before the count": (Output, "finish"),
}


@pytest.mark.parametrize("again", ["retry", "run"])
@pytest.mark.parametrize("crash", CRASHES)
def test_the_next_command_completes_a_stopped_retry(
    broken_job: Path, monkeypatch: pytest.MonkeyPatch, crash: str, again: str
) -> None:
    execute(load_job(broken_job))
    restore_shards(broken_job)
    with monkeypatch.context() as patched:
        patched.setattr(*CRASHES[crash], stop)
        with pytest.raises(StoppedError):
            retry(output_uri(broken_job))
    assert not (broken_job.parent / "out/_SUCCESS").exists()
    assert not verify(output_uri(broken_job)).ok
    if again == "run":
        execute(load_job(broken_job))
        assert verify(output_uri(broken_job)).problems == []
    retry(output_uri(broken_job))
    assert_equals_unbroken_run(broken_job)


def test_a_repeated_merge_changes_nothing(broken_job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray retries a unit if its worker dies after the object write. The second attempt may reject another row."""
    execute(load_job(broken_job))
    restore_shards(broken_job)
    inner: Callable[..., None] = merge.MergeRetried.commit

    def commit_again(
        write: merge.MergeRetried, fs: object, root: str, unit: str, data: pa.Table, dead: pa.Table, stats: Stats
    ) -> None:
        for _ in range(2):
            inner(write, fs, root, unit, data, dead, stats)
        dead_letter = pa.table({"shard": data["shard"][:1], "row": data["row"][:1], "reason": ["timeout"]})
        more = pa.concat_tables([dead, dead_letter], promote_options="default")
        inner(write, fs, root, unit, data.slice(1), more, replace(stats, dead={"timeout": 1, NULL: 2}))

    monkeypatch.setattr(merge.MergeRetried, "commit", commit_again)
    retry(output_uri(broken_job))
    assert_equals_unbroken_run(broken_job)


KILLED_RETRY = """
import os, signal, sys
from distilray.model.errors import BackendError
from distilray.operators import merge_retried as merge
from distilray.pipeline.errors import DeadLettersError
from distilray.pipeline.cli.main import main
merge.write_dead_letters = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize("again", ["retry", "run"])
def test_the_next_command_completes_a_retry_killed_between_two_writes_to_s3(
    broken_job: Path, server: S3Server, again: str
) -> None:
    fs, at = s3fs.S3FileSystem(**server.storage_options), f"s3://out/{again}"
    options = [f"sink.storage_options={json.dumps(server.storage_options)}"]
    fs.makedirs("out", exist_ok=True)
    overrides = [f"sink.uri={at}", *options]
    execute(load_job(broken_job, overrides))
    restore_shards(broken_job)
    command = [sys.executable, "-c", KILLED_RETRY, "retry", at, "--set", *options]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not fs.exists(f"{at}/_SUCCESS")
    assert not verify(at, options).ok
    if again == "run":
        execute(load_job(broken_job, overrides))
        assert verify(at, options).problems == []
    retry(at, options)
    assert verify(at, options).problems == []
    fs.get(f"{at}/", f"{broken_job.parent}/out/", recursive=True)
    manifest = broken_job.parent / "out/_manifest.json"
    assert server.storage_options["secret"] not in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(at, output_uri(broken_job)))
    assert_equals_unbroken_run(broken_job)
