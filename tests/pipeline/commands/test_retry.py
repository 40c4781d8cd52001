"""`distilray retry`: dead letters are answered again, wherever it is stopped, and nothing else changes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs
import yaml

from distilray.model.errors import BackendError
from distilray.operators import merge_retried as merge
from distilray.operators.isolation.bisect import Call, Isolation
from distilray.operators.isolation.sandbox import Sandbox, SandboxDiedError
from distilray.operators.objects.stats import Stats
from distilray.operators.predict import PredictUnit
from distilray.operators.rows import schema as s
from distilray.pipeline import JobError, load_job
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.retry import Retried, retry
from distilray.pipeline.commands.run import execute
from distilray.pipeline.commands.verify import verify
from distilray.pipeline.errors import DeadLettersError, IncompleteError
from distilray.pipeline.sink.output import Output
from distilray.pipeline.sink.reconcile import UnitCounts
from tests.s3 import S3Server, s3_server
from tests.support import make_checkpoint, output_bytes, random_texts, read_output, write_shard

UNREADABLE, NULL = "unreadable_row_group", "null_text"


@pytest.fixture
def job(checkpoint: Path, tmp_path: Path) -> Path:
    """A job over three units of 40 rows: two row groups cannot be read, two texts are null, and another that hides in
    such a row group; and a shard that is dead as a whole."""
    for number in range(3):
        texts = random_texts(40, number)
        if number < 2:
            texts[7] = texts[25] = None
        write_shard(tmp_path / f"in/{number}.parquet", texts, row_group_size=10, id=list(range(40)))
    (tmp_path / "in/9.parquet").write_text("no Parquet")
    (tmp_path / "whole").mkdir()
    for number in range(2):
        break_a_row_group(tmp_path / f"in/{number}.parquet", tmp_path / f"whole/{number}.parquet")
    raw = {
        "source": {"uri": str(tmp_path / "in"), "keep": ["id"]},
        "tasks": [{"task": "token-classification", "model": str(checkpoint)}],
        "sink": {"uri": str(tmp_path / "out")},
        "compute": {"engine": "local", "dtype": "float32"},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path / "job.yaml"


def break_a_row_group(path: Path, backup: Path) -> None:
    """The third one, as a disk might; the file as it was goes to `backup`."""
    data = bytearray(path.read_bytes())
    backup.write_bytes(data)
    chunk = pq.read_metadata(path).row_group(2).column(0)
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    data[first : first + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(data)


def mend(job: Path) -> None:
    """The shards as they were, from a backup; for a plan the same files."""
    for backup in (job.parent / "whole").iterdir():
        path = job.parent / "in" / backup.name
        times = path.stat()
        path.write_bytes(backup.read_bytes())
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def out(job: Path) -> str:
    return str(job.parent / "out")


def answers(folder: str | Path) -> list[tuple[str, int, int, list[str]]]:
    """Address, kept column, and what was found, without scores: their last digits differ in other packs."""
    rows = read_output(folder).to_pylist()
    return [(row["shard"], row["row"], row["id"], [e["text"] for e in row["entities"]]) for row in rows]


def assert_as_if_nothing_had_been_broken(job: Path) -> None:
    """The output is that of a run over the shards as they were."""
    assert verify(out(job)).problems == []
    fresh = load_job(job, [f"sink.uri={job.parent / 'fresh'}"])
    wanted = execute(fresh).manifest
    assert answers(out(job)) == answers(job.parent / "fresh")
    assert read_output(out(job), "dead").equals(read_output(job.parent / "fresh", "dead"))
    found = json.loads((job.parent / "out/_manifest.json").read_text())
    for name in ("units", "rows", "tokens", "dead", "labels", "truncated", "backends", "shards", "padding", "job"):
        if name != "job":
            assert found[name] == wanted[name], name
    assert found["job"] == load_job(job).description()


def test_only_dead_letters_are_answered_again(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = execute(load_job(job))
    assert first.manifest["dead"] == {UNREADABLE: 20, NULL: 2, "unreadable_shard": 1}
    untouched = {
        name: data for name, data in output_bytes(out(job)).items() if "/000002-" in name or "/000003-" in name
    }
    mend(job)
    assert main(["retry", out(job)]) == 0
    said = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "20 before, 0 now" in said[UNREADABLE]
    assert "2 before, 4 now" in said[NULL]
    assert "22 rows of 2 units, 18 answered now" in said["retried"]
    assert "1 whole shards" in said["not retried"]
    assert output_bytes(out(job)).items() >= untouched.items()
    manifest = json.loads((job.parent / "out/_manifest.json").read_text())
    assert manifest["retried"] == {"rows": 22, "answered": 18}
    assert manifest["timing"] == json.loads(json.dumps(first.manifest["timing"]))
    assert_as_if_nothing_had_been_broken(job)


def test_a_retry_that_answers_nothing_changes_nothing(job: Path) -> None:
    execute(load_job(job))
    before = output_bytes(out(job))
    done = retry(out(job))
    assert done == Retried(done.before, done.before, 22, 2, 0, 1)
    assert output_bytes(out(job)) == before
    assert verify(out(job)).ok
    mend(job)
    retry(out(job))
    again = retry(out(job))
    assert (again.tried, again.answered) == (4, 0)
    assert_as_if_nothing_had_been_broken(job)


def test_dead_letters_that_are_all_answered_leave_no_object(job: Path) -> None:
    for number in range(2):
        (job.parent / f"in/{number}.parquet").unlink()
    write_shard(job.parent / "in/5.parquet", random_texts(40, 5), row_group_size=10, id=list(range(40)))
    (job.parent / "in/9.parquet").unlink()
    for backup in (job.parent / "whole").iterdir():
        backup.unlink()
    break_a_row_group(job.parent / "in/5.parquet", job.parent / "whole/5.parquet")
    execute(load_job(job))
    mend(job)
    assert retry(out(job)).after == {}
    assert not list((job.parent / "out/dead").glob("*"))
    assert verify(out(job)).ok
    assert retry(out(job)).tried == 0


class StoppedError(Exception):
    """In the place of a kill."""


def stop(*_: object, **__: object) -> None:
    raise StoppedError


CRASHES: dict[str, tuple[object, str]] = {
    "before the data object": (merge, "write_object"),
    "before the dead object": (merge, "write_dead_letters"),
    "before the count": (Output, "finish"),
}


@pytest.mark.parametrize("again", ["retry", "run"])
@pytest.mark.parametrize("crash", CRASHES)
def test_a_retry_that_is_stopped_anywhere_is_put_right(
    job: Path, monkeypatch: pytest.MonkeyPatch, crash: str, again: str
) -> None:
    execute(load_job(job))
    mend(job)
    with monkeypatch.context() as patched:
        patched.setattr(*CRASHES[crash], stop)
        with pytest.raises(StoppedError):
            retry(out(job))
    assert not (job.parent / "out/_SUCCESS").exists()
    assert not verify(out(job)).ok
    if again == "run":
        execute(load_job(job))
        assert verify(out(job)).problems == []
    retry(out(job))
    assert_as_if_nothing_had_been_broken(job)


def test_a_merge_that_was_done_is_not_done_again(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray tries a unit again whose write died after its put, and the second time a row more may die."""
    execute(load_job(job))
    mend(job)
    inner: Callable[..., None] = merge.MergeRetried.commit

    def twice(
        write: merge.MergeRetried, fs: object, root: str, unit: str, data: pa.Table, dead: pa.Table, stats: Stats
    ) -> None:
        for _ in range(2):
            inner(write, fs, root, unit, data, dead, stats)
        letter = pa.table({"shard": data["shard"][:1], "row": data["row"][:1], "reason": ["timeout"]})
        more = pa.concat_tables([dead, letter], promote_options="default")
        inner(write, fs, root, unit, data.slice(1), more, replace(stats, dead={"timeout": 1, NULL: 2}))

    monkeypatch.setattr(merge.MergeRetried, "commit", twice)
    retry(out(job))
    assert_as_if_nothing_had_been_broken(job)


