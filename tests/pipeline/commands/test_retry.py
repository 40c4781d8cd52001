"""`distilray retry` on a local output and on Ray: what it answers, what it keeps, and what it refuses."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from distilray.model.errors import BackendError
from distilray.operators.isolation.attempts import Isolation
from distilray.operators.isolation.bisect import Call
from distilray.operators.isolation.sandbox import Sandbox, SandboxDiedError
from distilray.operators.predict import PredictUnit
from distilray.operators.rows import schema as s
from distilray.pipeline import JobError, load_job
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.retry import Retried, retry
from distilray.pipeline.commands.run import execute
from distilray.pipeline.commands.verify import verify
from distilray.pipeline.errors import DeadLettersError, IncompleteError
from tests.pipeline.commands.broken_corpus import (
    NULL,
    UNREADABLE,
    assert_equals_unbroken_run,
    break_row_group,
    output_uri,
    restore_shards,
)
from tests.support import make_checkpoint, output_bytes, random_texts, write_shard


def test_a_retry_computes_only_dead_letters(broken_job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = execute(load_job(broken_job))
    assert first.manifest["dead"] == {UNREADABLE: 20, NULL: 2, "unreadable_shard": 1}
    untouched = {
        name: data
        for name, data in output_bytes(output_uri(broken_job)).items()
        if "/000002-" in name or "/000003-" in name
    }
    restore_shards(broken_job)
    assert main(["retry", output_uri(broken_job)]) == 0
    lines = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "20 before, 0 now" in lines[UNREADABLE]
    assert "2 before, 4 now" in lines[NULL]
    assert "22 rows of 2 units, 18 answered now" in lines["retried"]
    assert "1 whole shards" in lines["not retried"]
    assert output_bytes(output_uri(broken_job)).items() >= untouched.items()
    manifest = json.loads((broken_job.parent / "out/_manifest.json").read_text())
    assert manifest["retried"] == {"rows": 22, "answered": 18}
    assert manifest["timing"] == json.loads(json.dumps(first.manifest["timing"]))
    assert_equals_unbroken_run(broken_job)


def test_a_retry_that_answers_nothing_changes_nothing(broken_job: Path) -> None:
    execute(load_job(broken_job))
    before = output_bytes(output_uri(broken_job))
    retried = retry(output_uri(broken_job))
    assert retried == Retried(retried.before, retried.before, 22, 2, 0, 1)
    assert output_bytes(output_uri(broken_job)) == before
    assert verify(output_uri(broken_job)).ok
    restore_shards(broken_job)
    retry(output_uri(broken_job))
    again = retry(output_uri(broken_job))
    assert (again.tried, again.answered) == (4, 0)
    assert_equals_unbroken_run(broken_job)


def test_a_retry_that_answers_all_dead_letters_removes_their_objects(broken_job: Path) -> None:
    for number in range(2):
        (broken_job.parent / f"in/{number}.parquet").unlink()
    write_shard(broken_job.parent / "in/5.parquet", random_texts(40, 5), row_group_size=10, id=list(range(40)))
    (broken_job.parent / "in/9.parquet").unlink()
    for backup in (broken_job.parent / "whole").iterdir():
        backup.unlink()
    break_row_group(broken_job.parent / "in/5.parquet", broken_job.parent / "whole/5.parquet")
    execute(load_job(broken_job))
    restore_shards(broken_job)
    assert retry(output_uri(broken_job)).after == {}
    assert not list((broken_job.parent / "out/dead").glob("*"))
    assert verify(output_uri(broken_job)).ok
    assert retry(output_uri(broken_job)).tried == 0


def test_a_retry_does_not_finish_an_unfinished_output(broken_job: Path) -> None:
    execute(load_job(broken_job))
    restore_shards(broken_job)
    sorted((broken_job.parent / "out/data").iterdir())[2].unlink()
    (broken_job.parent / "out/_SUCCESS").unlink()
    (broken_job.parent / "out/_manifest.json").unlink()
    results: list[Retried] = []
    with pytest.raises(IncompleteError, match="1 of 4 units are missing"):
        retry(output_uri(broken_job), on_end=results.append)
    assert results[0].answered == 18
    execute(load_job(broken_job))
    assert_equals_unbroken_run(broken_job)


def test_an_impossible_retry_names_the_reason(broken_job: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is not an output of distilray"):
        retry(str(tmp_path / "nothing"))
    execute(load_job(broken_job, [f"tasks.0.model={make_checkpoint(tmp_path / 'mine')}"]))
    before = output_bytes(output_uri(broken_job))
    for override in ("tasks.0.threshold=0.5", "source.uri=x", "sink.uri=x"):
        with pytest.raises(
            JobError, match=f"--set {override.split('=')[0]}: only keys of compute and of storage_options"
        ):
            retry(output_uri(broken_job), [override])
    with pytest.raises(JobError, match="compute.nodes: unknown key"):
        retry(output_uri(broken_job), ["compute.nodes=3"])
    make_checkpoint(tmp_path / "mine", seed=5)
    with pytest.raises(JobError, match="different job: the files of a model have changed"):
        retry(output_uri(broken_job))
    assert output_bytes(output_uri(broken_job)) == before
    assert (broken_job.parent / "out/_SUCCESS").exists()


def test_a_retry_with_another_dtype_records_it(broken_job: Path) -> None:
    execute(load_job(broken_job))
    restore_shards(broken_job)
    retry(output_uri(broken_job), ["compute.dtype=bfloat16"])
    manifest = json.loads((broken_job.parent / "out/_manifest.json").read_text())
    assert sorted((name.split(", ")[1], units) for name, units in manifest["backends"].items()) == [
        ("bfloat16", 2),
        ("float32", 4),
    ]
    assert manifest["job"]["compute"]["dtype"] == "float32"
    assert execute(load_job(broken_job)).computed.units == 0


def test_an_error_before_a_retry_starts_keeps_the_success_mark(broken_job: Path) -> None:
    execute(load_job(broken_job))
    before = output_bytes(output_uri(broken_job))
    with pytest.raises(BackendError, match="needs a CUDA device"):
        retry(output_uri(broken_job), ["compute.attention=flash"])
    shard = broken_job.parent / "in/0.parquet"
    shard.write_bytes(shard.read_bytes() + b"changed in place")
    message = (
        r"1 of 2 shards with dead letters cannot be retried: .*0\.parquet changed since it was planned: expected .*; "
        "restore the shards$"
    )
    with pytest.raises(JobError, match=message):
        retry(output_uri(broken_job))
    shard.unlink()
    with pytest.raises(JobError, match=r"0\.parquet is gone since it was planned: .*; restore the shards$"):
        retry(output_uri(broken_job))
    assert output_bytes(output_uri(broken_job)) == before
    assert (broken_job.parent / "out/_SUCCESS").exists()


def test_a_retry_needs_only_the_shards_of_its_dead_letters(broken_job: Path) -> None:
    execute(load_job(broken_job))
    (broken_job.parent / "in/2.parquet").unlink()
    (broken_job.parent / "in/archive").symlink_to(broken_job.parent / "whole")  # a listing fails on this link
    restore_shards(broken_job)
    assert retry(output_uri(broken_job)).answered == 18
    assert verify(output_uri(broken_job)).ok


def is_poison(table: pa.Table) -> bool:
    return any((text or "").startswith("poison") for text in table[s.TEXT].to_pylist())


def raise_at_poison(patch: pytest.MonkeyPatch) -> None:
    inner = PredictUnit.answered

    def answered(predict: PredictUnit, table: pa.Table) -> pa.Table:
        if is_poison(table):
            raise ValueError("poison")
        return inner(predict, table)

    patch.setattr(PredictUnit, "answered", answered)


def crash_at_poison(patch: pytest.MonkeyPatch) -> None:
    """Simulate the state after the death of a worker, without processes."""
    workers: dict[Sandbox, Call] = {}

    @contextmanager
    def attempt(_: Isolation, stage: str, unit: str) -> Iterator[bool]:
        yield stage == "predict"

    def ask(box: Sandbox, part: pa.Table) -> pa.Table:
        if is_poison(part):
            raise SandboxDiedError("crash", "the process ended: SIGSEGV")
        if box not in workers:
            workers[box] = box._worker()
        return workers[box](part)

    patch.setattr(Isolation, "attempt", attempt)
    patch.setattr(Sandbox, "ask", ask)


FAILS = {"error": raise_at_poison, "crash": crash_at_poison}


@pytest.mark.parametrize("reason", ["error", "crash"])
def test_consecutive_rows_that_fail_again_remain_dead_letters(
    broken_job: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """A run stops after ten consecutive failures. A retry does not."""
    for shard in (broken_job.parent / "in").iterdir():
        shard.unlink()
    texts = [f"poison {i}" if i % 5 == 0 else text for i, text in enumerate(random_texts(50, 0))]
    write_shard(broken_job.parent / "in/0.parquet", texts, id=list(range(50)))
    FAILS[reason](monkeypatch)
    assert execute(load_job(broken_job)).manifest["dead"] == {reason: 10}
    retried = retry(output_uri(broken_job))
    assert (retried.after, retried.tried, retried.answered) == ({reason: 10}, 10, 0)
    assert verify(output_uri(broken_job)).ok


def test_a_retry_keeps_the_max_dead_of_the_run(broken_job: Path) -> None:
    with pytest.raises(DeadLettersError, match="are allowed by max_dead: 22"):
        execute(load_job(broken_job, ["max_dead=22"]))
    retry(output_uri(broken_job), ["max_dead=23"])
    assert retry(output_uri(broken_job)).tried == 22
    assert (broken_job.parent / "out/_SUCCESS").exists()


@pytest.mark.slow
@pytest.mark.cluster
def test_a_retry_on_ray_equals_an_unbroken_run(broken_job: Path) -> None:
    execute(load_job(broken_job))
    restore_shards(broken_job)
    command = [sys.executable, "-m", "distilray", "retry", output_uri(broken_job), "--set", "compute.engine=ray"]
    process = subprocess.run(
        command, env={**os.environ, "RAY_ADDRESS": "local"}, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert_equals_unbroken_run(broken_job)
