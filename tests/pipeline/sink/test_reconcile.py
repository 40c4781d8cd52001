"""The check of counts at the end of a run: a changed output prevents success."""

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
from tests.pipeline.output_files import edit, objects
from tests.support import metadata_of, output_bytes, random_texts, read_output, write_shard


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus of five units of ten rows, and the output in `out`. Unit 3 has two dead letters."""
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
    """A copy of the output without `_SUCCESS`."""
    shutil.copytree(finished / "out", tmp_path / "out")
    (tmp_path / "out/_SUCCESS").unlink()
    return tmp_path


def remove_a_row(folder: Path) -> Path:
    edit(objects(folder / "out", "data")[1], lambda table: table.slice(1))
    return objects(folder / "out", "data")[1]


def double_a_row(folder: Path) -> Path:
    edit(objects(folder / "out", "data")[2], lambda table: pa.concat_tables([table, table.slice(3, 1)]))
    return objects(folder / "out", "data")[2]


def swap_for_another(folder: Path) -> Path:
    shutil.copy(objects(folder / "out", "data")[0], objects(folder / "out", "data")[1])
    return objects(folder / "out", "data")[1]


def delete_dead_letters(folder: Path) -> Path:
    objects(folder / "out", "dead")[0].unlink()
    return objects(folder / "out", "data")[3]


def remove_a_dead_letter(folder: Path) -> Path:
    edit(objects(folder / "out", "dead")[0], lambda table: table.slice(1))
    return objects(folder / "out", "data")[3]


def delete_dead_letters_of_an_old_version(folder: Path) -> Path:
    """Delete the dead letters, and their copy in the data object, which version 0.4 introduced."""
    delete_dead_letters(folder)
    path = objects(folder / "out", "data")[3]
    about = {key: value for key, value in metadata_of(path).items() if key != DEAD_LETTERS_KEY}
    path.write_bytes(encode_parquet(pq.read_table(path), about))
    return path


def forge_the_footer(folder: Path) -> Path:
    path = objects(folder / "out", "data")[0]
    stats = json.loads(metadata_of(path)[STATS_KEY])
    stats["rows"] = 9
    path.write_bytes(encode_parquet(pq.read_table(path).slice(1), {**metadata_of(path), STATS_KEY: json.dumps(stats)}))
    return path


def cut_a_file_short(folder: Path) -> Path:
    path = objects(folder / "out", "data")[0]
    path.write_bytes(path.read_bytes()[:-100])
    return path


def test_a_footer_with_the_most_dead_letters_is_small_and_readable(tmp_path: Path) -> None:
    letters = random.Random(1).randbytes(DEAD_LETTERS_BYTES)
    path = tmp_path / "unit.parquet"
    path.write_bytes(encode_parquet(pa.table({"row": [1]}), with_dead_letters({UNIT_KEY: "000000-a"}, letters)))
    assert path.stat().st_size < 1.4 * len(letters)
    (footer,) = read_footers(LocalFileSystem(), [(str(path), path.stat().st_size)])
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


@pytest.mark.parametrize(("damage", "message"), DAMAGE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_changed_object_prevents_success_until_it_is_removed(
    finished: Path, folder: Path, checkpoint: Path, damage: Callable[[Path], Path], message: str
) -> None:
    at, whole = damage(folder), job(finished, folder, checkpoint)
    with pytest.raises(
        IncompleteError, match=f"data/{at.name} {message}.*Remove these objects of data/ and run the job"
    ):
        execute(whole)
    assert not (folder / "out/_SUCCESS").exists()
    at.unlink()
    execute(whole)
    assert (folder / "out/_SUCCESS").exists()
    assert output_bytes(folder / "out") == output_bytes(finished / "out")
    assert read_output(folder / "out").num_rows == 48


@pytest.mark.parametrize("damage", [delete_dead_letters, remove_a_dead_letter])
def test_a_run_restores_lost_dead_letters(
    finished: Path, folder: Path, checkpoint: Path, damage: Callable[[Path], Path]
) -> None:
    damage(folder)
    execute(job(finished, folder, checkpoint))
    assert output_bytes(folder / "out") == output_bytes(finished / "out")


def test_a_plan_that_claims_a_million_row_groups_is_an_error_before_allocation(
    finished: Path, folder: Path, checkpoint: Path
) -> None:
    plan = folder / "out/_plan.parquet"
    metadata = thrift.footer(plan.read_bytes())
    metadata.get(4).stated_count = 900_000
    plan.write_bytes(thrift.with_footer(plan.read_bytes(), metadata))
    with pytest.raises(JobError, match=r"_plan.parquet is not as distilray wrote it .*size limit"):
        execute(job(finished, folder, checkpoint))


def test_a_plan_that_claims_too_many_rows_is_an_error_before_allocation(
    finished: Path, folder: Path, checkpoint: Path
) -> None:
    plan = folder / "out/_plan.parquet"
    metadata = thrift.footer(plan.read_bytes())
    (rows,) = (field for field in metadata.get(4).items[0].fields if field[0] == 3)
    rows[2] = 2**32
    plan.write_bytes(thrift.with_footer(plan.read_bytes(), metadata))
    with pytest.raises(JobError, match=r"not as distilray wrote it .*row group 0 claims 4294967296 rows"):
        execute(job(finished, folder, checkpoint))


def test_all_changed_objects_are_reported_before_any_computation(
    finished: Path, folder: Path, checkpoint: Path
) -> None:
    remove_a_row(folder)
    double_a_row(folder)
    objects(folder / "out", "data")[0].unlink()
    with pytest.raises(IncompleteError, match="2 units in .* are not as they were committed"):
        execute(job(finished, folder, checkpoint), on_start=lambda *_: pytest.fail("it was not found"))
    assert not (folder / "out/_SUCCESS").exists()


def test_dead_letters_of_interrupted_attempts_are_removed(finished: Path, folder: Path, checkpoint: Path) -> None:
    """A unit without dead letters has a stray object. The dead letters of another unit remain."""
    first, *_, fourth, _ = objects(folder / "out", "data")
    stray = objects(folder / "out", "dead")[0]
    shutil.copy(stray, folder / "out/dead" / first.name)
    execute(job(finished, folder, checkpoint))
    assert output_bytes(folder / "out") == output_bytes(finished / "out")
    assert stray.name == fourth.name


def test_a_dead_letter_object_of_no_unit_prevents_success_and_remains(
    finished: Path, folder: Path, checkpoint: Path
) -> None:
    foreign = write_shard(folder / "out/dead/theirs.parquet", ["x"])
    with pytest.raises(
        IncompleteError, match="dead holds 1 objects that belong to no unit of the plan, such as theirs"
    ):
        execute(job(finished, folder, checkpoint))
    assert foreign.exists()


def test_success_is_removed_while_a_unit_is_computed_again(finished: Path, folder: Path, checkpoint: Path) -> None:
    (folder / "out/_SUCCESS").touch()
    objects(folder / "out", "data")[2].unlink()
    seen = []
    execute(job(finished, folder, checkpoint), on_start=lambda *_: seen.append((folder / "out/_SUCCESS").exists()))
    assert seen == [False]
    assert (folder / "out/_SUCCESS").exists()
