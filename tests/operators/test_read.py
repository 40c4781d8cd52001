"""The beginning of a unit: the rows that reading all of it gives first, and no more of the file than they need."""

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
    """One row group of 3,000 rows in many pages."""
    path = tmp_path_factory.mktemp("read") / "a.parquet"
    table = pa.table({"text": [*random_texts(2999, 1), None], "id": range(3000)})
    pq.write_table(table, path, use_dictionary=False, data_page_size=2**12, row_group_size=3000, write_batch_size=32)
    return path


@pytest.mark.parametrize(("skip", "rows"), [(0, 3000), (0, 7), (1020, 1500), (2990, 10), (1024, 1), (2048, 952)])
def test_the_head_is_what_comes_first(shard: Path, skip: int, rows: int) -> None:
    unit = Unit("u", str(shard), str(shard.stat().st_size), (0, 1), skip, skip, rows)
    for most in (1, 5, 1100, 5000):
        head = READ.head(unit, most)
        assert head.drop(["_unit_rows"]).equals(READ(unit).slice(0, most).combine_chunks().drop(["_unit_rows"]))


def test_what_comes_after_it_is_not_read(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size, total = shard.stat().st_size, [0]
    inner = read.WatchedFile.read

    def counted(file: Any, wanted: int = -1) -> bytes:
        data = inner(file, wanted)
        total[0] += len(data)
        return data

    monkeypatch.setattr(read.WatchedFile, "read", counted)
    monkeypatch.setattr(read, "_STREAM", 2**12)
    READ.head(Unit("u", str(shard), str(size), (0, 1), 0, 0, 3000), 10)
    assert total[0] < size / 2


def test_memory_that_ends_is_not_called_bad_bytes(shard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read in vain because of others counts among the rows that failed, of which a run allows few."""

    def whole(*_: Any) -> pa.Table:
        raise pa.ArrowMemoryError("malloc of size 10000000000 failed")

    monkeypatch.setattr(read, "_take_at_once", whole)
    table = READ(Unit("u", str(shard), str(shard.stat().st_size), (0, 1), 0, 0, 3000))
    assert set(table["_reason"].to_pylist()) == {"out_of_memory"}
