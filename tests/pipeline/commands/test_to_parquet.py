"""Conversion of other formats to Parquet: each row keeps its number, no type is guessed, and a bad line is an error."""

import bz2
import gzip
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from rich.console import Console

from distilray.model.errors import StoreError
from distilray.model.storage import store
from distilray.operators.objects.stats import Stats
from distilray.pipeline import Compute, Converted, Job, JobError, Sink, Source, TokenClassification, run, to_parquet
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.retry import Retried
from distilray.pipeline.corpus import file_formats as formats
from distilray.pipeline.terminal.summary import summary
from distilray.pipeline.terminal.tables import retried_table
from tests.support import read_output

ROWS = [{"text": f"Lincoln met Mary {i} \u00e9", "year": 1800 + i} for i in range(5)]


def lines(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def converted(folder: Path, *columns: str, kind: str | None = None) -> Converted:
    return to_parquet(Source(uri=str(folder / "in")), Sink(uri=str(folder / "out")), columns, kind)


def write(folder: Path, **files: bytes) -> Path:
    for name, data in files.items():
        path = folder / "in" / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def shards(folder: Path) -> dict[str, list[dict]]:
    found = sorted((folder / "out").rglob("*"))
    return {str(path.relative_to(folder / "out")): pq.read_table(path).to_pylist() for path in found if path.is_file()}


def ipc(rows: list[dict] | pa.Table, *, stream: bool) -> bytes:
    table, sink = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), pa.BufferOutputStream()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return sink.getvalue().to_pybytes()


CSV = (
    b'year,x,text,x\n1800,,"two\nlines, ""quoted""",\n,,NA,\n1802,,,\n'  # columns that are not selected may occur twice
)
_END_OF_STREAM = 8  # bytes
CASES = {
    "jsonl": (lines([*ROWS, {"year": 1}, {"text": None}, {"text": "", "other": 1}]), ["text", "year:int64"]),
    "csv": (CSV, ["text", "year:int64"]),
    "text": ("one\r\n\ntwo \u00e9\n\rlast".encode(), []),
    "arrow": (ipc(ROWS, stream=False), []),
    "stream": (ipc(ROWS, stream=True), []),
}
EXPECTED = {
    "jsonl": [
        *ROWS,
        {"text": None, "year": 1},
        {"text": None, "year": None},
        {"text": "", "year": None},
    ],
    "csv": [
        {"text": 'two\nlines, "quoted"', "year": 1800},
        {"text": "NA", "year": None},
        {"text": "", "year": 1802},
    ],
    "text": [{"text": text} for text in ("one", "", "two \u00e9", "\rlast")],
    "arrow": ROWS,
    "stream": ROWS,
}
ENDING = {"jsonl": "jsonl", "csv": "csv", "text": "txt", "arrow": "arrow", "stream": "arrows"}


@pytest.mark.parametrize("kind", CASES)
def test_every_row_keeps_its_number(kind: str, tmp_path: Path) -> None:
    data, columns = CASES[kind]
    name = f"year=1800__a_{ENDING[kind]}"
    write(tmp_path, **{name: data})
    assert converted(tmp_path, *columns) == Converted(1, len(EXPECTED[kind]), 1)
    assert shards(tmp_path) == {f"year=1800/a.{ENDING[kind]}.parquet": EXPECTED[kind]}


