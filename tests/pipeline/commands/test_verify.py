"""`distilray verify`: the output of a run has no problems, and every change of it is a problem."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from distilray.pipeline import Compute, Embeddings, Job, Sink, Source, TextClassification, TokenClassification
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.run import execute
from distilray.pipeline.commands.verify import Verdict, verify
from tests.pipeline.output_files import edit, objects
from tests.support import make_checkpoint, metadata_of, random_texts, write_shard


@pytest.fixture(scope="module")
def finished(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of several tasks over five units of ten rows.

    One unit is an unreadable shard. Another has two null texts.
    """
    folder = tmp_path_factory.mktemp("verify")
    labels = make_checkpoint(folder / "labels", ("a", "b", "c"), head="sequence-classification")
    for number in range(5):
        texts = random_texts(10, number)
        with_nulls = [*texts[:4], None, *texts[5:9], None]
        write_shard(folder / f"in/day={number}/a.parquet", with_nulls if number == 3 else texts, id=list(range(10)))
    (folder / "in/day=1/a.parquet").write_text("no Parquet")
    tasks = [
        TokenClassification(model=str(checkpoint)),
        TextClassification(model=str(labels), top_k=2),
        Embeddings(model=str(checkpoint)),
    ]
    compute = Compute(engine="local", dtype="float32")
    execute(
        Job(
            source=Source(uri=str(folder / "in"), keep=["id"]),
            tasks=tasks,
            sink=Sink(uri=str(folder / "out")),
            compute=compute,
        )
    )
    return folder / "out"


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "out"))


@pytest.mark.parametrize("checksums", [True, False])
def test_the_output_of_a_run_has_no_problems(finished: Path, checksums: bool) -> None:
    verdict = verify(str(finished), checksums=checksums)
    assert verdict.problems == []
    assert (verdict.units, verdict.rows, verdict.dead_letters, verdict.planned) == (5, 38, 3, 41)
    assert verdict.bytes == sum(path.stat().st_size for part in ("data", "dead") for path in objects(finished, part))


def duplicate_a_row(table: pa.Table) -> pa.Table:
    """Return the table with one row replaced by a copy of another, so that the count stays the same."""
    return pa.concat_tables([table.slice(1), table.slice(5, 1)])


def move_a_row_to_the_next_unit(table: pa.Table) -> pa.Table:
    row = pc.if_else(pc.equal(table["row"], 9), pa.scalar(77), table["row"])
    return table.set_column(1, "row", row)


def change_the_shard(table: pa.Table) -> pa.Table:
    return table.set_column(0, "shard", pc.replace_substring(table["shard"], "day=4", "day=2"))


def change_a_type(table: pa.Table) -> pa.Table:
    return table.set_column(2, "id", table["id"].cast(pa.int32()))


def drop_a_column(table: pa.Table) -> pa.Table:
    return table.drop_columns("embedding")


EDITS = {
    duplicate_a_row: "1 rows are missing, such as 0; 1 rows occur more than once, such as 5",
    move_a_row_to_the_next_unit: "1 rows are missing, such as 9; 1 rows belong to another unit, such as 77",
    change_the_shard: "has rows of another shard than",
    change_a_type: "column 2 is pyarrow.Field<id: int32>, not pyarrow.Field<id: int64>",
    drop_a_column: "is pyarrow.Field",
    lambda table: table.slice(1): "holds 9 rows; 10 were committed",
}


@pytest.mark.parametrize(("change", "message"), EDITS.items())
def test_changed_rows_are_a_problem(out: Path, change: Callable[[pa.Table], pa.Table], message: str) -> None:
    at = objects(out, "data")[4]
    edit(at, change)
    found = verify(str(out)).problems
    assert len([problem for problem in found if not problem.startswith("_SUCCESS")]) == 1
    assert message in found[0]
    assert found[0].endswith(f"remove data/{at.name} and run the job again")


def test_a_row_that_is_both_answered_and_dead_is_a_problem(out: Path) -> None:
    at = objects(out, "dead")[1]
    edit(at, lambda table: table.set_column(1, "row", pa.array([5, 9])))
    (problem,) = verify(str(out)).problems
    assert "1 rows are missing, such as 4; 1 rows occur more than once, such as 5" in problem


