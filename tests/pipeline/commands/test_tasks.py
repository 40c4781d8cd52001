"""Whole jobs with every task: tasks share reads, tokenizations and passes, and answer together as they do alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from distilray.operators.predict import PredictUnit
from distilray.operators.read import Read
from distilray.operators.rows.unit import Unit
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec
from distilray.pipeline.commands.run import execute
from distilray.pipeline.job.job import Job, parse_job
from distilray.pipeline.planning.checked_tasks import check_tasks
from tests.conftest import ROOT
from tests.operators.harness import answers, reasons, rows
from tests.support import IOB2, make_checkpoint, random_texts, read_output, write_shard

VERDICTS = ("contradiction", "neutral", "entailment")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A checkpoint of every head over the vocabulary of the example. All encoders are equal, except that of `other`."""
    folder = tmp_path_factory.mktemp("models")
    vocab = (ROOT / "examples/models/ner/vocab.txt").read_text(encoding="utf-8").splitlines()
    kinds: dict[str, dict[str, Any]] = {
        "ner": {"labels": IOB2},
        "label": {"labels": ("a", "b", "c"), "head": "sequence-classification"},
        "nli": {"labels": VERDICTS, "head": "sequence-classification"},
        "qa": {"head": "question-answering"},
        "mlm": {"head": "masked-lm"},
        "choice": {"head": "multiple-choice"},
        "base": {"head": "base"},
        "other": {"head": "base", "seed": 1},
    }
    return {name: str(make_checkpoint(folder / name, positions=128, vocab=vocab, **k)) for name, k in kinds.items()}


def tasks(models: dict[str, str]) -> list[dict[str, Any]]:
    """Return one task of each kind. Windows or truncation handle long texts, so that no row is rejected."""
    return [
        {"task": "token-classification", "model": models["ner"]},
        {"task": "text-classification", "model": models["label"], "long_texts": "mean"},
        {
            "task": "text-classification",
            "name": "pair",
            "model": models["label"],
            "text_pair": "topic",
            "long_texts": "max",
        },
        {
            "task": "zero-shot-classification",
            "name": "subject",
            "model": models["nli"],
            "labels": ["war", "peace"],
            "long_texts": "truncate",
        },
        {
            "task": "question-answering",
            "model": models["qa"],
            "question_column": "topic",
            "top_k": 3,
            "no_answer": True,
        },
        {"task": "question-answering", "name": "asked", "model": models["qa"], "questions": ["who", "where is it"]},
        {"task": "fill-mask", "model": models["mlm"], "top_k": 3},
        {"task": "multiple-choice", "model": models["choice"], "choices": "options", "long_texts": "truncate"},
        {"task": "embeddings", "model": models["base"], "long_texts": "mean", "normalize": True},
        {
            "task": "embeddings",
            "name": "layer",
            "model": models["ner"],
            "layer": 1,
            "pooling": "cls",
            "long_texts": "mean",
        },
        {"task": "embeddings", "name": "half", "model": models["other"], "dtype": "float16", "long_texts": "truncate"},
    ]


def write_corpus(folder: Path, count: int = 200) -> None:
    """Write two shards of real passages, each with a mask. Some are longer than the model allows."""
    texts = ds.dataset(ROOT / "examples/corpus", partitioning="hive").to_table(columns=["text"])["text"].to_pylist()
    words = [text.split(" ") for text in texts]
    passages = []
    for i in range(count):
        source, size = words[i % len(words)], 400 if i % 20 == 0 else 1 + (i * 7) % 60
        first = (i * 131) % (len(source) - size)
        passages.append(" ".join([*source[first : first + size], "[MASK]"]))
    topics = [" ".join(text.split(" ")[:3]) for text in passages]
    options = [text.split(" ")[: 2 + i % 4] for i, text in enumerate(texts * 10)][:count]
    half = count // 2
    for name, part in (("a", slice(half)), ("b", slice(half, None))):
        write_shard(folder / f"{name}.parquet", passages[part], 25, topic=topics[part], options=options[part])


def job_of(tmp_path: Path, out: str, some: list[dict[str, Any]], engine: str = "local") -> Job:
    raw = {
        "source": {"uri": str(tmp_path / "in")},
        "tasks": some,
        "sink": {"uri": str(tmp_path / out)},
        "compute": {"engine": engine, "unit_bytes": 20_000, "dtype": "float32"},
    }
    return parse_job(raw, "test")


