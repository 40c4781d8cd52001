"""The progress of a run: on a terminal, as lines, as JSON lines, and in Python."""

import io
import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from distilray.operators.objects.stats import Stats
from distilray.operators.rows.timing import Timing
from distilray.operators.write import Commit
from distilray.pipeline.api import run
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.run import RunStart
from distilray.pipeline.engines.actor_pools import ActorCounts
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import load_job
from distilray.pipeline.terminal import progress
from distilray.pipeline.terminal.progress import show_progress
from tests.support import random_texts, write_shard

ROOT = Path(__file__).resolve().parents[3]
START = RunStart(400, 4, Stats(units=1, rows=90, dead={"null_text": 10}), lambda: {"predict": ActorCounts(1, 2, 1, 3)})
COMMIT = Commit(
    Stats(units=1, rows=99, tokens=5000, computed_tokens=5200, dead={"timeout": 1}), Timing(predict=2.0, worker="a")
)


@pytest.fixture
def job(checkpoint: Path, tmp_path: Path) -> Path:
    write_shard(tmp_path / "corpus/a.parquet", [*random_texts(79, 1), None], row_group_size=20)
    raw = {
        "source": {"uri": str(tmp_path / "corpus"), "storage_options": {"auto_mkdir": "hunter2"}},
        "tasks": [{"task": "token-classification", "model": str(checkpoint)}],
        "sink": {"uri": str(tmp_path / "out"), "storage_options": {"auto_mkdir": "hunter2"}},
        "compute": {"engine": "local", "unit_bytes": 2000},
    }
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(raw))
    return tmp_path / "job.yaml"


