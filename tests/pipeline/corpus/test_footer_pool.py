"""Footers that end the process that parses them: their shards are rejected, and other footers are still read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pyarrow as pa
import pytest

from distilray.pipeline.corpus import footer_parser, footer_pool
from distilray.pipeline.corpus.footer_pool import Footer, parse_footers
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.job.job import Source
from tests.fuzz import thrift
from tests.support import write_shard

NO_INPUTS = pa.schema([])


def edited(file: Path, edit: Callable[[thrift.Struct], object]) -> bytes:
    """Return the bytes of the file with an edited footer."""
    data = file.read_bytes()
    metadata = thrift.footer(data)
    edit(metadata)
    return thrift.with_footer(data, metadata)


def lengthen_histogram(metadata: thrift.Struct) -> None:
    """Add a level that the column does not have. Arrow throws in a constructor, and no caller catches the exception."""
    chunk = metadata.get(4).items[0].get(1).items[0].get(3)
    chunk.get(16).get(3).items.append(1)


def set_rows(metadata: thrift.Struct, rows: int, *, in_all: bool = True) -> None:
    for field in metadata.get(4).items[0].fields:
        field[2] = rows if field[0] == 3 else field[2]
    for field in metadata.fields:
        field[2] = rows if field[0] == 3 and in_all else field[2]


def duplicate_chunk(metadata: thrift.Struct) -> None:
    chunks = metadata.get(4).items[0].get(1).items
    chunks.append(chunks[0])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_shard(tmp_path / "good.parquet", ["a", None, "b"])


@pytest.fixture
def killer(file: Path) -> bytes:
    return edited(file, lengthen_histogram)


def test_a_hostile_footer_ends_a_process_that_reads_it(killer: bytes, tmp_path: Path) -> None:
    (tmp_path / "killer.parquet").write_bytes(killer)
    code = "import sys, pyarrow.parquet as pq; pq.read_metadata(sys.argv[1]).row_group(0).column(0)"
    command = [sys.executable, "-c", code, str(tmp_path / "killer.parquet")]
    assert subprocess.run(command, capture_output=True, check=False).returncode < 0


def test_other_footers_are_read(killer: bytes, file: Path) -> None:
    good = file.read_bytes()
    first, a, nothing, b, last = parse_footers([good, killer, b"PAR1", killer, good], {"text"})
    assert isinstance(first, Footer)
    assert first == last == Footer(pa.schema([("text", pa.string())]), first.groups)
    assert [rows for rows, _ in first.groups] == [3]
    assert a == b
    assert "parsing its footer ends the process: SIGABRT" in str(a)
    assert str(nothing).startswith("ArrowInvalid")


def test_many_batches_keep_their_order(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footer_pool, "_BATCH", 3)
    files = [write_shard(tmp_path / f"{i}.parquet", ["a"] * (i + 1)).read_bytes() for i in range(40)]
    assert [found.groups[0][0] for found in parse_footers(iter(files), {"text"})] == list(range(1, 41))
    assert list(parse_footers([], {"text"})) == []


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lengthen_histogram, "parsing its footer ends the process"),
        (duplicate_chunk, "does not have the 1 columns of the schema"),
        (lambda metadata: set_rows(metadata, 4, in_all=False), "has 3 rows, its row groups have 4"),
        (lambda metadata: set_rows(metadata, -3), "negative number"),
        (lambda metadata: set_rows(metadata, 2**40), f"claims {2**40} rows"),
    ],
)
def test_a_hostile_footer_rejects_its_shard(
    edit: Callable[[thrift.Struct], object], expected: str, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.parquet").write_bytes(edited(file, edit))
    bad, good = survey(Source(uri=str(tmp_path)), NO_INPUTS).shards
    assert good.rows == 3
    assert bad.rows == 0
    reason, message = bad.error or ("", "")
    assert reason == "unreadable_shard"
    assert expected in message


def test_a_script_needs_no_guard_around_its_main(file: Path, tmp_path: Path) -> None:
    """Worker processes that import the script of the user would run it again."""
    script = f"""
        import pyarrow as pa
        print("once")
        from distilray.pipeline.job.job import Source
        from distilray.pipeline.corpus.survey import survey
        print(survey(Source(uri={str(file)!r}), pa.schema([])).shards[0].rows)
    """
    (tmp_path / "script.py").write_text(dedent(script))
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["once", "3"]


def test_a_parser_that_does_not_start_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footer_parser, "__file__", "/nowhere.py")
    with pytest.raises(RuntimeError, match="does not start: exit code 2: .*nowhere.py"):
        list(parse_footers([file.read_bytes()], {"text"}))
