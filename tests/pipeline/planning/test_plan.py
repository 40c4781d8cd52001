"""Plans: every row is in exactly one unit, units are small enough, and equal corpora give equal plans."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from distilray.operators.read import Read
from distilray.pipeline import JobError, Source
from distilray.pipeline.corpus.listing import Shard, list_shards
from distilray.pipeline.corpus.survey import Corpus, infer_partitions, partition_values, survey
from distilray.pipeline.planning.plan import cut
from tests.support import random_texts, write_shard

READ = Read("text", pa.schema([]), pa.schema([]), pa.schema([]))
GROUPS = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5000)), max_size=12)


@given(st.lists(GROUPS, min_size=1, max_size=4), st.integers(1, 4000))
def test_every_row_is_in_exactly_one_unit(shards: list[list[tuple[int, int]]], unit_bytes: int) -> None:
    # a row group without rows has no bytes
    groups = [tuple((rows, size if rows else 0) for rows, size in shard) for shard in shards]
    corpus = Corpus(READ, tuple(Shard(f"{i}.parquet", "v", 1, groups=shard) for i, shard in enumerate(groups)))
    plan = cut(corpus, unit_bytes)
    for i, shard in enumerate(groups):
        covered = []
        for unit in plan.units:
            if unit.uri == f"{i}.parquet":
                before = sum(rows for rows, _ in shard[: unit.row_groups[0]])
                held = sum(rows for rows, _ in shard[slice(*unit.row_groups)])
                assert unit.rows > 0
                assert unit.skip < shard[unit.row_groups[0]][0]
                assert unit.first_row == before + unit.skip
                assert unit.skip + unit.rows <= held
                covered += range(unit.first_row, unit.first_row + unit.rows)
        assert covered == list(range(sum(rows for rows, _ in shard)))
    assert plan.rows == sum(rows for shard in groups for rows, _ in shard)
    names = [unit.name for unit in plan.units]
    assert names == sorted(set(names))
    assert cut(corpus, unit_bytes) == plan


def test_a_large_row_group_is_cut_into_row_ranges(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "one.parquet", random_texts(100, 1), row_group_size=100)
    corpus = survey(Source(uri=str(path)), pa.schema([]))
    units = cut(corpus, 2000).units
    assert len(units) > 3
    assert [unit.row_groups for unit in units] == [(0, 1)] * len(units)
    whole = corpus.read(cut(corpus, 10**9).units[0])
    pieces = pa.concat_tables([corpus.read(unit) for unit in units])
    assert pieces["row"].equals(whole["row"])
    assert pieces["_text"].equals(whole["_text"])


def test_hive_keys_become_columns_with_one_type_over_the_corpus() -> None:
    partitions = [
        partition_values(f"s3://b/day=2024-01-0{i}/hour=0{i}/n={n}/part.parquet") for i, n in ((1, "7"), (2, "x"))
    ]
    schema = infer_partitions([*partitions, {"day": None}])
    assert schema == pa.schema([("day", pa.string()), ("hour", pa.int64()), ("n", pa.string())])
    assert partition_values("/a/k=a%20b/v=__HIVE_DEFAULT_PARTITION__/f=1.parquet") == {"k": "a b", "v": None}


@pytest.mark.parametrize("pattern", ["", "*.parquet", "[ab].parquet", "?.parquet", "*"])
def test_a_source_may_be_a_folder_a_glob_or_a_file(tmp_path: Path, pattern: str) -> None:
    for name in "ab":
        write_shard(tmp_path / f"{name}.parquet", ["x"])
    write_shard(tmp_path / "_hidden/c.parquet", ["x"])
    write_shard(tmp_path / ".hidden.parquet", ["x"]) if not pattern else None
    shards = survey(Source(uri=str(tmp_path / pattern)), pa.schema([])).shards
    assert [Path(shard.uri).name for shard in shards] == ["a.parquet", "b.parquet"]
    assert (
        len(survey(Source(uri=[str(tmp_path / "b.parquet"), str(tmp_path / "a.parquet")]), pa.schema([])).shards) == 2
    )


@pytest.mark.parametrize("pattern", ["**/*.parquet", "*/*.parquet", "*"])
def test_a_glob_ignores_hidden_files(tmp_path: Path, pattern: str) -> None:
    for name in ("y=1/a", "_temporary/b", ".spark/c"):
        write_shard(tmp_path / f"{name}.parquet", ["x"])
    assert [Path(shard.uri).name for shard in survey(Source(uri=str(tmp_path / pattern)), pa.schema([])).shards] == [
        "a.parquet"
    ]


def test_a_glob_of_folders_includes_their_shards(tmp_path: Path) -> None:
    for name in ("year=2023/a", "year=2024/month=1/b", "year=1999/c"):
        write_shard(tmp_path / f"{name}.parquet", ["x"])
    shards = survey(Source(uri=str(tmp_path / "year=202*")), pa.schema([])).shards
    assert [Path(shard.uri).name for shard in shards] == ["a.parquet", "b.parquet"]


def test_links_to_shards_are_followed_and_ambiguous_links_are_errors(tmp_path: Path) -> None:
    write_shard(tmp_path / "elsewhere/a", ["x"])
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    (corpus / "one.parquet").symlink_to(tmp_path / "elsewhere/a")
    (corpus / "note.txt").symlink_to(tmp_path / "nowhere")
    (corpus / "_draft").symlink_to(tmp_path / "elsewhere")
    shards = survey(Source(uri=str(corpus)), pa.schema([])).shards
    assert [Path(shard.uri).name for shard in shards] == ["one.parquet"]
    (tmp_path / "elsewhere/b").symlink_to(tmp_path / "elsewhere/a")
    (corpus / "day").symlink_to(tmp_path / "elsewhere")
    shards = survey(Source(uri=str(corpus / "*/[ab]")), pa.schema([])).shards
    assert [shard.uri for shard in shards] == [str(corpus / "day/a"), str(corpus / "day/b")]
    (corpus / "day").unlink()
    (corpus / "two.parquet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(JobError, match=r"corpus/two.parquet is a broken link"):
        survey(Source(uri=str(corpus)), pa.schema([]))


def list_relative(corpus: Path, *uris: str) -> list[str]:
    source = Source(uri=[str(corpus / uri) for uri in uris])
    return sorted(str(Path(shard.uri).relative_to(corpus)) for shard in list_shards(source))


def test_the_advice_for_a_linked_folder_works(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_shard(corpus / "a.parquet", ["x"])
    write_shard(tmp_path / "elsewhere/b.parquet", ["y"])
    (corpus / "day").symlink_to(tmp_path / "elsewhere")
    message = (
        r"corpus/day is a link to a folder: add it to source.uri, or use a glob that matches it, or a glob without"
    )
    for uri in ("", "**/*.parquet"):
        with pytest.raises(JobError, match=message):
            list_relative(corpus, uri)
    whole = ["a.parquet", "day/b.parquet"]
    for uris in (["", "day"], ["**", "day/"], ["**/*.parquet", "day/*.parquet"], ["*"], ["**"], ["a*", "d*"]):
        assert list_relative(corpus, *uris) == whole, uris
    assert list_relative(corpus, "*.parquet") == list_relative(corpus, "[!d]*") == ["a.parquet"]
    with pytest.raises(JobError, match=message):
        list_relative(corpus, "", "days")


def test_a_link_loop_is_an_error_only_if_the_source_matches_it(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    write_shard(corpus / "a.parquet", ["x"])
    for name in ("loop", ".lock"):
        (corpus / name).symlink_to(name)
    (corpus / "note").symlink_to(corpus / "a.parquet/b")
    for uri in ("", "*.parquet", "**/*.parquet", "a*"):
        assert list_relative(corpus, uri) == ["a.parquet"], uri
    for uri in ("*", "l*", "**"):
        with pytest.raises(JobError, match=r"corpus/(loop|note) is a broken link"):
            list_relative(corpus, uri)


def test_only_links_whose_names_match_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A glob ignores forbidden links that it does not match. Other sources may miss shards, so the link is an error."""
    write_shard(tmp_path / "a.parquet", ["x"])
    (tmp_path / "denied").symlink_to(tmp_path / "secret")
    info = LocalFileSystem.info

    def denied(fs: LocalFileSystem, path: Any) -> Any:
        if str(path).endswith("denied"):
            raise PermissionError(13, "Permission denied", str(path))
        return info(fs, path)

    monkeypatch.setattr(LocalFileSystem, "info", denied)
    assert list_relative(tmp_path, "*.parquet") == ["a.parquet"]
    with pytest.raises(JobError, match="Permission denied"):
        list_relative(tmp_path, "")


def test_a_store_without_sizes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryFileSystem()
    store.pipe_file("/unsized/a.parquet", b"x")
    info = store.info("/unsized/a.parquet")
    monkeypatch.setattr(MemoryFileSystem, "info", lambda *_, **__: {**info, "size": None})
    with pytest.raises(JobError, match=r"memory:///unsized/a.parquet: its store does not report its size"):
        survey(Source(uri="memory://unsized/a.parquet"), pa.schema([]))