def test_rows_may_cross_the_borders_of_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_BLOCK", 64)
    monkeypatch.setattr(formats, "_PIECE", 3)
    texts = [f"{i:03}\n" + "x" * (i % 7) for i in range(100)]
    rows = [{"text": text} for text in texts]
    files = {
        "csv": b"text\n" + "".join(f'"{text}"\n' for text in texts).encode(),
        "jsonl": lines(rows),
        "txt": "".join(f"{text.replace(chr(10), chr(13))}\r\n" for text in texts).encode(),
    }
    expected = {"csv": rows, "jsonl": rows, "txt": [{"text": text.replace("\n", "\r")} for text in texts]}
    for kind, data in files.items():
        write(tmp_path / kind, **{f"a_{kind}": data})
        converted(tmp_path / kind, *([] if kind == "txt" else ["text"]))
        assert shards(tmp_path / kind) == {f"a.{kind}.parquet": expected[kind]}


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("zst", None)])
def test_compressed_files_are_converted(ending: str, pack: object, tmp_path: Path) -> None:
    pack = pack or (lambda data: pa.compress(data, "zstd", asbytes=True))
    two = pack(lines(ROWS[:2])) + pack(lines(ROWS[2:])) if ending == "gz" else pack(lines(ROWS))
    write(tmp_path, **{f"a_jsonl_{ending}": two})
    assert converted(tmp_path, "text", "year:int64").rows == 5
    assert shards(tmp_path) == {f"a.jsonl.{ending}.parquet": ROWS}
    write(tmp_path / "cut", **{f"a_txt_{ending}": pack(os.urandom(50_000))[:-20]})
    with pytest.raises(JobError, match=rf"a.txt.{ending}: after row \d+: "):
        converted(tmp_path / "cut")
    assert not shards(tmp_path / "cut")


BAD = {
    "jsonl": {
        "no JSON": b'{"text": "a"}\nnot json\n',
        "a number for a text": b'{"text": "a"}\n{"text": 5}\n',
        "a text for a number": b'{"text": "a", "year": "1"}\n',
        "a key twice": b'{"text": "a", "text": "b"}\n',
        "no object": b'["a"]\n',
        "cut": b'{"text": "a"}\n{"text": "b',
    },
    "csv": {
        "a field too few": b"text,year\na,1\nb\n",
        "a field too many": b"text,year\na,1\nb,2,3\n",
        "no number": b"text,year\na,x\n",
        "no such column": b"body,year\na,1\n",
        "a column twice": b"text,year,text\na,1,b\n",
        "nothing": b"",
    },
    "arrow": {
        "no Arrow": b"text",
        "cut": ipc(ROWS, stream=True)[:-300],
        "cut between batches": ipc(ROWS[:2], stream=True)[:-_END_OF_STREAM],
        "two streams": ipc(ROWS, stream=True) * 2,
        "a column twice": ipc(pa.table([["a"], ["b"]], ["text", "text"]), stream=False),
        "nothing": b"",
    },
}


@pytest.mark.parametrize(("kind", "fault"), [(kind, fault) for kind, faults in BAD.items() for fault in faults])
def test_a_bad_line_is_an_error_and_writes_no_shard(kind: str, fault: str, tmp_path: Path) -> None:
    write(tmp_path, **{f"bad_{ENDING[kind]}": BAD[kind][fault]})
    with pytest.raises(JobError, match=rf"in/bad.{ENDING[kind]}: after row \d+: "):
        converted(tmp_path, *CASES[kind][1])
    assert not shards(tmp_path)
    assert not list((tmp_path / "out").iterdir())  # not even a draft


def test_a_text_of_invalid_utf8_becomes_a_dead_letter_of_the_run(checkpoint: Path, tmp_path: Path) -> None:
    write(tmp_path, a_jsonl=b'{"text": "good"}\n{"text": "\xff"}\n{}\n', b_jsonl=b"")
    assert converted(tmp_path, "text") == Converted(2, 3, 2)
    tasks = [TokenClassification(model=str(checkpoint))]
    run(
        Job(
            source=Source(uri=str(tmp_path / "out")),
            tasks=tasks,
            sink=Sink(uri=str(tmp_path / "answers")),
            compute=Compute(engine="local"),
        ),
        quiet=True,
    )
    dead = read_output(tmp_path / "answers", "dead")
    assert dead["row"].to_pylist() == [1, 2]
    assert dead["reason"].to_pylist() == ["invalid_utf8", "null_text"]
    for name in ("b_txt", "c_csv"):
        other = tmp_path / name
        write(other, **{name: b"text\n\xff\n"})
        converted(other, *(["text"] if name == "c_csv" else []))
        assert pq.read_table(other / "out")["text"].cast(pa.binary()).to_pylist()[-1] == b"\xff"


