"""The count check: an output that somebody changed by hand is no success."""

import base64
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from distilray.operators.errors import UnitError
from distilray.operators.objects.unit_object import (
    DEAD_LETTERS_BYTES,
    DEAD_LETTERS_KEY,
    STATS_KEY,
    UNIT_KEY,
    encode_parquet,
    with_dead_letters,
)
from distilray.pipeline import Compute, IncompleteError, Job, JobError, Sink, Source, TokenClassification
from distilray.pipeline.commands.run import execute
from distilray.pipeline.corpus.footers import read_footers
from tests.fuzz import thrift
from tests.support import metadata_of, output_bytes, random_texts, read_output, write_shard


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus of five units of ten rows, the fourth with two dead letters, and its output in out."""
    folder = tmp_path_factory.mktemp("count")
    for number in range(5):
        texts = random_texts(10, number)
        write_shard(folder / f"in/{number}.parquet", [*texts[:8], None, None] if number == 3 else texts)
    execute(job(folder, folder, checkpoint))
    return folder


def job(corpus: Path, folder: Path, checkpoint: Path) -> Job:
    return Job(
        source=Source(uri=str(corpus / "in")),
        tasks=[TokenClassification(model=str(checkpoint))],
        sink=Sink(uri=str(folder / "out")),
        compute=Compute(engine="local", dtype="float32"),
    )


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of its output that says success no more."""
    shutil.copytree(finished / "out", tmp_path / "out")
    (tmp_path / "out/_SUCCESS").unlink()
    return tmp_path


