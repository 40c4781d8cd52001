"""Second runs into a sink on the local engine: the same job, a different job, and unexpected objects."""

from pathlib import Path

import pyarrow as pa
import pytest

from distilray.operators.rows.schema import data_schema
from distilray.pipeline import JobError
from distilray.pipeline.commands.run import execute
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.errors import DeadLettersError, ParityError
from distilray.pipeline.job.job import Parity
from distilray.pipeline.planning.checked_tasks import check_tasks
from distilray.pipeline.planning.compute_target import find_target
from distilray.pipeline.planning.make_plan import make_plan
from distilray.pipeline.sink.output import IncompleteError, open_output
from distilray.pipeline.sink.plan_file import encode_plan, read_plan
from tests.support import local_job, make_checkpoint, output_bytes, random_texts, read_output, write_shard


def test_a_second_run_of_a_finished_job_computes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", random_texts(60, 6), row_group_size=20)
    job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")
    first = execute(job)
    before = output_bytes(tmp_path / "out")
    again = execute(job)
    assert again.computed.units == 0
    assert again.manifest == first.manifest
    assert output_bytes(tmp_path / "out") == before


def test_a_finished_output_beyond_the_limits_of_a_job_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", [*random_texts(39, 6), None])
    job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")
    execute(job)
    with pytest.raises(DeadLettersError, match="1 of 40 rows are dead letters .*are allowed by max_dead: 2%"):
        execute(job.model_copy(update={"max_dead": "2%"}))
    compared = job.compute.model_copy(update={"parity": Parity()})
    with pytest.raises(ParityError, match="0 rows were compared, about 39 expected"):
        execute(job.model_copy(update={"compute": compared}))
    assert execute(job.model_copy(update={"max_dead": "2.5%"})).computed.units == 0


def test_a_resume_computes_missing_units_to_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", [*random_texts(60, 6), None], row_group_size=10)
    job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")
    whole = execute(job)
    before = output_bytes(tmp_path / "out")
    for name in sorted((tmp_path / "out/data").iterdir())[1::2]:
        name.unlink()
    (tmp_path / "out/_SUCCESS").unlink()
    resumed = execute(job)
    assert 0 < resumed.computed.units < whole.computed.units
    of_a_run = {"timing", "forecast"}
    for name in whole.manifest.keys() - of_a_run:
        assert resumed.manifest[name] == whole.manifest[name]
    assert resumed.manifest["timing"]["units"] == resumed.computed.units
    assert output_bytes(tmp_path / "out") == before


def test_new_shards_are_an_error(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "in/a.parquet", ["Lincoln"])
    write_shard(tmp_path / "in/empty.parquet", pa.array([], pa.string()))
    job = local_job(tmp_path / "in", checkpoint, tmp_path / "out")
    execute(job)
    execute(job)
    write_shard(tmp_path / "in/b.parquet", ["Paris"])
    with pytest.raises(JobError, match="has 3 shards, the plan in .* has 2; new shards: .*b.parquet"):
        execute(job)


def test_a_different_job_into_the_same_sink_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", random_texts(10, 7))
    job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")
    execute(job)
    other = make_checkpoint(tmp_path / "other", seed=9)
    task = job.tasks[0]
    kept = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out", keep=["text"])
    for changed, message in (
        (
            task.model_copy(update={"aggregation": "max"}),
            'tasks.0.aggregation was "first" and is "max"; restore the old values',
        ),
        (task.model_copy(update={"model": str(other)}), rf'tasks.0.model was ".*" and is "{other}"'),
    ):
        with pytest.raises(JobError, match=f"the output of a different job: {message}"):
            execute(job.model_copy(update={"tasks": [changed]}))
    with pytest.raises(JobError, match=r"a different job: source.keep was \[\] and is \[\"text\"\]; restore"):
        execute(kept)
    half = job.model_copy(update={"compute": job.compute.model_copy(update={"dtype": "bfloat16"})})
    with pytest.raises(JobError, match='a different job: compute.dtype was "float32" and is "bfloat16"; restore'):
        execute(half)
    faster = job.compute.model_copy(update={"tokens_per_pack": 600, "attention": "eager"})
    assert execute(job.model_copy(update={"compute": faster})).computed.units == 0


def test_a_sink_with_foreign_data_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", ["x"])
    write_shard(tmp_path / "out/data/theirs.parquet", ["x"])
    with pytest.raises(JobError, match="not an output of distilray"):
        execute(local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out"))


def test_a_missing_unit_prevents_success(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", random_texts(60, 6), row_group_size=10)
    job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")

    def remove_a_unit(_: object) -> None:
        for name in sorted((tmp_path / "out/data").glob("000001-*")):
            name.unlink()

    with pytest.raises(IncompleteError, match="1 of .* units are missing"):
        execute(job, on_unit=remove_a_unit)
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_a_shard_that_changed_since_the_plan_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "corpus.parquet", random_texts(20, 8))
    job = local_job(shard, checkpoint, tmp_path / "out")
    execute(job)
    for name in (tmp_path / "out/data").iterdir():
        name.unlink()
    write_shard(shard, random_texts(30, 9))
    with pytest.raises(ValueError, match="1 of 1 shards changed since the plan"):
        execute(job)


def test_a_second_run_uses_the_plan_of_the_first(checkpoint: Path, tmp_path: Path) -> None:
    """Two drivers with different unit sizes work on one sink. They use one plan, and answer each row once."""
    write_shard(tmp_path / "corpus.parquet", random_texts(60, 6), row_group_size=10)
    job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")
    other = job.model_copy(update={"compute": job.compute.model_copy(update={"unit_bytes": 10**6})})
    output = open_output(job.sink)
    checked = check_tasks(job.tasks)
    about = job.fingerprint(checked.digests), job, data_schema(pa.schema([]), checked.answers)
    assert output.save_plan(make_plan(job, survey(job.source, job.inputs), find_target(job.compute)), *about)
    assert not output.save_plan(make_plan(other, survey(job.source, job.inputs), find_target(other.compute)), *about)
    assert execute(other).manifest["units"] > 1
    assert read_output(tmp_path / "out")["row"].to_pylist() == list(range(60))


@pytest.mark.slow
def test_a_plan_with_very_long_uris_can_be_read(checkpoint: Path, tmp_path: Path) -> None:
    corpus = write_shard(tmp_path / "corpus.parquet", ["x"])
    job = local_job(corpus, checkpoint, tmp_path / "out")
    plan = make_plan(job, survey(job.source, job.inputs), find_target(job.compute))
    many = job.source.model_copy(update={"uri": [f"s3://bucket/{'x' * 10**6}"] * 80})
    data = encode_plan(plan, "fingerprint", job.model_copy(update={"source": many}), pa.schema([]))
    assert read_plan(data, "plan").units == plan.units


def test_an_object_of_no_unit_prevents_success(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", ["Lincoln"])
    job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")
    with pytest.raises(IncompleteError, match="1 objects that belong to no unit of the plan, such as theirs"):
        execute(job, on_unit=lambda _: write_shard(tmp_path / "out/data/theirs.parquet", ["x"]) and None)
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_dead_letters_of_an_interrupted_attempt_are_removed(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", ["Lincoln"])
    job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")
    execute(job)
    name = next((tmp_path / "out/data").iterdir()).name
    write_shard(tmp_path / "out/dead" / name, ["stale"])
    (tmp_path / "out/data" / name).unlink()
    execute(job)
    assert not list((tmp_path / "out/dead").iterdir())
