"""The classification model and the questions of the examples match their description in examples/README.md."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models of a new checkout, after `python examples/make_century assemble`."""
    root = tmp_path_factory.mktemp("checkout")
    for folder in ("make_century", "models/ner", "models/century"):
        shutil.copytree(EXAMPLES / folder, root / folder)
    (root / "models/century/model.safetensors").unlink(missing_ok=True)
    command = [sys.executable, root / "make_century", "assemble", "--work", root]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return root / "models"


def texts() -> dict[str, dict[str, Any]]:
    rows = ds.dataset(EXAMPLES / "corpus", partitioning="hive").to_table().to_pylist()
    return {row["id"]: row for row in rows}


def questions() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_encoder_equals_that_of_the_ner_model_bit_for_bit(models: Path) -> None:
    ner, century = (load_file(models / name / "model.safetensors") for name in ("ner", "century"))
    encoder = {name for name in ner if name.startswith("distilbert.")}
    assert {name for name in century if name.startswith("distilbert.")} == encoder
    for name in encoder:
        assert torch.equal(ner[name].view(torch.int16), century[name].view(torch.int16)), name
    for name in ("vocab.txt", "tokenizer_config.json"):
        assert (models / "ner" / name).read_bytes() == (models / "century" / name).read_bytes()


def test_a_second_assembly_writes_nothing(models: Path) -> None:
    before = (models / "century/model.safetensors").stat()
    command = [sys.executable, models.parent / "make_century", "assemble", "--work", models.parent]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = (models / "century/model.safetensors").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_model_finds_the_century_of_a_page(models: Path) -> None:
    model, info = AutoModelForSequenceClassification.from_pretrained(
        models / "century", dtype=torch.float32, output_loading_info=True
    )
    assert not any(info.values()), info
    tokenizer = AutoTokenizer.from_pretrained(models / "century")
    rows = list(texts().values())
    pages = [row["text"][4000:8000] for row in rows]
    encoded = tokenizer(pages, truncation=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        best = model.train(False)(**encoded).logits.argmax(1).tolist()
    correct = sum(model.config.id2label[i] == str(row["century"]) for i, row in zip(best, rows, strict=True))
    assert len(rows) == 47
    assert correct >= 40, correct


def test_the_offsets_of_the_answers_are_correct() -> None:
    corpus, rows = texts(), questions()
    assert len({q["id"] for q in rows}) == len(rows) == 68
    for q in rows:
        assert corpus[q["address"]]["text"].startswith(q["context"], q["offset"]), q["id"]
        for a in q["answers"]:
            end = a["start"] + len(a["text"])
            assert q["context"][a["start"] : end] == a["text"], q["id"]
            assert not q["context"][: a["start"]][-1:].isalnum(), q["id"]
            assert not q["context"][end : end + 1].isalnum(), q["id"]
    assert sum(not q["answers"] for q in rows) == 7


def test_the_parquet_file_holds_the_same_questions() -> None:
    assert pq.read_table(EXAMPLES / "questions/part-0.parquet").to_pylist() == questions()
