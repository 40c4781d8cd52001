"""The command line: exit codes, output and error messages."""

import json
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
import yaml

from distilray import __version__
from distilray.pipeline.cli.main import main
from tests.support import make_checkpoint, random_texts, write_shard


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


def test_run_prints_a_summary(job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["run", str(job)]) == 0
    output = capsys.readouterr().out
    assert "80 answered" in output
    assert "null_text 1" in output
    assert "padding       0 of" in output
    assert "predict workers (1): computed" in output
    assert re.search(r"advice +\w+", output)
    (tokens,) = re.findall(r"computed +([\d,]+) tokens; ([\d,]+) predicted", output)
    assert tokens[0] == tokens[1]  # the sample was the whole corpus
    assert output.count("a.parquet row") >= 3
    assert "PER" in output
    query = output.split('duckdb -c "')[1].split('"')[0]
    assert len(duckdb.sql(query).fetchall()) == 10
    assert main(["run", str(job)]) == 0
    assert "nothing left to compute" in capsys.readouterr().out
    (job.parent / "corpus/a.parquet").unlink()
    assert main(["run", str(job)]) == 0
    assert "no sample rows" in capsys.readouterr().out


def test_an_error_escapes_control_characters_of_untrusted_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in.csv").write_text("id,text\n1,a,more\x1b]0;mine\x07\n")
    assert main(["to-parquet", str(tmp_path / "in.csv"), str(tmp_path / "out"), "--columns", "id", "text"]) == 2
    output = capsys.readouterr().err
    assert "\u27e8U+001B\u27e9]0;mine\u27e8U+0007\u27e9" in output
    assert "\x1b" not in output


def test_plan_prints_a_forecast_and_writes_nothing(
    job: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DISTILRAY_CACHE", str(tmp_path / "cache"))  # without the calibrations of other tests
    monkeypatch.setenv("COLUMNS", "400")
    arguments = ["plan", str(job), "--set", "source.keep=[]", "--set", "compute.price=3.5"]
    assert main(arguments) == 0
    rows = {line.split("  ")[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["rows"].endswith(" 81 ") or " 81" in rows["rows"]
    assert "from a sample of 81 rows" in rows["tokens"]
    assert {"computed", "padding", "device-hours", "cost"} <= rows.keys()
    assert "measured now" in rows["rate"]
    assert main([*arguments, "--json"]) == 0
    dry_run = json.loads(capsys.readouterr().out)
    assert dry_run["rows"] == 81
    assert not dry_run["pace"]["measured"]  # cached
    forecast = dry_run["forecast"]
    assert forecast["device_hours"] == pytest.approx(forecast["computed_tokens"] / forecast["rate"] / 3600)
    assert forecast["cost"] == pytest.approx(3.5 * forecast["device_hours"])
    assert not (job.parent / "out").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("source.uri=/nowhere/at/all", "cannot list source /nowhere/at/all: FileNotFoundError: no such file"),
        ("source.text=body", "column body is missing; the shard has text"),
        ("tasks.0.model=/nowhere/at/all", "no config.json in /nowhere/at/all"),
        ("compute.attention=flash", "attention 'flash' needs a CUDA device"),
        ("compute.nodes=3", "compute.nodes: unknown key"),
        ("tasks.0.overlap=400", "overlap must lie between 0 and 255 in windows of 510 tokens, got 400"),
    ],
)
def test_an_invalid_job_exits_with_2_and_one_line(
    job: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    assert main(["run", str(job), "--set", override]) == 2
    output = capsys.readouterr()
    assert message in output.err
    assert "Traceback" not in output.err
    assert not (job.parent / "out").exists()


def test_the_program_is_installed() -> None:
    process = subprocess.run(
        [Path(sys.executable).parent / "distilray", "--version"], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == __version__


def test_labels_with_markup_are_shown_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_checkpoint(tmp_path / "model", ("O", "B-[/b]", "I-[/b]", "B-[red]c", "I-[red]c"))
    write_shard(tmp_path / "in.parquet", random_texts(20, 2))
    path = tmp_path / "job.yaml"
    task = {"task": "token-classification", "model": str(model)}
    job = {"source": {"uri": str(tmp_path / "in.parquet")}, "tasks": [task], "sink": {"uri": str(tmp_path / "out")}}
    path.write_text(yaml.safe_dump({**job, "compute": {"engine": "local"}}))
    assert main(["run", str(path)]) == 0
    assert "[red]c" in capsys.readouterr().out
    assert main(["inspect", str(model)]) == 0
    assert "B-[/b]" in capsys.readouterr().out


def test_inspect_and_convert_print_a_model(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(checkpoint), str(tmp_path / "out")]) == 0
    assert main(["inspect", str(tmp_path / "out")]) == 0
    output = capsys.readouterr().out
    assert "DistilBertForTokenClassification" in output
    assert "problems" in output
    assert main(["convert", str(checkpoint), str(tmp_path / "out")]) == 2
    assert "is not empty" in capsys.readouterr().err
    (tmp_path / "out/model.safetensors").write_bytes(b"broken")
    assert main(["inspect", str(tmp_path / "out")]) == 2
    assert "model.safetensors" in "".join(capsys.readouterr().out.split())
    for uri, message in (("", "expected a path or a URI"), ("s3://u:hunter2@x", "must hold no password")):
        assert main(["inspect", uri]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert "hunter2" not in error


def test_a_run_whose_first_rows_are_dead_succeeds(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shard(tmp_path / "in/a.parquet", [None, None])
    write_shard(tmp_path / "in/b.parquet", ["Lincoln met Mary."])
    task = {"task": "token-classification", "model": str(checkpoint)}
    job = {"source": {"uri": str(tmp_path / "in")}, "tasks": [task], "sink": {"uri": str(tmp_path / "out")}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({**job, "compute": {"engine": "local"}}))
    assert main(["run", str(tmp_path / "job.yaml")]) == 0
    assert "null_text 2" in capsys.readouterr().out


def test_an_error_of_a_task_names_the_task(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"task": "embeddings", "model": str(checkpoint), "layer": 9}
    job = {"source": {"uri": "x"}, "tasks": [task], "sink": {"uri": "y"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
    assert main(["run", str(tmp_path / "job.yaml")]) == 2
    assert f"tasks.0 (embedding, {checkpoint}): layer: the model has layers 0 to 2, got 9" in capsys.readouterr().err