@pytest.fixture
def immediate_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show a line for every 5 % of the rows, without a minimum interval."""
    monkeypatch.setattr(progress, "_MIN_INTERVAL", 0.0)


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.usefixtures("immediate_lines")
def test_progress_without_a_terminal_is_lines(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(job)]) == 0
    output = capsys.readouterr().out
    lines = re.findall(r"^distilray \d+:\d\d:\d\d (start|progress|end): ([\d,]+) of 80 rows", output, re.MULTILINE)
    assert lines[0] == ("start", "0")
    assert lines[-1] == ("end", "80")
    assert {event for event, _ in lines[1:-1]} == {"progress"}
    assert "dead letters: null_text 1; predict workers (1): computed" in output
    assert output.index(" end: ") < output.index("79 answered in")
    assert "hunter2" not in output


@pytest.mark.usefixtures("immediate_lines")
def test_json_lines_have_constant_keys_and_end_with_the_result(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(job), "--progress", "json"]) == 0
    output = capsys.readouterr().out
    assert "hunter2" not in output
    *events_before, last = events(output)
    assert [each["event"] for each in events_before] == ["start", *["progress"] * (len(events_before) - 2), "end"]
    assert len(events_before) > 3
    keys = list(events_before[0])
    assert all(list(each) == keys for each in events_before)
    end, manifest = events_before[-1], json.loads((job.parent / "out/_manifest.json").read_text())
    assert (end["rows_done"], end["rows_planned"]) == (80, 80)
    assert end["units_done"] == end["units_planned"] == manifest["units"]
    assert end["dead"] == manifest["dead"] == {"null_text": 1}
    assert (end["tokens"], end["computed_tokens"]) == (manifest["tokens"], manifest["computed_tokens"])
    assert end["timing"].keys() | {"bottleneck", "advice"} == manifest["timing"].keys()
    assert last["event"] == "result"
    assert last["sink"] == str(job.parent / "out")
    for name in ("fingerprint", "shards", "units", "rows", "dead", "tokens", "computed_tokens"):
        assert last[name] == manifest[name]
    assert last["this_run"]["rows"] == 79
    page = (ROOT / "docs/watching.md").read_text()
    assert not [key for key in {*keys, *last} if f"`{key}`" not in page]


def test_a_resume_starts_at_the_committed_rows_and_a_finished_job_shows_no_progress(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(load_job(job), quiet=True)
    assert capsys.readouterr().out == ""
    min((job.parent / "out/data").iterdir()).unlink()
    run(load_job(job), progress="json")
    start, end, last = events(capsys.readouterr().out)
    assert 0 < start["rows_done"] < 80
    assert start["tokens"] == 0
    assert end["rows_done"] == 80
    assert end["tokens"] == last["this_run"]["tokens"] < last["tokens"]
    assert main(["run", str(job), "--progress", "json"]) == 0
    (last,) = events(capsys.readouterr().out)
    assert (last["rows"], last["this_run"]["units"]) == (79, 0)
    assert main(["run", str(job), "--progress", "none"]) == 0
    assert "distilray 0:" not in capsys.readouterr().out


def test_a_stopped_run_ends_with_stopped_and_a_retry_shows_its_rows(
    job: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(job), "--progress", "json", "--set", "max_dead=0"]) == 1
    *_, last = events(capsys.readouterr().out)
    assert last["event"] == "stopped"
    run(load_job(job), quiet=True)
    assert main(["retry", str(job.parent / "out"), "--progress", "json", "--set", "max_dead=1"]) == 0
    start, end, last = events(capsys.readouterr().out)
    assert (start["rows_planned"], start["rows_done"], end["rows_done"]) == (1, 0, 1)
    assert last == {
        "event": "result",
        "sink": str(job.parent / "out"),
        "tried": 1,
        "units": 1,
        "answered": 0,
        "shards": 0,
        "before": {"null_text": 1},
        "after": {"null_text": 1},
    }


def test_lines_continue_while_no_unit_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_MAX_INTERVAL", 0.01)
    console = Console(file=io.StringIO())
    with show_progress(console, "lines") as watch:
        watch.start(START)
        watch.add(COMMIT)  # earlier than _MIN_INTERVAL, so without a line
        while console.file.getvalue().count(" progress: ") < 2:
            time.sleep(0.01)
    output = console.file.getvalue().splitlines()
    assert (
        "start: 100 of 400 rows (25%), 1 of 4 units, dead letters: null_text 10, predict 1 of 2 busy, 1 waiting for resources"
        in output[0]
    )
    assert "200 of 400 rows (50%), 2 of 4 units" in output[-2]
    assert "dead letters: null_text 10, timeout 1" in output[-1]


def test_the_history_of_commits_stays_small_without_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SPEED_WINDOW", 0.0)
    with show_progress(Console(quiet=True), "none") as watch:
        watch.start(START)
        for _ in range(100):
            watch.add(COMMIT)
        assert len(watch._history) < 50
        figures = watch.figures()
        assert (figures["units_done"], figures["tokens"]) == (101, 500_000)


def test_a_terminal_shows_a_live_view() -> None:
    master, terminal_fd = os.openpty()
    seen = bytearray()

    def read() -> None:
        while chunk := _read(master):
            seen.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(terminal_fd, "w") as terminal:
        console = Console(file=terminal, width=200, _environ={"TERM": "xterm"})
        with show_progress(console, "auto") as watch:
            watch.start(START)
            watch.add(COMMIT)
    reader.join()
    os.close(master)
    assert "200 of 400 rows (50%)" in seen.decode()
    assert re.search(
        r"2 of 4 units, [\d,]+ tokens/s, [\d:]+ left, dead letters: null_text 10, timeout 1", seen.decode()
    )
    assert not re.search("start:|end:", seen.decode())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1000)
    except OSError:  # the other end is closed
        return b""


def test_a_live_view_without_a_terminal_is_an_error(job: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(job), "--progress", "live"]) == 2
    assert "live needs a terminal" in capsys.readouterr().err
    with pytest.raises(JobError, match="live needs a terminal"), show_progress(Console(file=io.StringIO()), "live"):
        pass
    assert not (job.parent / "out").exists()
