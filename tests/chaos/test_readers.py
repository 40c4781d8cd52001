"""Readers of data/ during a job with killed runs get whole units only, each row once, and no row that disappears."""

import io
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import s3fs
from fsspec.implementations.local import LocalFileSystem

from tests.chaos.job_on_s3 import JobOnS3, job_on_s3
from tests.proxy import Rule

pytestmark = [pytest.mark.s3, pytest.mark.slow]

COLUMNS = ["shard", "row", "id"]
Row = tuple[str, int, int]


def by_duckdb(fs: Any, folder: str) -> list[Row]:
    glob = f"{folder}/*.parquet"
    with duckdb.connect() as connection:
        if isinstance(fs, s3fs.S3FileSystem):
            connection.register_filesystem(fs)
            glob = f"s3://{glob}"
        return connection.execute(f"SELECT shard, row, id FROM '{glob}'").fetchall()


def by_pandas(fs: Any, folder: str) -> list[Row]:
    table = pd.read_parquet(folder, filesystem=fs, columns=COLUMNS)
    return list(table.itertuples(index=False, name=None))


def by_polars(fs: Any, folder: str) -> list[Row]:
    files = [io.BytesIO(fs.cat_file(path)) for path in fs.glob(f"{folder}/*.parquet")]
    return pl.read_parquet(files, columns=COLUMNS).rows()


def by_arrow(fs: Any, folder: str) -> list[Row]:
    return rows(ds.dataset(folder, filesystem=fs, format="parquet").to_table(columns=COLUMNS))


def by_glob(fs: Any, folder: str) -> list[Row]:
    files = [fs.cat_file(path) for path in fs.glob(f"{folder}/*.parquet")]
    return [row for file in files for row in rows(pq.read_table(io.BytesIO(file), columns=COLUMNS))]


READERS: list[Callable[[Any, str], list[Row]]] = [by_duckdb, by_pandas, by_polars, by_arrow, by_glob]


def rows(table: pa.Table) -> list[Row]:
    return list(zip(*(table[name].to_pylist() for name in COLUMNS), strict=True))


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobOnS3]:
    with job_on_s3(tmp_path_factory.mktemp("readers"), shards=4, rows=60) as job:
        yield job


@pytest.mark.parametrize("store", ["s3", "disk"])
def test_a_partial_run_shows_whole_units(job: JobOnS3, tmp_path: Path, store: str) -> None:
    out = f"read-on-{store}"
    sink, folder = (
        (f"s3://out/{out}", f"out/{out}/data") if store == "s3" else (f"{tmp_path}/out", f"{tmp_path}/out/data")
    )
    objects = [job.fs.cat_file(path) for path in job.fs.glob("out/reference/data/*.parquet")]
    units = [rows(pq.read_table(io.BytesIO(data), columns=COLUMNS)) for data in objects]
    unit_of = {row: number for number, unit in enumerate(units) for row in unit}
    counts: dict[str, set[int]] = {read.__name__: set() for read in READERS}
    draw = random.Random(0)
    job.proxy.rules(Rule(["delay"], method="GET", path="corpus/", rate=0.5, seconds=0.2))
    for kills in range(3, -1, -1):
        driver, reads = job.start(out, sink=sink), 0
        last = draw.randrange(1, 4) if kills else -1  # the read after which the run is killed
        while driver.is_alive() or reads == 0:
            fs = job.fs if store == "s3" else LocalFileSystem()
            if not fs.glob(f"{folder}/*.parquet"):
                continue
            reads += 1
            for read in READERS:
                rows_read = read(fs, folder)
                assert len(rows_read) == len(set(rows_read)), f"{read.__name__}: duplicate row"
                units_read = Counter(unit_of[row] for row in rows_read)
                assert units_read == {number: len(units[number]) for number in units_read}, (
                    f"{read.__name__}: partial unit"
                )
                counts[read.__name__].add(len(rows_read))
            if reads == last:
                driver.kill()
    assert driver.exitcode == 0, job.log(out).read_text()[-3000:]
    for read in READERS:
        assert sorted(read(job.fs if store == "s3" else LocalFileSystem(), folder)) == sorted(unit_of)
        assert len(counts[read.__name__]) > 2, f"{read.__name__} has read too few states: {counts}"