def edit(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Rewrites a Parquet file; its metadata are kept."""
    path.write_bytes(encode_parquet(change(pq.read_table(path)), metadata_of(path)))


def objects(folder: Path, part: str) -> list[Path]:
    return sorted((folder / "out" / part).glob("*.parquet"))


def remove_a_row(folder: Path) -> Path:
    edit(objects(folder, "data")[1], lambda table: table.slice(1))
    return objects(folder, "data")[1]


def double_a_row(folder: Path) -> Path:
    edit(objects(folder, "data")[2], lambda table: pa.concat_tables([table, table.slice(3, 1)]))
    return objects(folder, "data")[2]


def swap_for_another(folder: Path) -> Path:
    shutil.copy(objects(folder, "data")[0], objects(folder, "data")[1])
    return objects(folder, "data")[1]


def delete_dead_letters(folder: Path) -> Path:
    objects(folder, "dead")[0].unlink()
    return objects(folder, "data")[3]


def remove_a_dead_letter(folder: Path) -> Path:
    edit(objects(folder, "dead")[0], lambda table: table.slice(1))
    return objects(folder, "data")[3]


def delete_dead_letters_of_an_old_version(folder: Path) -> Path:
    """Before version 0.4 the data object did not hold them, too."""
    delete_dead_letters(folder)
    path = objects(folder, "data")[3]
    about = {key: value for key, value in metadata_of(path).items() if key != DEAD_LETTERS_KEY}
    path.write_bytes(encode_parquet(pq.read_table(path), about))
    return path


def forge_the_footer(folder: Path) -> Path:
    path = objects(folder, "data")[0]
    said = json.loads(metadata_of(path)[STATS_KEY])
    said["rows"] = 9
    path.write_bytes(encode_parquet(pq.read_table(path).slice(1), {**metadata_of(path), STATS_KEY: json.dumps(said)}))
    return path


def cut_a_file_short(folder: Path) -> Path:
    path = objects(folder, "data")[0]
    path.write_bytes(path.read_bytes()[:-100])
    return path


def test_dead_letters_are_held_once_and_a_footer_that_holds_the_most_can_be_read(tmp_path: Path) -> None:
    letters = random.Random(1).randbytes(DEAD_LETTERS_BYTES)
    held = tmp_path / "held.parquet"
    held.write_bytes(encode_parquet(pa.table({"row": [1]}), with_dead_letters({UNIT_KEY: "000000-a"}, letters)))
    assert held.stat().st_size < 1.4 * len(letters)
    (footer,) = read_footers(LocalFileSystem(), [(str(held), held.stat().st_size)])
    assert base64.b64decode(footer.metadata[DEAD_LETTERS_KEY]) == letters
    with pytest.raises(UnitError, match=r"000000-a: its dead letters have 48 MiB, .* lower compute.unit_bytes"):
        with_dead_letters({UNIT_KEY: "000000-a"}, letters + b"x")


DAMAGE = {
    remove_a_row: "holds 9 rows; 10 were committed",
    double_a_row: "holds 11 rows; 10 were committed",
    swap_for_another: "is the object of unit 000000-",
    delete_dead_letters_of_an_old_version: "records 2 dead letters; they are not in dead/",
    forge_the_footer: "has 9 rows and 0 dead letters; 10 rows were planned",
    cut_a_file_short: "is not a valid data object",
}


@pytest.mark.parametrize(("damage", "says"), DAMAGE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_what_was_changed_by_hand_is_no_success_and_what_is_told_to_do_puts_it_right(
    finished: Path, folder: Path, checkpoint: Path, damage: Callable[[Path], Path], says: str
) -> None:
    at, whole = damage(folder), job(finished, folder, checkpoint)
    with pytest.raises(IncompleteError, match=f"data/{at.name} {says}.*Remove these objects of data/ and run the job"):
        execute(whole)
    assert not (folder / "out/_SUCCESS").exists()
    at.unlink()
    execute(whole)
    assert (folder / "out/_SUCCESS").exists()
    assert output_bytes(folder / "out") == output_bytes(finished / "out")
    assert read_output(folder / "out").num_rows == 48


@pytest.mark.parametrize("damage", [delete_dead_letters, remove_a_dead_letter])
def test_dead_letters_that_were_lost_are_put_again(
    finished: Path, folder: Path, checkpoint: Path, damage: Callable[[Path], Path]
) -> None:
    damage(folder)
    execute(job(finished, folder, checkpoint))
    assert output_bytes(folder / "out") == output_bytes(finished / "out")


def test_a_plan_that_claims_a_million_row_groups_is_refused_before_there_is_memory_for_them(
    finished: Path, folder: Path, checkpoint: Path
) -> None:
    plan = folder / "out/_plan.parquet"
    metadata = thrift.footer(plan.read_bytes())
    metadata.get(4).claims = 900_000
    plan.write_bytes(thrift.with_footer(plan.read_bytes(), metadata))
    with pytest.raises(JobError, match=r"_plan.parquet is not as distilray wrote it .*size limit"):
        execute(job(finished, folder, checkpoint))


def test_a_plan_that_claims_more_rows_than_it_holds_is_refused_before_there_is_memory_for_them(
    finished: Path, folder: Path, checkpoint: Path
) -> None:
    plan = folder / "out/_plan.parquet"
    metadata = thrift.footer(plan.read_bytes())
    (rows,) = (field for field in metadata.get(4).items[0].fields if field[0] == 3)
    rows[2] = 2**32
    plan.write_bytes(thrift.with_footer(plan.read_bytes(), metadata))
    with pytest.raises(JobError, match=r"not as distilray wrote it .*row group 0 claims 4294967296 rows"):
        execute(job(finished, folder, checkpoint))


def test_all_that_is_wrong_is_found_at_once_and_before_anything_is_computed(
    finished: Path, folder: Path, checkpoint: Path
) -> None:
    remove_a_row(folder)
    double_a_row(folder)
    objects(folder, "data")[0].unlink()
    with pytest.raises(IncompleteError, match="2 units in .* are not as they were committed"):
        execute(job(finished, folder, checkpoint), on_start=lambda *_: pytest.fail("it was not found"))
    assert not (folder / "out/_SUCCESS").exists()


def test_dead_letters_of_attempts_that_died_are_no_part_of_the_output(
    finished: Path, folder: Path, checkpoint: Path
) -> None:
    """Whether their unit has none, or was put another number; what belongs to it stays."""
    first, *_, fourth, _ = objects(folder, "data")
    stray = objects(folder, "dead")[0]
    shutil.copy(stray, folder / "out/dead" / first.name)
    execute(job(finished, folder, checkpoint))
    assert output_bytes(folder / "out") == output_bytes(finished / "out")
    assert stray.name == fourth.name


def test_a_dead_object_of_no_unit_is_no_success_and_is_not_removed(
    finished: Path, folder: Path, checkpoint: Path
) -> None:
    theirs = write_shard(folder / "out/dead/theirs.parquet", ["x"])
    with pytest.raises(IncompleteError, match="dead holds 1 objects of no unit, such as theirs"):
        execute(job(finished, folder, checkpoint))
    assert theirs.exists()


def test_success_is_taken_back_while_a_unit_is_computed_again(finished: Path, folder: Path, checkpoint: Path) -> None:
    (folder / "out/_SUCCESS").touch()
    objects(folder, "data")[2].unlink()
    seen = []
    execute(job(finished, folder, checkpoint), on_start=lambda *_: seen.append((folder / "out/_SUCCESS").exists()))
    assert seen == [False]
    assert (folder / "out/_SUCCESS").exists()
