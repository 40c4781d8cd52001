"""Samples of a corpus: row groups of any size, and shards that are missing."""

import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilray.operators.encoder_passes import open_passes
from distilray.operators.errors import ShardError
from distilray.operators.tasks.task import open_checkpoints
from distilray.pipeline import Compute, Job, Sink, Source, TokenClassification
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.planning.plan import Plan, cut
from distilray.pipeline.planning.sample_rows import sample_rows, spread_units
from distilray.pipeline.planning.token_sample import take_sample
from tests.support import random_texts, write_shard


def with_empty_group(path: Path, texts: list[str]) -> Path:
    """Write a shard with empty row groups, as writers do that get an empty batch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
        for some in ([], texts, []):
            writer.write_table(pa.table({"text": pa.array(some, pa.string())}))
    assert pq.read_metadata(path).row_group(0).num_rows == 0
    return path


def plan_of(folder: Path, unit_bytes: int = 10**6) -> Plan:
    return cut(survey(Source(uri=str(folder)), pa.schema([])), unit_bytes)


@pytest.mark.parametrize("others", [0, 2])
def test_a_sample_skips_row_groups_without_rows(checkpoint: Path, tmp_path: Path, others: int) -> None:
    with_empty_group(tmp_path / "in/a.parquet", random_texts(9, 1))
    for i in range(others):
        write_shard(tmp_path / f"in/b{i}.parquet", random_texts(9, i))
    tasks = [TokenClassification(model=str(checkpoint))]
    job = Job(source=Source(uri="x"), tasks=tasks, sink=Sink(uri="y"), compute=Compute(engine="local"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sample = take_sample(plan_of(tmp_path / "in"), open_passes(job.tasks, open_checkpoints(job.tasks))[0])
    assert sample
    assert (sample.table.num_rows, sample.scale) == (9 * (1 + others), 1.0)


def test_a_large_row_group_after_an_empty_one_is_cut(tmp_path: Path) -> None:
    with_empty_group(tmp_path / "a.parquet", random_texts(100, 1))
    assert len(plan_of(tmp_path, 2000).units) > 3


def test_a_missing_shard_is_an_error(tmp_path: Path) -> None:
    plan = plan_of(write_shard(tmp_path / "a.parquet", ["a"]))
    (tmp_path / "a.parquet").unlink()
    with pytest.raises(ShardError, match="a.parquet is gone since it was planned"):
        sample_rows(plan, spread_units(plan.units, 1), 1)
