"""Rows that raise, give NaN or end their worker: they become dead letters, and every other row is answered."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from distilray.operators.isolation.attempts import Isolation
from distilray.operators.predict import PredictUnit
from distilray.operators.tasks.options import limit_of
from distilray.pipeline import Compute, Job, Sink, Source, TokenClassification
from distilray.pipeline.commands.run import execute
from distilray.pipeline.errors import DeadLettersError
from tests.support import edit_tensors, make_checkpoint, random_texts, read_output, write_shard

POISON = Path(__file__).parents[2] / "poison"
NAN_WORD = "mary"  # its embedding is NaN
CRASHES = {"segfaults": "crash", "fails the device": "crash", "exhausts memory": "out_of_memory", "hangs": "timeout"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in which one word gives NaN."""
    folder = make_checkpoint(tmp_path_factory.mktemp("poison") / "model")
    number = (folder / "vocab.txt").read_text().split("\n").index(NAN_WORD)

    def spoil(tensors: dict) -> None:
        tensors["distilbert.embeddings.word_embeddings.weight"][number] = float("nan")

    edit_tensors(folder, spoil)
    return folder


def clean_texts(count: int) -> list[str]:
    return [text.lower().replace(NAN_WORD, "john") for text in random_texts(count, 1)]


def job(corpus: Path, model: Path, out: Path, **keys: object) -> Job:
    compute = {"engine": "local", "unit_bytes": 3000, "dtype": "float32", **keys.pop("compute", {})}
    return Job(
        source=Source(uri=str(corpus)),
        tasks=[TokenClassification(model=str(model))],
        sink=Sink(uri=str(out), **keys.pop("sink", {})),
        compute=Compute(**compute),
        **keys,
    )


def dead_letters(out: Path) -> dict[int, tuple[str, str]]:
    """Return the stage and the reason of each dead row."""
    return {row["row"]: (row["stage"], row["reason"]) for row in read_output(out, "dead").to_pylist()}


def raise_at_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = PredictUnit.answers

    def answers(self: PredictUnit, table: pa.Table, *more: object) -> object:
        if any(text and "poison" in text for text in table["_text"].to_pylist()):
            raise ValueError("a row that raises\nand says so")
        return healthy(self, table, *more)

    monkeypatch.setattr(PredictUnit, "answers", answers)


def test_only_rows_that_raise_or_give_nan_become_dead_letters(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str | None] = [*clean_texts(150), None]
    write_shard(tmp_path / "corpus.parquet", texts)
    clean = execute(job(tmp_path / "corpus.parquet", model, tmp_path / "clean"))
    assert clean.manifest["dead"] == {"null_text": 1}
    bad = {7: f"a {NAN_WORD} b", 31: "poison a", 32: "poison b", 90: f"{NAN_WORD}", 149: "the last poison"}
    write_shard(tmp_path / "bad.parquet", [bad.get(i, text) for i, text in enumerate(texts)])
    raise_at_poison(monkeypatch)
    manifest = execute(job(tmp_path / "bad.parquet", model, tmp_path / "out", sink={"dead_text": True})).manifest
    assert manifest["dead"] == {"not_finite": 2, "null_text": 1, "error": 3}
    assert manifest["padding"] == 0
    assert dead_letters(tmp_path / "out") == {
        150: ("read", "null_text"),
        **{row: ("predict", "not_finite" if NAN_WORD in text else "error") for row, text in bad.items()},
    }
    dead = read_output(tmp_path / "out", "dead")
    assert dead["text"].to_pylist() == [*bad.values(), None]
    assert dead["message"][1].as_py() == "ValueError: a row that raises"
    answers = {row["row"]: row["entities"] for row in read_output(tmp_path / "out").to_pylist()}
    before = {row["row"]: row["entities"] for row in read_output(tmp_path / "clean").to_pylist()}
    assert answers.keys() == before.keys() - bad.keys()
    for row, entities in answers.items():
        assert [(e["start"], e["end"], e["label"]) for e in entities] == [
            (e["start"], e["end"], e["label"]) for e in before[row]
        ]


