"""Pages of outputs and previews: their figures, every task, and untrusted texts, which stay text."""

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from distilray.operators.objects.unit_object import STATS_KEY, encode_parquet
from distilray.operators.rows.reasons import CRASH
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.preview import preview
from distilray.pipeline.job.job import Job
from distilray.pipeline.render.answers import safe_first_rows
from distilray.pipeline.report.facts import read_facts
from distilray.pipeline.report.output_page import report_page
from distilray.pipeline.report.preview_page import preview_page
from distilray.pipeline.report.throughput import row_rates
from tests.pipeline.report.pages import ATTRIBUTES, ELEMENTS, HOSTILE, Page, hostile_job
from tests.support import metadata_of, read_output, write_shard


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    return hostile_job(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(job: Job) -> str:
    return report_page(job.sink.uri, rows=20)


def test_figures_equal_those_of_the_manifest(job: Job, html: str) -> None:
    manifest = json.loads(Path(job.sink.uri, "_manifest.json").read_text())
    expected = {name: manifest[name] for name in ("rows", "units", "shards", "tokens", "computed_tokens", "padding")}
    expected |= {"dead_letters": sum(manifest["dead"].values())}
    expected |= {f"truncated.{task}": rows for task, rows in manifest["truncated"].items()}
    expected |= {f"dead.{reason}": rows for reason, rows in manifest["dead"].items()}
    expected |= {f"parity.{name}": each["flips"] for name, each in manifest["parity"]["tasks"].items()}
    expected |= {
        f"labels.{task}.{label.replace(chr(0x202E), chr(0x27E8) + 'U+202E' + chr(0x27E9))}": count
        for task, counts in manifest["labels"].items()
        for label, count in counts.items()
    }
    assert len(expected) > 20
    page = Page(html)
    assert page.figures == {name: f"{value:,}" for name, value in expected.items()}
    for name, count in manifest["versions"].items():
        assert f"{name} {count}" in page.text


def test_untrusted_texts_cannot_break_out(html: str) -> None:
    page = Page(html)
    assert page.elements <= ELEMENTS
    assert page.attributes <= ATTRIBUTES
    assert page.links == {"data:,"}
    assert "<script>alert(1)</script>" in page.text  # escaped as text
    assert "<img src=x onerror=alert(1)>.parquet row 0" in page.text
    assert "{{ 7*7 }} {% raw %}" in page.text
    assert not set(html) & set("\x00\x07\x1b\x7f\u202e\u2066\u2069")
    assert "evil \u27e8U+202E\u27e9 gnp.exe" in page.text
    assert "default-src 'none'; style-src 'sha256-" in html
    assert "<script" not in html


def test_every_task_is_shown(job: Job, html: str) -> None:
    page = Page(html)
    rows = read_output(job.sink.uri).to_pylist()
    first = rows[0]
    shown = page.text[page.text.index("Sample documents") :]
    for task in job.tasks:
        assert f"{task.name} ({task.task})" in " ".join(page.text.split())
    assert f"{first['label']['label']} {first['label']['score']:.3f}".replace("\u202e", "\u27e8U+202E\u27e9") in shown
    for each in first["about"]:
        assert f"{each['label']} {each['score']:.3f}" in shown
    assert "1. who<script>:" in shown
    assert "mask 1:" in shown
    assert "chosen:" in shown
    assert "48 components" in shown
    assert any(entity["text"] in page.marks for entity in first["entities"])
    assert "The text was truncated for this task" in shown
    assert shown.count("row ") >= 20


def test_dead_letters_have_reasons_and_examples(html: str) -> None:
    text = Page(html).text
    dead = " ".join(text[text.index("Dead letters") : text.index("Parity")].split())
    assert "null_text 2 50.0%" in dead
    assert "too_few_choices 2 50.0%" in dead
    assert "row 38: column options has fewer than two choices <script>alert(1)</script>" in dead


def test_the_page_names_the_sample_of_the_lengths(html: str) -> None:
    text = " ".join(Page(html).text.split())
    lengths = sorted(len(text) for text in HOSTILE * 4 + HOSTILE[:2])
    assert f"shortest {lengths[0]} characters" in text
    assert f"longest {lengths[-1]:,}" in text
    assert re.search(r"A sample: [23]\d documents from 1\d units of the corpus", text)


def test_the_page_of_an_unfinished_output_shows_its_state(job: Job, tmp_path: Path) -> None:
    shutil.copytree(job.sink.uri, tmp_path / "out")
    lost = sorted((tmp_path / "out/data").glob("*.parquet"))
    for file in (*lost[:3], tmp_path / "out/_SUCCESS", tmp_path / "out/_manifest.json"):
        file.unlink()
    page = Page(report_page(str(tmp_path / "out")))
    rows = read_output(tmp_path / "out").num_rows
    assert f"Unfinished: {len(lost) - 3} of {len(lost)} units are committed" in page.text
    assert page.figures["rows"] == str(rows)
    assert page.figures["units"] == str(len(lost) - 3)
    assert "Available after a run has finished the job" in page.text
    for file in lost[3:]:
        file.unlink()
    page = Page(report_page(str(tmp_path / "out")))
    assert (page.figures["rows"], page.figures["units"]) == ("0", "0")
    assert f"Unfinished: 0 of {len(lost)}" in page.text


def test_the_page_names_an_unreadable_corpus(job: Job, tmp_path: Path, html: str) -> None:
    corpus = Path(job.source.uris[0])
    corpus.rename(tmp_path / "away")
    try:
        page = Page(report_page(job.sink.uri))
    finally:
        (tmp_path / "away").rename(corpus)
    assert page.text.count("the corpus cannot be read from here") == 2
    assert page.figures == Page(html).figures
    assert page.elements <= ELEMENTS


def test_a_report_does_not_read_units_with_a_row_that_killed_its_worker(job: Job, tmp_path: Path) -> None:
    shutil.copytree(job.sink.uri, tmp_path / "out")
    bad, *_ = files = sorted((tmp_path / "out/data").glob("*.parquet"))
    table = pq.read_table(bad)
    stats = json.loads(metadata_of(bad)[STATS_KEY]) | {"dead": {CRASH: 1}}
    bad.write_bytes(encode_parquet(table, {**metadata_of(bad), STATS_KEY: json.dumps(stats)}))
    facts = read_facts(str(tmp_path / "out"))
    found = safe_first_rows(facts.output, facts.committed, ["row"], 5)
    assert bad.stem not in {unit.name for unit in found}
    assert len(found) == len(files) - 2  # one more unit has only dead letters


def test_rates_are_those_of_each_run_without_pauses() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    starts = {1: start, 2: start + timedelta(days=3), 3: start + timedelta(days=9)}
    times = [start + timedelta(seconds=10 * (i + 1)) for i in range(9)]
    times += [starts[2] + timedelta(seconds=20 * (i + 1)) for i in range(3)]
    infos = {f"u{i}": {"LastModified": time} if i % 2 else {"mtime": time.timestamp()} for i, time in enumerate(times)}
    found = row_rates(infos, dict.fromkeys(infos, 100), starts)
    assert found is not None
    assert [(run.number, run.units, run.rows, run.seconds, run.rate) for run in found.runs] == [
        (1, 9, 900, 90, 10),
        (2, 3, 300, 60, 5),
    ]
    assert found.chart is not None
    # the last bar includes the object at its right edge
    assert [bar.label.split(": ")[1] for bar in found.chart.bars] == [
        "8 rows per second", "10.7 rows per second", "8 rows per second", "5.33 rows per second",
    ]  # fmt: skip
    assert row_rates({"u": {}}, {"u": 1}, starts) is None
    assert row_rates({}, {}, starts) is None


def test_a_preview_answers_like_the_run_and_writes_nothing(job: Job, tmp_path: Path) -> None:
    elsewhere = job.model_copy(update={"sink": job.sink.model_copy(update={"uri": str(tmp_path / "nothing")})})
    found = preview(elsewhere, 38)
    assert not (tmp_path / "nothing").exists()
    rows = {row["row"]: row for row in read_output(job.sink.uri).to_pylist()}
    assert [document.row for document in found.documents] == list(rows)
    for document in found.documents:
        expected = [(each["start"], each["end"], each["label"]) for each in rows[document.row]["entities"]]
        assert [(s.start, s.end, s.label) for s in document.spans if "answer" not in s.label][
            : len(expected)
        ] == expected
        assert document.text == HOSTILE[document.row % len(HOSTILE)]
    assert [(letter.row, letter.reason, letter.text) for letter in found.dead] == [
        (36, "null_text", None),
        (37, "null_text", None),
    ]
    assert found.scope == "The first 38 rows"
    page = Page(preview_page(found))
    assert page.elements <= ELEMENTS
    assert page.attributes <= ATTRIBUTES
    assert (page.figures["rows"], page.figures["dead_letters"]) == ("36", "2")
    assert "null_text" in page.text


def test_the_command_line_shows_a_preview_and_writes_pages(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    for i in range(20):
        write_shard(tmp_path / f"in/{i:02}.parquet", ["Mary met \x1b[31mLincoln in New York."] if i else [None])
    raw = {
        "source": {"uri": str(tmp_path / "in")},
        "tasks": [{"task": "token-classification", "model": str(checkpoint)}],
        "sink": {"uri": str(tmp_path / "out")},
    }  # the default engine is Ray, which a preview does not use
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(raw))
    assert main(["preview", str(tmp_path / "job.yaml"), "--rows", "3"]) == 0
    output = capsys.readouterr().out
    assert "in/01.parquet row 0: " in output
    assert "in/00.parquet row 0: rejected in read, null_text: " in output
    assert "The first 3 rows: 2 answered, 1 dead letters" in output
    assert "\x1b[31m" not in output
    page = tmp_path / "page.html"
    assert main(["preview", str(tmp_path / "job.yaml"), "--rows", "30", "--html", str(page)]) == 0
    assert "The 16 rows of the first 16 shards, which have no more" in page.read_text()
    assert not (tmp_path / "out").exists()
    for arguments, message in (
        (["preview", str(tmp_path / "job.yaml"), "--rows", "0"], "--rows: expected 1 or more, got 0"),
        (["report", str(tmp_path / "out")], "is not an output of distilray"),
        (["report", str(tmp_path / "out"), "--set", "compute.dtype=float32"], "is not an output of distilray"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err


def test_the_command_line_writes_a_report(job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert main(["report", job.sink.uri, "--to", str(page), "--rows", "0"]) == 0
    assert f"wrote {page}, {page.stat().st_size:,} bytes" in capsys.readouterr().out
    assert "Sample documents" not in page.read_text()
    for arguments, message in (
        (["--set", "compute.dtype=float32"], "--set compute.dtype: only keys of storage_options can be set here"),
        (["--to", str(tmp_path / "no/such/folder.html")], "cannot write"),
        (["--rows", "-1"], "--rows: expected 0 or more, got -1"),
    ):
        assert main(["report", job.sink.uri, *arguments]) == 2
        assert message in capsys.readouterr().err