def assert_answers_close(together: Any, alone: Any) -> None:
    """Assert that answers are equal up to rounding. Packs of other sequences are summed in another order."""
    if isinstance(alone, dict):
        assert together.keys() == alone.keys()
        for key in alone:
            assert_answers_close(together[key], alone[key])
    elif isinstance(alone, list):
        assert len(together) == len(alone)
        for one, other in zip(together, alone, strict=True):
            assert_answers_close(one, other)
    elif isinstance(alone, float):
        assert together == pytest.approx(alone, abs=2e-5)
    else:
        assert together == alone


@pytest.mark.cluster
@pytest.mark.slow
def test_tasks_on_ray_answer_together_as_alone(tmp_path: Path, models: dict[str, str], cluster: None) -> None:
    write_corpus(tmp_path / "in")
    every = tasks(models)
    result = execute(job_of(tmp_path, "together", every, engine="ray"))
    assert (result.manifest["rows"], result.manifest["dead"], result.manifest["padding"]) == (200, {}, 0)
    passes = result.manifest["passes"]
    assert sorted(map(len, passes)) == [1, 1, 9]
    assert ["half"] in passes  # another encoder
    assert ["masks"] in passes  # another tokenizer, because its texts have masks
    together = read_output(tmp_path / "together")
    for number, task in enumerate(every):
        execute(job_of(tmp_path, f"alone{number}", [task]))
        alone = read_output(tmp_path / f"alone{number}")
        assert alone["row"].equals(together["row"])
        for name in set(alone.column_names) - {"shard", "row"}:
            assert alone.schema.field(name).type == together.schema.field(name).type
            assert_answers_close(together[name].to_pylist(), alone[name].to_pylist())


def test_tasks_share_equal_encoders_and_tokenizers(models: dict[str, str]) -> None:
    every = [
        t for t in parse_tasks(tasks(models)) if t.name in ("entities", "label", "embedding", "layer", "half", "masks")
    ]
    names = [set(each) for each in check_tasks(every).tasks_by_pass]
    # the other encoder needs its own pass; so do masks, because they need their own tokenizer
    assert names == [{"entities", "label", "embedding", "layer"}, {"half"}, {"masks"}]


def parse_tasks(raw: list[dict[str, Any]]) -> list[Any]:
    return parse_job({"source": {"uri": "x"}, "tasks": raw, "sink": {"uri": "y"}}, "test").tasks


def test_one_pass_computes_each_sequence_once(models: dict[str, str]) -> None:
    three = [t for t in parse_tasks(tasks(models)) if t.name in ("entities", "label", "embedding")]
    texts = random_texts(60, 3, words=(1, 200))
    counts = []
    for some in (three, *([task] for task in three)):
        predict = PredictUnit(some, ComputeSpec(dtype="float32"))
        predict(TokenizeUnit(some)(rows(texts)))
        counts.append(predict.computed_tokens)
    assert counts[0] == max(counts[1:])  # all three tasks have the same windows


def test_the_corpus_is_read_once(tmp_path: Path, models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path / "in", 40)
    reads: list[str] = []
    read = Read.__call__

    def watched(self: Read, unit: Unit) -> pa.Table:
        reads.append(unit.name)
        return read(self, unit)

    monkeypatch.setattr(Read, "__call__", watched)
    job = job_of(tmp_path, "out", tasks(models)[:2])
    result = execute(job, on_start=lambda *_: reads.clear())  # the sample for the plan is read before
    assert sorted(reads) == sorted(unit.name for unit in result.plan.units)


def test_a_row_that_one_task_rejects_becomes_one_dead_letter(tmp_path: Path, models: dict[str, str]) -> None:
    texts = ["the war", "no peace", " ".join(["peace"] * 300), "the end", None]
    topics, options = ["a", None, "c", "d", "e"], [["a", "b"], ["a", "b"], ["a", "b"], ["only"], ["a", "b"]]
    write_shard(tmp_path / "in/a.parquet", texts, topic=topics, options=options)
    some = [
        {"task": "token-classification", "model": models["ner"]},
        {"task": "text-classification", "model": models["label"], "text_pair": "topic"},
        {"task": "multiple-choice", "model": models["choice"], "choices": "options", "long_texts": "truncate"},
    ]
    manifest = execute(job_of(tmp_path, "out", some)).manifest
    assert manifest["rows"] == 1
    dead = read_output(tmp_path / "out", "dead").to_pylist()
    assert [(d["row"], d["stage"], d["reason"]) for d in dead] == [
        (1, "read", "null_text"),
        (2, "predict", "text_too_long"),
        (3, "predict", "too_few_choices"),
        (4, "read", "null_text"),
    ]
    assert dead[0]["message"] == "column topic is null"
    assert manifest["labels"]["entities"].keys() <= {"PER", "LOC", "ORG"}