def test_existing_shards_are_kept_and_missing_ones_are_converted(tmp_path: Path) -> None:
    write(tmp_path, a_txt=b"one\n", b_txt=b"two\n")
    assert converted(tmp_path) == Converted(2, 2, 2)
    before = (tmp_path / "out/a.txt.parquet").stat()
    write(tmp_path, c_txt=b"three\nfour\n")
    assert converted(tmp_path) == Converted(3, 4, 1)
    assert (tmp_path / "out/a.txt.parquet").stat() == before
    write(tmp_path, a_txt=b"changed\n")
    with pytest.raises(JobError, match="a.txt.parquet was made from .*'version': '4'.*expected .*'8'"):
        converted(tmp_path)
    (tmp_path / "out/x.parquet").write_bytes(b"another's")
    with pytest.raises(JobError, match="x.parquet was not made by distilray to-parquet"):
        converted(tmp_path)


def test_row_groups_have_the_size_of_units(tmp_path: Path) -> None:
    write(tmp_path, a_txt=b"x\n" * 150_000)
    assert converted(tmp_path).rows == 150_000
    file = pq.ParquetFile(tmp_path / "out/a.txt.parquet").metadata
    assert [file.row_group(i).num_rows for i in range(file.num_row_groups)] == [65536, 65536, 18928]


@pytest.mark.parametrize(
    ("files", "columns", "kind", "message"),
    [
        ({"a_jsonl": b""}, [], None, "jsonl: expected the columns to convert, such as --columns text"),
        ({"a_txt": b""}, ["text"], None, "text: expected no columns, because the files declare them, got text"),
        (
            {"a_txt": b"", "b_csv": b""},
            [],
            None,
            "expected files of one format, got .*a.txt, .*b.csv: set the format to one of jsonl, csv",
        ),
        ({"a_xml": b""}, [], None, "no files that end in .jsonl, .ndjson, .csv, .txt, .arrow"),
        ({"a_txt": b""}, [], "arrow", "no files that end in .arrow, .arrows, .feather in"),
        ({"a_txt": b""}, [], "xml", "expected one of the formats jsonl, csv, text, arrow, got xml"),
        ({"a_jsonl": b""}, ["year:number"], None, "expected NAME or NAME:TYPE, such as year:int64, got year:number"),
        ({"a_jsonl": b""}, ["a", "a:int64"], None, "expected names that differ, got a, a"),
        ({"a_csv": b"a;b\n1;2\n"}, ["a"], None, "column a is missing; the header has a;b .commas separate columns"),
        ({"a_jsonl": lines(ROWS)}, ["text", "txet"], None, "column txet has no value in any of 5 rows"),
    ],
)
def test_ambiguous_input_is_an_error(
    files: dict, columns: list[str], kind: str | None, message: str, tmp_path: Path
) -> None:
    write(tmp_path, **files)
    with pytest.raises(JobError, match=message):
        converted(tmp_path, *columns, kind=kind)


def test_the_command_converts_a_file_of_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": "a", "endings": ["b", "c"]}]
    write(tmp_path, corpus_json=lines(rows))
    source, out = str(tmp_path / "in/corpus.json"), str(tmp_path / "out")
    assert main(["to-parquet", source, out]) == 2
    assert "expected files of one format" in capsys.readouterr().err
    command = ["to-parquet", source, out, "--format", "jsonl", "--columns", "text", "endings:list<string>"]
    assert main(command) == 0
    assert "1 shards, 1 rows" in capsys.readouterr().out
    assert shards(tmp_path) == {"corpus.json.parquet": rows}
    assert main([*command, "--set", "sink.uri=x"]) == 2
    assert main(["to-parquet", str(tmp_path / "in/*.js*"), str(tmp_path / "glob"), *command[3:]]) == 0
    assert (tmp_path / "glob/corpus.json.parquet").exists()


def test_the_documented_command_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[3]
    (command,) = re.findall(
        r"^\.venv/bin/distilray (to-parquet .*)$", (root / "docs/inputs.md").read_text(), re.MULTILINE
    )
    (tmp_path / "examples").symlink_to(root / "examples")
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 0
    lines = (root / "examples/questions.jsonl").read_text().splitlines()
    made = pq.read_table("out/questions/questions.jsonl.parquet")
    assert made.to_pylist() == [{name: json.loads(line)[name] for name in made.column_names} for line in lines]


