"""Whole jobs on the local engine: the answer or the dead letter of every row."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distilray.pipeline import Compute, Job, JobError, Sink, Source, TaskError, TokenClassification
from distilray.pipeline.commands.run import execute
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.planning.plan import cut
from tests.fuzz import thrift
from tests.support import local_job, random_texts, read_output, write_shard


def dead_letters(out: Path) -> dict[tuple[str, int | None], str]:
    """Return the reason of each dead letter by the file name of its shard and its row."""
    rows = read_output(out, "dead").to_pylist()
    return {(Path(row["shard"]).name, row["row"]): row["reason"] for row in rows}


def test_every_row_is_answered_with_its_address_and_kept_columns(checkpoint: Path, tmp_path: Path) -> None:
    for name, count in (("a", 130), ("b", 20)):
        ids = [f"{name}{i}" for i in range(count)]
        write_shard(tmp_path / f"corpus/year=2024/{name}.parquet", random_texts(count, 1), row_group_size=30, id=ids)
    result = execute(local_job(tmp_path / "corpus", checkpoint, tmp_path / "out", keep=["id"]))
    table = read_output(tmp_path / "out")
    assert table.column_names == ["shard", "row", "id", "year", "entities"]
    assert table["id"].to_pylist() == [*(f"a{i}" for i in range(130)), *(f"b{i}" for i in range(20))]
    assert table["row"].to_pylist() == [*range(130), *range(20)]
    assert set(table["year"].to_pylist()) == {2024}
    assert (tmp_path / "out/_SUCCESS").exists()
    assert result.manifest["rows"] == 150
    assert result.manifest["units"] == len(list((tmp_path / "out/data").iterdir())) > 2


def test_the_size_of_units_does_not_change_an_answer(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", random_texts(120, 2), row_group_size=50)
    answers = []
    for unit_bytes in (1000, 10**9):
        job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / f"out{unit_bytes}")
        execute(job.model_copy(update={"compute": job.compute.model_copy(update={"unit_bytes": unit_bytes})}))
        answers.append(read_output(tmp_path / f"out{unit_bytes}").to_pylist())
    small, large = answers
    for one, other in zip(small, large, strict=True):
        assert [e["text"] for e in one["entities"]] == [e["text"] for e in other["entities"]]
        assert [e["score"] for e in one["entities"]] == pytest.approx([e["score"] for e in other["entities"]], abs=2e-5)


def test_bad_rows_become_dead_letters_and_good_rows_are_answered(checkpoint: Path, tmp_path: Path) -> None:
    texts = [b"President Lincoln", None, b"", b"  \n\t ", b"caf\xc3\xa9 in Paris", b"\xff\xfe broken", b"bad tail \xc3"]
    write_shard(tmp_path / "bad.parquet", pa.array(texts, pa.binary()), row_group_size=3)
    result = execute(local_job(tmp_path / "bad.parquet", checkpoint, tmp_path / "out"))
    assert dead_letters(tmp_path / "out") == {
        ("bad.parquet", 1): "null_text",
        ("bad.parquet", 5): "invalid_utf8",
        ("bad.parquet", 6): "invalid_utf8",
    }
    table = read_output(tmp_path / "out")
    assert table["row"].to_pylist() == [0, 2, 3, 4]
    assert table["entities"].to_pylist()[1:3] == [[], []]
    assert result.manifest["dead"] == {"invalid_utf8": 2, "null_text": 1}
    assert result.manifest["rows"] + 3 == 7


def test_invalid_utf8_in_a_string_column_becomes_a_dead_letter(checkpoint: Path, tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xff\xff"], pa.binary())
    lying = pa.StringArray.from_buffers(2, raw.buffers()[1], raw.buffers()[2])
    write_shard(tmp_path / "lie.parquet", lying)
    execute(local_job(tmp_path / "lie.parquet", checkpoint, tmp_path / "out"))
    assert dead_letters(tmp_path / "out") == {("lie.parquet", 1): "invalid_utf8"}


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.binary(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())]
)
def test_every_type_of_text_column_gives_the_same_answers(checkpoint: Path, tmp_path: Path, kind: pa.DataType) -> None:
    texts = pa.array(random_texts(20, 3))
    write_shard(tmp_path / "plain.parquet", texts)
    write_shard(
        tmp_path / "other.parquet", texts.dictionary_encode() if pa.types.is_dictionary(kind) else texts.cast(kind)
    )
    answers = []
    for name in ("plain", "other"):
        execute(local_job(tmp_path / f"{name}.parquet", checkpoint, tmp_path / name))
        answers.append(read_output(tmp_path / name)["entities"].to_pylist())
    assert answers[0] == answers[1]


def test_bad_shards_do_not_affect_good_ones(checkpoint: Path, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    texts = random_texts(40, 4)
    good = write_shard(corpus / "b_good.parquet", texts, row_group_size=10, id=list(range(40)))
    whole = good.read_bytes()
    (corpus / "a_empty.parquet").write_bytes(b"")
    (corpus / "c_truncated.parquet").write_bytes(whole[: len(whole) // 2])
    (corpus / "d_words.parquet").write_text("this is no Parquet file, whatever its name says")
    write_shard(corpus / "e_no_id.parquet", texts)
    pq.write_table(pa.table({"text": [1, 2], "id": [1, 2]}), corpus / "f_numbers.parquet")
    pq.write_table(pa.table({"text": ["x"], "id": [[1]]}), corpus / "g_list.parquet")
    (corpus / "_SUCCESS").write_bytes(b"")
    (corpus / "notes.txt").write_text("not a shard")
    execute(local_job(corpus, checkpoint, tmp_path / "out", keep=["id"]))
    assert dead_letters(tmp_path / "out") == {
        ("a_empty.parquet", None): "unreadable_shard",
        ("c_truncated.parquet", None): "unreadable_shard",
        ("d_words.parquet", None): "unreadable_shard",
        ("e_no_id.parquet", None): "schema_mismatch",
        ("f_numbers.parquet", None): "schema_mismatch",
        ("g_list.parquet", None): "schema_mismatch",
    }
    assert read_output(tmp_path / "out")["row"].to_pylist() == list(range(40))
    messages = [row["message"] for row in read_output(tmp_path / "out", "dead").to_pylist()]
    assert any("column id is missing" in message for message in messages)


def test_a_broken_page_rejects_only_its_row_group(checkpoint: Path, tmp_path: Path) -> None:
    path = write_shard(tmp_path / "page.parquet", random_texts(40, 5), row_group_size=10)
    chunk = pq.read_metadata(path).row_group(2).column(0)
    data = bytearray(path.read_bytes())
    first = chunk.dictionary_page_offset or chunk.data_page_offset
    data[first : first + chunk.total_compressed_size] = b"\x00" * chunk.total_compressed_size
    path.write_bytes(data)
    execute(local_job(path, checkpoint, tmp_path / "out"))
    assert dead_letters(tmp_path / "out") == {("page.parquet", row): "unreadable_row_group" for row in range(20, 30)}
    assert read_output(tmp_path / "out")["row"].to_pylist() == [*range(20), *range(30, 40)]


def test_a_column_chunk_that_claims_no_rows_rejects_only_its_row_group(checkpoint: Path, tmp_path: Path) -> None:
    """Arrow reads no row of a column chunk without metadata, and raises no error."""
    path = write_shard(tmp_path / "chunk.parquet", random_texts(30, 5), row_group_size=10)
    data = path.read_bytes()
    metadata = thrift.footer(data)
    chunk = metadata.get(4).items[1].get(1).items[0]
    chunk.fields[:] = [field for field in chunk.fields if field[0] != 3]
    path.write_bytes(thrift.with_footer(data, metadata))
    execute(local_job(path, checkpoint, tmp_path / "out"))
    assert dead_letters(tmp_path / "out") == {("chunk.parquet", row): "unreadable_row_group" for row in range(10, 20)}
    assert read_output(tmp_path / "out").num_rows == 20


def test_an_empty_shard_gives_an_empty_output(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus/none.parquet", pa.array([], pa.string()))
    write_shard(tmp_path / "corpus/some.parquet", ["Lincoln"])
    assert execute(local_job(tmp_path / "corpus", checkpoint, tmp_path / "out")).manifest["rows"] == 1


def test_errors_are_raised_before_any_work(checkpoint: Path, tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "corpus/a.parquet", ["x"])
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    cases = {
        "no .parquet files": local_job(tmp_path / "empty", checkpoint, out),
        "no such file, folder or bucket": local_job(tmp_path / "nowhere", checkpoint, out),
        f"{shard}: column body is missing; the shard has text": local_job(
            tmp_path / "corpus", checkpoint, out, text="body"
        ),
        "column url is missing": local_job(tmp_path / "corpus", checkpoint, out, keep=["url"]),
        "is listed twice": Job(
            source=Source(uri=[str(shard), str(tmp_path / "corpus")]),
            tasks=[TokenClassification(model=str(checkpoint))],
            sink=Sink(uri=str(out)),
            compute=Compute(engine="local"),
        ),
    }
    for message, job in cases.items():
        with pytest.raises(JobError, match=message.replace("(", r"\(")):
            execute(job)
    assert not out.exists()


def test_a_wrong_path_is_an_error_before_a_cluster_starts(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("distilray.pipeline.planning.compute_target.import_ray_engine", start)
    job = local_job(tmp_path / "nowhere", checkpoint, tmp_path / "out").model_copy(update={"compute": Compute()})
    with pytest.raises(JobError, match="no such file, folder or bucket"):
        execute(job)


def test_no_padding_is_computed(checkpoint: Path, tmp_path: Path) -> None:
    texts = [*random_texts(50, 10), "", "lincoln " * 3000]
    write_shard(tmp_path / "corpus.parquet", texts)
    manifest = execute(local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")).manifest
    assert manifest["padding"] == 0
    assert manifest["computed_tokens"] == manifest["window_tokens"] > manifest["tokens"] > 3000


def test_the_manifest_holds_no_secret(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", ["x"])
    job = local_job(
        tmp_path / "corpus.parquet", checkpoint, tmp_path / "out", storage_options={"auto_mkdir": "hunter2"}
    )
    execute(job)
    contents = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()] + [repr(job).encode()]
    assert not any(b"hunter2" in data for data in contents)
    manifest = json.loads((tmp_path / "out/_manifest.json").read_text())
    assert {"fingerprint", "job", "versions", "rows", "tokens", "dead", "labels", "units"} <= manifest.keys()


def test_only_entities_above_the_threshold_are_written(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", random_texts(60, 6))
    job = local_job(tmp_path / "corpus.parquet", checkpoint, tmp_path / "out")
    strict = job.tasks[0].model_copy(update={"threshold": 0.6, "thresholds": {"PER": 0.9}})
    execute(job.model_copy(update={"tasks": [strict]}))
    found = [entity for row in read_output(tmp_path / "out")["entities"].to_pylist() for entity in row]
    assert found
    assert all(entity["score"] >= (0.9 if entity["label"] == "PER" else 0.6) for entity in found)
    wrong = job.tasks[0].model_copy(update={"thresholds": {"PERSON": 0.5}})
    with pytest.raises(TaskError, match="no label PERSON; it has LOC, ORG, PER"):
        execute(job.model_copy(update={"tasks": [wrong], "sink": Sink(uri=str(tmp_path / "out2"))}))


def test_kept_columns_of_every_type_are_copied(checkpoint: Path, tmp_path: Path) -> None:
    columns = {
        "when": pa.array([1, 2, None], pa.timestamp("us", "UTC")),
        "price": pa.array(["1.50", None, "2.25"]).cast(pa.decimal128(9, 2)),
        "tags": pa.array([["a", "b"], [], None]),
        "meta": pa.array([{"x": 1}, None, {"x": 3}]),
        "kind": pa.array(["u", "v", None]).dictionary_encode(),
        "a.b": pa.array([1.5, None, 2.5]),
        "raw": pa.array([b"\xff", None, b"\x00"]),
    }
    texts = pa.array(["Lincoln", "Paris", "x"])
    pq.write_table(pa.table({"the.text": texts, **columns}), tmp_path / "all.parquet", row_group_size=2)
    run = local_job(
        tmp_path / "all.parquet", checkpoint, tmp_path / "out", text="the.text", keep=[*columns, "the.text"]
    )
    execute(run)
    table = read_output(tmp_path / "out")
    assert table["the.text"].to_pylist() == texts.to_pylist()
    for name, column in columns.items():
        assert table[name].to_pylist() == column.to_pylist(), name


@pytest.mark.parametrize("name", ["with space", "per%cent", "hash#tag", "quest?ion", "\u00fcml\u00e4ut", "plus+and&"])
def test_files_and_folders_may_have_unusual_names(checkpoint: Path, tmp_path: Path, name: str) -> None:
    write_shard(tmp_path / name / f"{name}.parquet", ["Lincoln"])
    out = tmp_path / f"{name} out"
    assert execute(local_job(tmp_path / name, checkpoint, out)).manifest["rows"] == 1
    assert read_output(out)["shard"].to_pylist() == [str(tmp_path / name / f"{name}.parquet")]


def test_a_bad_kept_value_rejects_only_its_row(checkpoint: Path, tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"\xff\xff", None], pa.binary())
    lying = pa.StringArray.from_buffers(3, raw.buffers()[1], raw.buffers()[2], raw.buffers()[0])
    write_shard(tmp_path / "kept.parquet", ["Lincoln", "Paris", "x"], id=lying)
    execute(local_job(tmp_path / "kept.parquet", checkpoint, tmp_path / "out", keep=["id"]))
    assert dead_letters(tmp_path / "out") == {("kept.parquet", 1): "invalid_utf8"}
    assert read_output(tmp_path / "out")["id"].to_pylist() == ["fine", None]


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (pa.array([1], pa.int32()), pa.array([2**40]), [1, 2**40]),
        (pa.array([0.5], pa.float32()), pa.array([0.1]), [0.5, 0.1]),
        (pa.nulls(1), pa.array(["later"]), [None, "later"]),
        (pa.array([{"a": 1}]), pa.array([{"a": 2, "b": 3}]), [{"a": 1, "b": None}, {"a": 2, "b": 3}]),
        (pa.array([True]), pa.array([5]), None),
        (pa.array([1]), pa.array(["007"]), None),
        (pa.array([1]), pa.array([0.5]), None),
        (pa.array([1]).cast(pa.timestamp("s")), pa.array([1]).cast(pa.timestamp("s", "UTC")), None),
    ],
)
def test_different_types_are_widened_without_loss_or_their_shard_is_rejected(
    checkpoint: Path, tmp_path: Path, first: pa.Array, second: pa.Array, kept: list[object] | None
) -> None:
    write_shard(tmp_path / "in/a.parquet", ["Lincoln"], id=first)
    write_shard(tmp_path / "in/b.parquet", ["Paris"], id=second)
    execute(local_job(tmp_path / "in", checkpoint, tmp_path / "out", keep=["id"]))
    if kept is None:
        assert dead_letters(tmp_path / "out") == {("b.parquet", None): "schema_mismatch"}
        assert read_output(tmp_path / "out")["id"].to_pylist() == first.to_pylist()
    else:
        assert read_output(tmp_path / "out")["id"].to_pylist() == kept


def test_one_odd_shard_does_not_reject_the_others(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "in/a.parquet", ["odd"], id=["text"])
    for name in "bc":
        write_shard(tmp_path / f"in/{name}.parquet", ["Lincoln"], id=[1])
    execute(local_job(tmp_path / "in", checkpoint, tmp_path / "out", keep=["id"]))
    assert dead_letters(tmp_path / "out") == {("a.parquet", None): "schema_mismatch"}


def test_a_shard_of_nulls_has_a_dead_letter_for_each_row(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "in/a.parquet", pa.nulls(3))
    write_shard(tmp_path / "in/b.parquet", ["Lincoln"])
    execute(local_job(tmp_path / "in", checkpoint, tmp_path / "out"))
    assert dead_letters(tmp_path / "out") == {("a.parquet", row): "null_text" for row in range(3)}


def test_dictionary_encoded_texts_are_cut_into_units_by_rows(checkpoint: Path, tmp_path: Path) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 150_000, pa.int32()), pa.array(["a"]))
    shard = write_shard(tmp_path / "d.parquet", texts, row_group_size=150_000)
    units = cut(survey(Source(uri=str(shard)), pa.schema([])), 10**9).units
    assert [unit.rows for unit in units] == [50_000] * 3


def test_hive_keys_with_names_of_output_columns_are_an_error(checkpoint: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "in/entities=1/row=2/a.parquet", ["x"])
    with pytest.raises(JobError, match="hive keys with the names of output columns: entities, row"):
        execute(local_job(tmp_path / "in", checkpoint, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_duplicate_column_rejects_its_shard(checkpoint: Path, tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["text", "text"])
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in/a.parquet")
    write_shard(tmp_path / "in/b.parquet", ["Lincoln"])
    execute(local_job(tmp_path / "in", checkpoint, tmp_path / "out"))
    assert dead_letters(tmp_path / "out") == {("a.parquet", None): "schema_mismatch"}