def test_an_unfinished_output_is_not_finished_by_it(job: Path) -> None:
    execute(load_job(job))
    mend(job)
    sorted((job.parent / "out/data").iterdir())[2].unlink()
    (job.parent / "out/_SUCCESS").unlink()
    (job.parent / "out/_manifest.json").unlink()
    seen: list[Retried] = []
    with pytest.raises(IncompleteError, match="1 of 4 units are missing"):
        retry(out(job), on_end=seen.append)
    assert seen[0].answered == 18
    execute(load_job(job))
    assert_as_if_nothing_had_been_broken(job)


def test_what_cannot_be_retried_says_why(job: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is not an output of distilray"):
        retry(str(tmp_path / "nothing"))
    execute(load_job(job, [f"tasks.0.model={make_checkpoint(tmp_path / 'mine')}"]))
    before = output_bytes(out(job))
    for override in ("tasks.0.threshold=0.5", "source.uri=x", "sink.uri=x"):
        with pytest.raises(
            JobError, match=f"--set {override.split('=')[0]}: only keys of compute and of storage_options"
        ):
            retry(out(job), [override])
    with pytest.raises(JobError, match="compute.nodes: unknown key"):
        retry(out(job), ["compute.nodes=3"])
    make_checkpoint(tmp_path / "mine", seed=5)
    with pytest.raises(JobError, match="different job: the files of a model have changed"):
        retry(out(job))
    assert output_bytes(out(job)) == before
    assert (job.parent / "out/_SUCCESS").exists()


def test_another_dtype_is_allowed_and_said(job: Path) -> None:
    execute(load_job(job))
    mend(job)
    retry(out(job), ["compute.dtype=bfloat16"])
    manifest = json.loads((job.parent / "out/_manifest.json").read_text())
    assert sorted((name.split(", ")[1], units) for name, units in manifest["backends"].items()) == [
        ("bfloat16", 2),
        ("float32", 4),
    ]
    assert manifest["job"]["compute"]["dtype"] == "float32"
    assert execute(load_job(job)).computed.units == 0


def test_what_stops_a_retry_before_it_begins_takes_no_success_away(job: Path) -> None:
    execute(load_job(job))
    before = output_bytes(out(job))
    with pytest.raises(BackendError, match="needs a CUDA device"):
        retry(out(job), ["compute.attention=flash"])
    shard = job.parent / "in/0.parquet"
    shard.write_bytes(shard.read_bytes() + b"mended in place")
    said = r"1 of 2 shards that have dead letters: .*0\.parquet changed since it was planned: expected .*; restore it$"
    with pytest.raises(JobError, match=said):
        retry(out(job))
    shard.unlink()
    with pytest.raises(JobError, match=r"0\.parquet is gone since it was planned: .*; restore it$"):
        retry(out(job))
    assert output_bytes(out(job)) == before
    assert (job.parent / "out/_SUCCESS").exists()


def test_a_retry_needs_no_shard_but_those_of_its_dead_letters(job: Path) -> None:
    execute(load_job(job))
    (job.parent / "in/2.parquet").unlink()
    (job.parent / "in/archive").symlink_to(job.parent / "whole")  # no listing passes by it
    mend(job)
    assert retry(out(job)).answered == 18
    assert verify(out(job)).ok


@pytest.mark.parametrize("reason", ["error", "crash"])
def test_rows_that_fail_again_one_after_another_are_dead_letters_still(
    job: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    """Ten of them make a run stop where no other row is answered between them; of a retry that means nothing."""
    for shard in (job.parent / "in").iterdir():
        shard.unlink()
    texts = [f"poison {i}" if i % 5 == 0 else text for i, text in enumerate(random_texts(50, 0))]
    write_shard(job.parent / "in/0.parquet", texts, id=list(range(50)))
    FAILS[reason](monkeypatch)
    assert execute(load_job(job)).manifest["dead"] == {reason: 10}
    done = retry(out(job))
    assert (done.after, done.tried, done.answered) == ({reason: 10}, 10, 0)
    assert verify(out(job)).ok


def raise_at_poison(patch: pytest.MonkeyPatch) -> None:
    inner = PredictUnit.answered

    def answered(predict: PredictUnit, table: pa.Table) -> pa.Table:
        if is_poison(table):
            raise ValueError("poison")
        return inner(predict, table)

    patch.setattr(PredictUnit, "answered", answered)


def die_of_poison(patch: pytest.MonkeyPatch) -> None:
    """As after a worker's death, without processes."""
    workers: dict[Sandbox, Call] = {}

    @contextmanager
    def begun(_: Isolation, stage: str, unit: str) -> Iterator[bool]:
        yield stage == "predict"

    def ask(box: Sandbox, part: pa.Table) -> pa.Table:
        if is_poison(part):
            raise SandboxDiedError("crash", "ended the process: SIGSEGV")
        if box not in workers:
            workers[box] = box._worker()
        return workers[box](part)

    patch.setattr(Isolation, "attempt", begun)
    patch.setattr(Sandbox, "ask", ask)


def is_poison(table: pa.Table) -> bool:
    return any((text or "").startswith("poison") for text in table[s.TEXT].to_pylist())


FAILS = {"error": raise_at_poison, "crash": die_of_poison}


def test_a_retry_keeps_the_limit_that_success_was_said_under(job: Path) -> None:
    with pytest.raises(DeadLettersError, match="are allowed by max_dead: 22"):
        execute(load_job(job, ["max_dead=22"]))
    retry(out(job), ["max_dead=23"])
    assert retry(out(job)).tried == 22
    assert (job.parent / "out/_SUCCESS").exists()


def test_an_output_that_is_verified_while_a_retry_changes_it_is_not_said_to_be_wrong(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(load_job(job))
    mend(job)
    verifying = sys.modules[verify.__module__]
    inner = verifying.count_units

    def count(*arguments: object) -> UnitCounts:
        monkeypatch.setattr(verifying, "count_units", inner)
        retry(out(job))
        return inner(*arguments)

    monkeypatch.setattr(verifying, "count_units", count)
    (problem,) = verify(out(job)).problems
    assert problem.startswith("the output changed while it was read")
    assert verify(out(job)).ok


@pytest.mark.slow
@pytest.mark.cluster
def test_on_ray(job: Path) -> None:
    execute(load_job(job))
    mend(job)
    command = [sys.executable, "-m", "distilray", "retry", out(job), "--set", "compute.engine=ray"]
    done = subprocess.run(
        command, env={**os.environ, "RAY_ADDRESS": "local"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert_as_if_nothing_had_been_broken(job)


DIES = """
import os, signal, sys
from distilray.model.errors import BackendError
from distilray.operators import merge_retried as merge
from distilray.pipeline.errors import DeadLettersError
from distilray.pipeline.cli.main import main
merge.write_dead_letters = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
sys.exit(main())
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "data") as server:
        s3fs.S3FileSystem(**server.storage_options).mkdir("out")
        yield server


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize("again", ["retry", "run"])
def test_killed_between_the_two_puts_on_s3(job: Path, server: S3Server, again: str) -> None:
    fs, at = s3fs.S3FileSystem(**server.storage_options), f"s3://out/{again}"
    options = [f"sink.storage_options={json.dumps(server.storage_options)}"]
    there = [f"sink.uri={at}", *options]
    execute(load_job(job, there))
    mend(job)
    command = [sys.executable, "-c", DIES, "retry", at, "--set", *options]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not fs.exists(f"{at}/_SUCCESS")
    assert not verify(at, options).ok
    if again == "run":
        execute(load_job(job, there))
        assert verify(at, options).problems == []
    retry(at, options)
    assert verify(at, options).problems == []
    fs.get(f"{at}/", f"{job.parent}/out/", recursive=True)
    manifest = job.parent / "out/_manifest.json"
    assert server.storage_options["secret"] not in manifest.read_text()
    manifest.write_text(manifest.read_text().replace(at, out(job)))
    assert_as_if_nothing_had_been_broken(job)
