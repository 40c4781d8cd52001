"""Who looks at data/ while a job runs and dies sees whole units only, each row once, and nothing that will not last."""

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

from tests.chaos.stage import Stage, stage
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
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("readers"), shards=4, rows=60) as here:
        yield here


@pytest.mark.parametrize("store", ["s3", "disk"])
def test_a_partial_run_shows_whole_units(here: Stage, tmp_path: Path, store: str) -> None:
    out = f"seen-on-{store}"
    sink, folder = (
        (f"s3://out/{out}", f"out/{out}/data") if store == "s3" else (f"{tmp_path}/out", f"{tmp_path}/out/data")
    )
    objects = [here.fs.cat_file(path) for path in here.fs.glob("out/reference/data/*.parquet")]
    units = [rows(pq.read_table(io.BytesIO(data), columns=COLUMNS)) for data in objects]
    unit_of = {row: number for number, unit in enumerate(units) for row in unit}
    seen: dict[str, set[int]] = {read.__name__: set() for read in READERS}
    draw = random.Random(0)
    here.proxy.rules(Rule(["delay"], method="GET", path="corpus/", rate=0.5, seconds=0.2))
    for kills in range(3, -1, -1):
        driver, looks = here.start(out, sink=sink), 0
        last = draw.randrange(1, 4) if kills else -1  # look of this run
        while driver.is_alive() or looks == 0:
            fs = here.fs if store == "s3" else LocalFileSystem()
            if not fs.glob(f"{folder}/*.parquet"):
                continue
            looks += 1
            for read in READERS:
                found = read(fs, folder)
                assert len(found) == len(set(found)), f"{read.__name__}: a row twice"
                shown = Counter(unit_of[row] for row in found)
                assert shown == {number: len(units[number]) for number in shown}, f"{read.__name__}: half a unit"
                seen[read.__name__].add(len(found))
            if looks == last:
                driver.kill()
    assert driver.exitcode == 0, here.log(out).read_text()[-3000:]
    for read in READERS:
        assert sorted(read(here.fs if store == "s3" else LocalFileSystem(), folder)) == sorted(unit_of)
        assert len(seen[read.__name__]) > 2, f"{read.__name__} has seen too little: {seen}"
