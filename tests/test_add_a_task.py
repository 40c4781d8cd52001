"""A new task, added to a copy of the repository as docs/add-a-task.md says, goes through every command."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
import yaml

from tests.support import make_checkpoint, random_texts, read_output, write_shard

ROOT = Path(__file__).resolve().parent.parent
LABELS = ("bad", "fair", "good")
TEXTS = [text for text in random_texts(90, 3, words=(5, 40)) if "[" not in text][:60]  # no special tokens


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the module and the line of the page."""
    root = tmp_path_factory.mktemp("repository")
    for folder in ("distilray", "pipeline", "operators", "model", "deploy"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    module, line = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/add-a-task.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (root / "operators/tasks/label_margin.py").write_text(module, encoding="utf-8")
    tasks = root / "operators/tasks/__init__.py"
    (beginning, end) = re.split(r"(?<=^MODULES = \{\n)", tasks.read_text(encoding="utf-8"), flags=re.MULTILINE)
    tasks.write_text(beginning + line + end, encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    make_checkpoint(folder / "model", LABELS, head="sequence-classification")
    texts: list[str | None] = [*TEXTS, None, "lincoln " * 600]
    gold = [LABELS[i % 3] for i in range(len(texts))]
    write_shard(folder / "corpus/a.parquet", texts, row_group_size=20, gold=gold)
    data = {
        "source": {"uri": str(folder / "corpus")},
        "tasks": [{"task": "label-margin", "model": str(folder / "model"), "gold": "gold"}],
        "sink": {"uri": str(folder / "out")},
        "compute": {"engine": "local", "unit_bytes": 4000, "dtype": "float32", "parity": {"rows": 60}},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(data))
    return folder / "job.yaml"


def distilray(copy: Path, *arguments: object) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "distilray", *map(str, arguments)]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def output(copy: Path, job: Path) -> Path:
    assert "best" not in (printed := distilray(copy, "run", job, "--progress", "none")) or "margin" in printed
    return job.parent / "out"


def test_its_answers_are_those_of_transformers(output: Path) -> None:
    model = transformers.AutoModelForSequenceClassification.from_pretrained(output.parent / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(output.parent / "model")
    rows = read_output(output).to_pylist()
    assert [row["row"] for row in rows] == list(range(60))
    for row, text in zip(rows, TEXTS, strict=True):
        with torch.inference_mode():
            scores = model(**tokenizer(text, return_tensors="pt")).logits[0].softmax(0).numpy()
        first, second = np.argsort(-scores)[:2]
        assert (row["margin"]["best"], row["margin"]["second"]) == (LABELS[first], LABELS[second])
        assert row["margin"]["margin"] == pytest.approx(scores[first] - scores[second], abs=1e-4)


def test_its_manifest_has_labels_dead_letters_and_parity(output: Path) -> None:
    manifest = json.loads((output / "_manifest.json").read_text())
    assert sum(manifest["labels"]["margin"].values()) == 60
    assert manifest["dead"] == {"null_text": 1, "text_too_long": 1}
    parity = manifest["parity"]
    assert parity["passed"]
    assert parity["tasks"]["margin"]["rows"] == parity["tasks"]["margin"]["positions"] > 30


def test_report_preview_evaluate_and_verify_know_it(copy: Path, job: Path, output: Path, tmp_path: Path) -> None:
    distilray(copy, "report", output, "--to", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "label-margin" in page
    assert "the margin of each text" in page
    shown = distilray(copy, "preview", job, "--rows", 5)
    assert "margin: best: " in shown
    assert "5 answered" in shown
    figures = json.loads(distilray(copy, "evaluate", job, "--json"))["margin"]
    assert figures["corpus"]["judged"] == 60
    assert 0 < figures["accuracy"] < 1
    assert json.loads(distilray(copy, "verify", output, "--json"))["ok"]


def test_the_schema_and_the_public_names_have_it(copy: Path) -> None:
    schema = json.loads(distilray(copy, "schema"))
    assert "LabelMargin" in schema["$defs"]
    code = "import distilray, distilray.operators; print(distilray.LabelMargin, 'LabelMargin' in dir(distilray))"
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("LabelMargin'> True")


def test_a_method_that_is_forgotten_is_an_error_before_the_run(copy: Path, job: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    shutil.copytree(copy, root)
    module = root / "operators/tasks/label_margin.py"
    module.write_text(module.read_text().replace("def render(", "def rendre("))
    command = [sys.executable, "-m", "distilray", "run", str(job), "--set", f"sink.uri={tmp_path / 'out'}"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "abstract method" in done.stderr
    assert "render" in done.stderr
    assert not (tmp_path / "out").exists()
