"""The command line: exit codes and what a person reads."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import yaml

from distilray.pipeline import report
from distilray.pipeline.cli import main
from tests.support import random_texts, write_shard


@pytest.fixture
def job(checkpoint: Path, tmp_path: Path) -> Path:
    write_shard(tmp_path / "corpus/a.parquet", [*random_texts(80, 1), None], row_group_size=30)
    raw = {
        "source": {"uri": str(tmp_path / "corpus")},
        "tasks": [{"task": "token-classification", "model": str(checkpoint)}],
        "sink": {"uri": str(tmp_path / "out")},
        "compute": {"engine": "local", "unit_bytes": 2000},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path / "job.yaml"


def test_run_says_what_was_done(job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["run", str(job)]) == 0
    said = capsys.readouterr().out
    assert "80 answered" in said
    assert "null_text 1" in said
    assert "padding       0 of" in said
    assert said.count("a.parquet row") >= 3
    assert "PER" in said
    query = said.split('duckdb -c "')[1].split('"')[0]
    assert len(duckdb.sql(query).fetchall()) == 10
    assert main(["run", str(job)]) == 0
    assert "nothing left to compute" in capsys.readouterr().out
    (job.parent / "corpus/a.parquet").unlink()
    assert main(["run", str(job)]) == 0
    assert "no sample rows" in capsys.readouterr().out


def test_plan_computes_nothing(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(job), "--set", "source.keep=[]"]) == 0
    said = capsys.readouterr().out
    assert "rows    81" in said
    assert "tokens  about" in said
    assert not (job.parent / "out").exists()


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("source.uri=/nowhere/at/all", "cannot list source /nowhere/at/all: FileNotFoundError: no such file"),
        ("source.text=body", "column body is missing; the shard has text"),
        ("tasks.0.model=/nowhere/at/all", "no config.json in /nowhere/at/all"),
        ("compute.attention=flash", "attention 'flash' needs a CUDA device"),
        ("compute.nodes=3", "compute.nodes: unknown key"),
        ("tasks.0.overlap=400", "overlap must lie between 0 and 255 in windows of 510 tokens, got 400"),
    ],
)
def test_a_job_that_cannot_run_exits_with_2_and_one_line(
    job: Path, capsys: pytest.CaptureFixture[str], override: str, said: str
) -> None:
    assert main(["run", str(job), "--set", override]) == 2
    output = capsys.readouterr()
    assert said in output.err
    assert "Traceback" not in output.err
    assert not (job.parent / "out").exists()


def test_the_summary_marks_the_entities_of_the_text(job: Path) -> None:
    entities = [
        {"start": 300, "end": 305, "label": "PER", "text": "Smith"},
        {"start": 311, "end": 317, "label": "LOC", "text": "Berlin"},
    ]
    text = "x" * 199 + " " + "y" * 99 + " Smith and  Berlin\nend"
    marked = report._marked(text, entities, {"PER": "red", "LOC": "blue"})
    assert "[Smith PER]" in marked.plain
    assert "[Berlin LOC] end" in marked.plain
    assert {str(span.style) for span in marked.spans} == {"bold red", "red", "bold blue", "blue"}


def test_the_program_is_installed() -> None:
    said = subprocess.run(
        [Path(sys.executable).parent / "distilray", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "0.2.0"
