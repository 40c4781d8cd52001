"""Reads of many footers: they equal those of pyarrow at any size, and faults of a store are errors."""

from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilray.pipeline.corpus import footers
from distilray.pipeline.corpus.footers import StoreError, read_footers
from tests.support import write_shard

FS = fsspec.filesystem("file")


def listed(*paths: Path) -> list[tuple[str, int]]:
    return [(str(path), path.stat().st_size) for path in paths]


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Four files.

    One is a small shard. One has a footer longer than the first fetch. One is plain text. One is shorter than any
    footer.
    """
    one = write_shard(tmp_path / "one.parquet", ["a", "b"])
    long = write_shard(tmp_path / "long.parquet", ["a"] * 900, row_group_size=1, id=list(range(900)))
    words, short = tmp_path / "words.parquet", tmp_path / "short.parquet"
    words.write_bytes(b"these are words, not Parquet")
    short.write_bytes(b"PAR1")
    return [one, long, words, short]


def test_each_footer_belongs_to_its_file(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footers, "_FILES_PER_REQUEST", 3)
    one, long, words, short = read_footers(FS, listed(*files))
    assert one.equals(pq.read_metadata(files[0]))
    assert long.serialized_size > footers._TAIL
    assert long.equals(pq.read_metadata(files[1]))
    assert "magic bytes" in str(words)
    assert isinstance(short, pa.ArrowInvalid)
    assert list(read_footers(FS, [])) == []


def test_a_footer_longer_than_its_file_is_broken(files: list[Path]) -> None:
    data = files[0].read_bytes()
    files[0].write_bytes(data[:-8] + (2**31).to_bytes(4, "little") + b"PAR1")
    (broken,) = read_footers(FS, listed(files[0]))
    assert isinstance(broken, pa.ArrowInvalid)


def test_long_footers_of_parquet_files_are_fetched_in_small_batches(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    junk = tmp_path / "junk.parquet"
    junk.write_bytes(bytes(10**6) + (9 * 10**5).to_bytes(4, "little") + b"JUNK")
    one, long, *_ = files
    requested = []
    inner = FS.cat_ranges

    def spy(paths: list[str], starts: list[int], ends: list[int], **more: object) -> list[bytes]:
        requested.append(sum(end - start for start, end in zip(starts, ends, strict=True)))
        return inner(paths, starts, ends, **more)

    monkeypatch.setattr(FS, "cat_ranges", spy)
    size = pq.read_metadata(long).serialized_size + 8
    monkeypatch.setattr(footers, "_MAX_BYTES", 2 * size)
    found = list(read_footers(FS, listed(long, long, junk, long, one, long)))
    assert [isinstance(each, Exception) for each in found] == [False, False, True, False, False, False]
    assert sum(requested[1:]) == 4 * size
    assert max(requested[1:]) <= 2 * size


def test_a_missing_or_shorter_file_is_a_store_error(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="none.parquet: FileNotFoundError"):
        list(read_footers(FS, [(str(tmp_path / "none.parquet"), 100)]))
    with pytest.raises(StoreError, match="the file may have changed"):
        list(read_footers(FS, [(str(files[0]), 10**6)]))