def test_answers_have_the_documented_types(tmp_path: Path, models: dict[str, str]) -> None:
    write_corpus(tmp_path / "in", 20)
    execute(job_of(tmp_path, "out", tasks(models)))
    schema = read_output(tmp_path / "out").schema
    assert schema.field("embedding").type == pa.list_(pa.float32(), 48)
    assert schema.field("half").type == pa.list_(pa.float16(), 48)
    assert schema.field("subject_truncated").type == pa.bool_()
    assert str(schema.field("label").type) == "struct<label: string, score: float>"
    vectors = np.stack(read_output(tmp_path / "out")["embedding"].to_pylist())
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_tasks_that_share_a_tokenizer_keep_their_own_limits(tmp_path: Path, models: dict[str, str]) -> None:
    """The models have equal encoders and vocabularies. The first takes 128 tokens, the second takes 40."""
    short = tmp_path / "short"
    shutil.copytree(models["label"], short)
    settings = json.loads((short / "tokenizer_config.json").read_text())
    (short / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 40}))
    label = {"task": "text-classification", "model": str(short), "long_texts": "truncate"}
    two = parse_tasks([{"task": "token-classification", "model": models["ner"]}, label])
    assert check_tasks(two).tasks_by_pass == [["entities", "label"]]
    texts = [" ".join(["peace", "war"] * n) for n in (5, 30, 300)]
    together, alone = answers(two, texts), answers(two[1:], texts)
    assert together["label_truncated"].to_pylist() == [False, True, True]
    assert_answers_close(together["label"].to_pylist(), alone["label"].to_pylist())


def test_one_uri_in_two_stores_names_two_models(tmp_path: Path, models: dict[str, str]) -> None:
    kind = {"task": "text-classification", "model": "dir://label"}
    for name, seed in (("a", 0), ("b", 5)):
        make_checkpoint(tmp_path / name / "label", ("x", "y"), head="sequence-classification", seed=seed)
    places = [{"path": str(tmp_path / name), "target_protocol": "file"} for name in ("a", "b")]
    two = parse_tasks([{**kind, "name": f"n{i}", "storage_options": place} for i, place in enumerate(places)])
    together = answers(two, ["the war", "peace"])
    for task in two:
        assert_answers_close(
            together[task.name].to_pylist(), answers([task], ["the war", "peace"])[task.name].to_pylist()
        )
    assert together["n0"].to_pylist() != together["n1"].to_pylist()


def test_a_second_text_that_fills_the_model_needs_few_tokens(models: dict[str, str]) -> None:
    raw = [
        {"task": "text-classification", "model": models["label"], "text_pair": "q", "long_texts": "mean"},
        {"task": "question-answering", "model": models["qa"], "question_column": "q"},
    ]
    texts, second = (
        [" ".join(["peace"] * 1000), "war", "war"],
        [" ".join(["who"] * 122), " ".join(["who"] * 120), "who"],
    )
    for task, reason in zip(parse_tasks(raw), ("text_pair_too_long", "question_too_long"), strict=True):
        table = answers(task, texts, q=second)
        assert reasons(table) == [reason, None, None]  # a second text that leaves space is answered
        assert table["_window_tokens"][0].as_py() < 3000


def test_a_text_of_masks_only_needs_little_memory(models: dict[str, str]) -> None:
    (task,) = parse_tasks([{"task": "fill-mask", "model": models["mlm"], "top_k": 1}])
    seen: list[int] = []
    predict = PredictUnit([task], ComputeSpec(dtype="float32"))
    predict.predictors[0].heads[0].register_forward_hook(lambda _, __, logits: seen.append(len(logits)))
    table = predict(TokenizeUnit([task])(rows([" ".join(["[MASK]"] * 5000)])))
    assert len(table["masks"][0]) == sum(seen) == 5000
    assert max(seen) <= 1024  # each row of logits is as wide as the vocabulary


def test_a_row_that_is_rejected_in_one_column_is_not_computed(tmp_path: Path, models: dict[str, str]) -> None:
    write_shard(tmp_path / "in/a.parquet", [" ".join(["peace"] * 1500), "war"], topic=[None, "x"])
    pair = {"task": "text-classification", "model": models["label"], "text_pair": "topic", "long_texts": "mean"}
    manifest = execute(job_of(tmp_path, "out", [pair])).manifest
    assert (manifest["rows"], manifest["dead"]) == (1, {"null_text": 1})
    assert manifest["computed_tokens"] < 20