def test_only_the_own_files_of_a_saved_dataset_are_converted(tmp_path: Path) -> None:
    """The folder is that of `save_to_disk` of Hugging Face datasets, with a cache file of `map`."""
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}
    write(tmp_path, train__cache_arrow=ipc(ROWS[:1], stream=True))
    folder = tmp_path / "in/train"
    (folder / "data-00000-of-00001.arrow").write_bytes(ipc(ROWS, stream=True))
    (folder / "state.json").write_text(json.dumps(state))
    assert converted(tmp_path) == Converted(1, 5, 1)
    assert shards(tmp_path) == {"train/data-00000-of-00001.arrow.parquet": ROWS}
    for wrong, message in (
        ({**state, "_indices_data_files": [{"filename": "indices.arrow"}]}, "call flatten_indices"),
        ({"_data_files": [{"filename": "data-1.arrow"}]}, "names files that do not exist: .*data-1.arrow"),
        ({}, "state.json is not the state of a saved dataset"),
    ):
        (folder / "state.json").write_text(json.dumps(wrong))
        with pytest.raises(JobError, match=message):
            converted(tmp_path)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-0.arrow"}, {"filename": "data-1.arrow"}]})
    )
    for number in (0, 1):
        (folder / f"data-{number}.arrow").write_bytes(ipc(ROWS, stream=True))
    for some in ("data-0.arrow", "data-[0]*", "cache.arrow"):
        out = Sink(uri=str(tmp_path / f"some/{some}"))
        assert to_parquet(Source(uri=str(folder / some)), out) == Converted(1, 1 if some == "cache.arrow" else 5, 1)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("file", "cannot reach sink .*/file: NotADirectoryError: expected a folder, got a file"),
        ("file/below", "cannot convert .*/in/a.txt to .*/file/below/a.txt.parquet: NotADirectoryError"),
        ("foo://x/y", "cannot reach sink foo://x/y: ValueError: Protocol not known"),
    ],
)
def test_an_error_names_a_sink_that_cannot_be_written(out: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, a_txt=b"one\n")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(JobError, match=message):
        to_parquet(Source(uri=str(tmp_path / "in")), Sink(uri=out if "://" in out else str(tmp_path / out)))


def test_an_error_names_the_shard_that_a_store_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("refused")

    monkeypatch.setattr(store, "_PAUSE", 0)
    monkeypatch.setattr(MemoryFileSystem, "put_file", refused)
    write(tmp_path, a_txt=b"one\n")
    with pytest.raises(StoreError, match="^/refusing/a.txt.parquet: OSError: refused"):
        to_parquet(Source(uri=str(tmp_path / "in")), Sink(uri="memory://refusing"))


def test_a_type_without_a_parquet_type_is_an_error_and_writes_no_shard(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
    write(tmp_path, a_arrow=ipc(table, stream=False))
    with pytest.raises(JobError, match=r"cannot convert .*/a.arrow to .*/a.arrow.parquet: .*month_day_nano_interval"):
        converted(tmp_path)
    assert not shards(tmp_path)


def test_a_shard_of_a_removed_file_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, a_txt=b"one\n", b_txt=b"two\n")
    converted(tmp_path)
    (tmp_path / "in/b.txt").unlink()
    with pytest.raises(
        JobError, match=r"not in .*/in: .*/out/b.txt.parquet; remove these shards .* or choose another folder"
    ):
        converted(tmp_path)
    (tmp_path / "out/b.txt.parquet").unlink()
    assert converted(tmp_path) == Converted(1, 1, 0)


def test_file_names_with_markup_are_shown_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, a_txt=b"one\n")
    out = str(tmp_path / "o [/b]")
    assert main(["to-parquet", str(tmp_path / "in"), out]) == 0
    assert f"1 rows in {out};" in capsys.readouterr().out
    console, odd = Console(width=300), {"[/b]": 1}
    manifest = {"rows": 1, "units": 1, "shards": 1, "tokens": 1, "computed_tokens": 1, "padding": 0}
    manifest |= {"labels": {}, "truncated": {}, "dead": odd, "backends": odd}
    with console.capture() as shown:
        console.print(retried_table(Retried(odd, {}, 1, 1, 1, 0)))
        console.print(summary(SimpleNamespace(manifest=manifest, computed=Stats(), seconds=1.0)))
    assert shown.get().count("[/b]") == 3