def test_the_text_of_a_dead_row_is_kept_only_on_request(model: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", [NAN_WORD, "fine"])
    execute(job(tmp_path / "corpus.parquet", model, tmp_path / "out"))
    assert read_output(tmp_path / "out", "dead")["text"].to_pylist() == [None]


def test_a_fault_of_all_rows_stops_the_run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shard(tmp_path / "corpus.parquet", ["poison"] * 40)
    raise_at_poison(monkeypatch)
    with pytest.raises(ValueError, match="a row that raises"):
        execute(job(tmp_path / "corpus.parquet", model, tmp_path / "out"))
    assert not list(tmp_path.glob("out/data/*"))


def test_max_dead_allows_consecutive_rows_that_raise(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shard(tmp_path / "corpus.parquet", ["poison"] * 12 + clean_texts(5))
    raise_at_poison(monkeypatch)
    one_unit = {"unit_bytes": 10**6}
    allowed = job(tmp_path / "corpus.parquet", model, tmp_path / "out", compute=one_unit, max_dead=12)
    assert execute(allowed).manifest["dead"] == {"error": 12}


def test_too_many_failures_or_dead_letters_stop_the_run(model: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", [NAN_WORD] * 11 + [None] * 20 + clean_texts(200))
    whole = job(tmp_path / "corpus.parquet", model, tmp_path / "out")
    message = "11 of 231 rows are dead letters .11 not_finite.; at most 10 may fail"
    for _ in range(2):  # a resume stops, too
        with pytest.raises(DeadLettersError, match=message):
            execute(whole)
    assert not (tmp_path / "out/_SUCCESS").exists()
    with pytest.raises(
        DeadLettersError, match=r"31 of 231 .*20 null_text, 11 not_finite.*at most 30 are allowed by max_dead: 13.2%"
    ):
        execute(whole.model_copy(update={"max_dead": "13.2%"}))
    assert execute(whole.model_copy(update={"max_dead": 31})).manifest["rows"] == 200


def test_a_resume_with_all_units_committed_keeps_the_limit(model: Path, tmp_path: Path) -> None:
    write_shard(tmp_path / "corpus.parquet", [NAN_WORD] * 11 + clean_texts(20))
    whole = job(tmp_path / "corpus.parquet", model, tmp_path / "out", compute={"unit_bytes": 10**6})
    for _ in range(2):
        with pytest.raises(DeadLettersError, match="11 of 31 rows"):
            execute(whole)
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_an_inaccessible_cache_folder_stops_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DISTILRAY_CACHE", str(tmp_path / "file/cache"))
    with Isolation("run").attempt("predict", "unit") as died:
        assert not died
    assert "will end the next worker, too" in caplog.text


def test_the_mark_of_a_live_worker_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILRAY_CACHE", str(tmp_path))
    with Isolation("run").attempt("predict", "unit"):
        (mark,) = tmp_path.glob("begun/run/*")
        own = mark.read_text().partition(" ")[2]
        with subprocess.Popen(["sleep", "60"]) as other:
            started = Path(f"/proc/{other.pid}/stat").read_text().rpartition(")")[2].split()[19]
            for maker, dead in ((f"{other.pid} {started}", False), (f"{other.pid} {own}0", True), ("", True)):
                mark.write_text(maker)
                with Isolation("run").attempt("predict", "unit") as died:
                    assert died == dead
            mark.parent.mkdir(exist_ok=True)
            mark.write_text(f"{other.pid} {started}")
            other.kill()
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # a zombie: its exit status is not collected yet
            with Isolation("run").attempt("predict", "unit") as died:
                assert died


@pytest.mark.parametrize("rows", [10_000, 10**6])
def test_max_dead_as_a_share_of_the_rows_is_exact(rows: int) -> None:
    assert all(limit_of(f"{n / 100:.2f}%", rows) == rows * n // 10_000 for n in range(10_001))


@pytest.mark.parametrize("wrong", ["1", "101%", "x%", -1, 1.5, "0.1.1%"])
def test_max_dead_must_be_a_number_or_a_share(model: Path, tmp_path: Path, wrong: object) -> None:
    with pytest.raises(ValueError, match="max_dead"):
        job(tmp_path, model, tmp_path / "out", max_dead=wrong)


def test_a_mark_remains_only_if_the_process_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILRAY_CACHE", str(tmp_path))
    isolation = Isolation("run")
    with isolation.attempt("predict", "unit") as died:
        assert not died
        with (
            Isolation("run").attempt("predict", "unit") as again,
            Isolation("other").attempt("predict", "unit") as other,
        ):
            assert again
            assert not other
    for error, stays in (
        (ValueError("x"), False),
        (torch.AcceleratorError("x"), True),
    ):  # a worker without a device will end
        with pytest.raises(type(error)), isolation.attempt("predict", "unit") as died:
            assert not died
            raise error
        assert any(tmp_path.glob("begun/run/*")) == stays
    with isolation.attempt("predict", "unit") as died:
        assert died
    with isolation.attempt("predict", "unit") as died:
        assert not died


def run(job: Job, folder: Path, limit: float = 550) -> subprocess.CompletedProcess[str]:
    """Run `distilray run` with the poison module in all its processes."""
    (folder / "job.yaml").write_text(yaml.safe_dump(job.description()))
    path = os.pathsep.join([str(POISON), os.environ.get("PYTHONPATH", "")])
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "DISTILRAY_CACHE": str(folder / "cache"),
        "RAY_ADDRESS": "local",
        "RAY_memory_usage_threshold": f"{memory_used() + 0.2:.2f}",
    }
    command = [sys.executable, "-m", "distilray", "run", str(folder / "job.yaml")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=limit)


def memory_used() -> float:
    """Return the share of the memory of this machine that is in use."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return 1 - available / total


def poisoned_texts(*poison: tuple[str, str]) -> tuple[list[str], dict[int, tuple[str, str]]]:
    """Return 200 texts, some of them poison, and the dead letters that they must become."""
    texts, expected = clean_texts(200), {}
    reasons = {"raises": "error", **CRASHES}
    for at, (stage, kind) in enumerate(poison):
        row = 13 + 23 * at
        texts[row], expected[row] = f"poison: {stage} {kind}", (stage, reasons[kind])
    return texts, expected


@pytest.mark.slow
def test_the_local_engine_isolates_the_rows_that_killed_it(model: Path, tmp_path: Path) -> None:
    texts, expected = poisoned_texts(("predict", "segfaults"), ("predict", "hangs"))
    write_shard(tmp_path / "corpus.parquet", texts)
    whole = job(tmp_path / "corpus.parquet", model, tmp_path / "out", compute={"deadline": 8})
    codes = [run(whole, tmp_path).returncode for _ in range(3)]
    assert codes == [-11, 1, 0]
    assert dead_letters(tmp_path / "out") == expected


@pytest.mark.chaos
@pytest.mark.cluster
def test_every_poison_on_ray_becomes_a_dead_letter_with_its_reason(model: Path, tmp_path: Path) -> None:
    in_both = [(stage, kind) for stage in ("predict", "tokenize") for kind in ("raises", "segfaults")]
    others = [("predict", kind) for kind in ("hangs", "exhausts memory", "fails the device")]
    texts, expected = poisoned_texts(*in_both, *others)
    texts[199] = "read segfaults"
    expected |= dict.fromkeys(range(190, 200), ("read", "crash"))  # all rows of its row group
    texts[5], expected[5] = NAN_WORD, ("predict", "not_finite")
    write_shard(tmp_path / "corpus.parquet", texts, row_group_size=10)
    compute = {"engine": "ray", "deadline": 8}
    whole = job(tmp_path / "corpus.parquet", model, tmp_path / "out", compute=compute, max_dead=30)
    assert run(whole, tmp_path).returncode == -11  # the driver itself reads a sample
    done = run(whole, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert dead_letters(tmp_path / "out") == expected
    rows = pq.read_table(tmp_path / "out/data")["row"].to_pylist()
    assert sorted(rows) == [row for row in range(200) if row not in expected]


@pytest.mark.slow
@pytest.mark.cluster
def test_a_worker_that_keeps_dying_ends_the_run_with_one_line(model: Path, tmp_path: Path) -> None:
    """Its cache folder cannot be written, so no mark names the unit that kills it."""
    texts, _ = poisoned_texts(("predict", "segfaults"))
    write_shard(tmp_path / "corpus.parquet", texts)
    (tmp_path / "cache").touch()
    done = run(job(tmp_path / "corpus.parquet", model, tmp_path / "out", compute={"engine": "ray"}), tmp_path)
    assert done.returncode == 1
    line = r"(?m)^distilray: the worker of a unit ended 11 times .* must be writable on every node"
    assert re.search(line, done.stderr), done.stderr[-3000:]  # Ray's own processes may write after the line
    assert not (tmp_path / "out/_SUCCESS").exists()
