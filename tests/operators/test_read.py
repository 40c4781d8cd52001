"""Read.head returns the first rows of a unit and reads little more of the file than they need."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilray.operators import read
from distilray.operators.read import Read
from distilray.operators.rows.unit import Unit
from tests.support import random_texts

READ = Read("text", pa.schema([]), pa.schema([("id", pa.int64())]), pa.schema([]))


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard with one row group of 3,000 rows in many pages."""
    path = tmp_path_factory.mktemp("read") / "a.parquet"
    table = pa.table({"text": [*random_texts(2999, 1), None], "id": range(3000)})
    pq.write_table(table, path, use_dictionary=False, data_page_size=2**12, row_group_size=3000, write_batch_size=32)
    return path


@pytest.mark.parametrize(("skip", "rows"), [(0, 3000), (0, 7), (1020, 1500), (2990, 10), (1024, 1), (2048, 952)])
def test_head_returns_the_first_rows_of_a_unit(shard: Path, skip: int, rows: int) -> None:
    unit = Unit("u", str(shard), str(shard.stat().st_size), (0, 1), skip, skip, rows)
    for count in (1, 5, 1100, 5000):
        head = READ.head(unit, count)
        assert head.drop(["_unit_rows"]).equals(READ(unit).slice(0, count).combine_chunks().drop(["_unit_rows"]))


def test_head_reads_only_the_start_of_a_unit(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, total = shard.stat().st_size, [0]
    original = read.WatchedFile.read

    def count_bytes(file: Any, count: int = -1) -> bytes:
        data = original(file, count)
        total[0] += len(data)
        return data

    monkeypatch.setattr(read.WatchedFile, "read", count_bytes)
    monkeypatch.setattr(read, "_STREAM", 2**12)
    READ.head(Unit("u", str(shard), str(size), (0, 1), 0, 0, 3000), 10)
    assert total[0] < size / 2


def test_a_memory_error_is_not_a_corrupt_shard(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows count as failed rows, whose number is limited: the cause may be the memory use of other processes."""

    def fail(*_: Any) -> pa.Table:
        raise pa.ArrowMemoryError("malloc of size 10000000000 failed")

    monkeypatch.setattr(read, "_take_at_once", fail)
    table = READ(Unit("u", str(shard), str(shard.stat().st_size), (0, 1), 0, 0, 3000))
    assert set(table["_reason"].to_pylist()) == {"out_of_memory"}