def test_foreign_and_missing_objects_are_problems(out: Path) -> None:
    data, dead = objects(out, "data"), objects(out, "dead")
    shutil.copy(dead[1], out / "dead" / data[0].name)
    shutil.copy(data[0], out / "data/theirs.parquet")
    (out / "data/.draft.parquet.1234").touch()
    (out / "notes.txt").touch()
    data[2].unlink()
    dead[0].unlink()
    (out / "_SUCCESS").unlink()
    found = "\n".join(verify(str(out)).problems)
    for message in (
        f"data/{data[2].name} is missing: run the job again",
        "data/theirs.parquet belongs to no unit of the plan: remove it",
        "data/.draft.parquet.1234 is a draft of an unfinished object write",
        "notes.txt is not a file of an output",
        f"dead/{data[0].name} is an orphan",
        f"data/{data[1].name} records 1 dead letters; they are not in dead/",
        "_SUCCESS is missing",
    ):
        assert message in found
    assert len(found.splitlines()) == 7


def test_every_page_of_every_column_has_a_checksum(out: Path) -> None:
    """The test flips one bit within floating point numbers. They still decode without the checksum."""
    at = objects(out, "data")[2]
    chunk = next(
        column
        for i in range(pq.read_metadata(at).num_columns)
        if (column := pq.read_metadata(at).row_group(0).column(i)).path_in_schema.startswith("embedding")
    )
    start = (chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size - 20
    data = bytearray(at.read_bytes())
    data[start] ^= 1
    at.write_bytes(data)
    (problem,) = verify(str(out)).problems
    assert problem.startswith(f"data/{at.name} cannot be read: ")
    assert "CRC" in problem
    assert verify(str(out), checksums=False).ok


def test_a_manifest_with_other_sums_is_a_problem(out: Path) -> None:
    manifest = json.loads((out / "_manifest.json").read_text())
    (out / "_manifest.json").write_text(json.dumps({**manifest, "tokens": 1, "dead": {}}))
    assert "has other sums than the objects: tokens, dead;" in verify(str(out)).problems[0]
    (out / "_manifest.json").write_text("[]")
    assert "_manifest.json is missing or malformed" in verify(str(out)).problems[0]
    (out / "_manifest.json").unlink()
    assert "_manifest.json is missing or malformed" in verify(str(out)).problems[0]


def test_the_number_of_shown_problems_is_limited_and_all_are_counted(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[Verdict.__module__], "SHOWN", 2)
    for at in objects(out, "data"):
        at.unlink()
    verdict = verify(str(out))
    assert len(verdict.problems) == 2
    assert verdict.more == 4


def test_the_exit_code_tells_whether_there_are_problems(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(out)]) == 0
    assert "38 answered, 3 dead letters" in capsys.readouterr().out
    assert main(["verify", str(out), "--quick", "--json"]) == 0
    verdict = json.loads(capsys.readouterr().out)
    assert (verdict["ok"], verdict["checksums"], verdict["problems"]) == (True, False, [])
    objects(out, "data")[0].unlink()
    assert main(["verify", str(out)]) == 1
    assert "is missing" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert "not an output of distilray" in capsys.readouterr().err
    assert main(["verify", str(out), "--set", "source.uri=x"]) == 2
    assert "--set source.uri: only keys of sink.storage_options can be set here" in capsys.readouterr().err


def test_verify_accepts_the_output_of_an_older_version(out: Path) -> None:
    """Such a plan has no job and no schema. The footers have no names and no digests, the pages no checksums."""
    plan = pq.read_table(out / "_plan.parquet")
    about = json.loads(plan.schema.metadata[b"distilray.plan"])
    older = {name: value for name, value in about.items() if name not in ("job", "schema")}
    pq.write_table(plan.replace_schema_metadata({"distilray.plan": json.dumps(older)}), out / "_plan.parquet")
    for at in [*objects(out, "data"), *objects(out, "dead")]:
        table = pq.read_table(at)
        stats = json.loads(metadata_of(at)[b"distilray.stats"])
        del stats["parity"]
        pq.write_table(table.replace_schema_metadata({"distilray.stats": json.dumps(stats)}), at)
    assert verify(str(out)).problems == []
    edit(objects(out, "data")[3], change_a_type)
    assert "does not have the planned schema" in verify(str(out)).problems[0]
