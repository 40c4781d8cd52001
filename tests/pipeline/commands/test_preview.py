"""Previews of a corpus whose first shards are empty, and of a job with an interrupted run."""

from pathlib import Path

import pyarrow as pa
import pytest

from distilray.operators.isolation.attempts import Isolation
from distilray.pipeline import Compute, Job, JobError, Sink, Source, TokenClassification
from distilray.pipeline.commands.preview import preview
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.planning.compute_target import find_target, isolation_of
from distilray.pipeline.planning.make_plan import make_plan
from tests.support import write_shard


@pytest.fixture
def job(checkpoint: Path, tmp_path: Path) -> Job:
    return Job(
        source=Source(uri=str(tmp_path / "in")),
        tasks=[TokenClassification(model=str(checkpoint))],
        sink=Sink(uri=str(tmp_path / "out")),
        compute=Compute(engine="local"),
    )


def test_a_preview_skips_empty_first_shards(job: Job, tmp_path: Path) -> None:
    empty = pa.array([], pa.string())
    for i in range(3):
        write_shard(tmp_path / f"in/{i:02}.parquet", empty)
    with pytest.raises(JobError, match="the corpus has no rows to preview"):
        preview(job)
    for i in range(17):
        write_shard(tmp_path / f"in/{i:02}.parquet", ["Mary met John."] if i == 16 else empty)
    with pytest.raises(JobError, match="the first 16 shards of the corpus have no rows to preview.*source.uri"):
        preview(job)


def test_a_preview_keeps_the_mark_of_a_crashed_run(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A preview that used the mark would remove it, and the next attempt of the run would be killed again."""
    monkeypatch.setenv("DISTILRAY_CACHE", str(tmp_path / "cache"))
    write_shard(tmp_path / "in/00.parquet", ["Mary met John."])
    target = find_target(job.compute)
    (unit,) = make_plan(job, survey(job.source, job.inputs), target).units
    run = isolation_of(job, target).run
    mark = tmp_path / "cache/begun" / run / f"predict-{unit.name}"
    mark.parent.mkdir(parents=True)
    mark.write_text("of a process that is gone")
    assert len(preview(job).documents) == 1
    assert "a separate process" not in caplog.text
    with Isolation(run).attempt("predict", unit.name) as died:
        assert died
