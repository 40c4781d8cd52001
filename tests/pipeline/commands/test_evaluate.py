"""`distilray evaluate`: its figures equal those of seqeval, scikit-learn and SQuAD on the answers of `run`."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
import transformers
from seqeval.metrics import classification_report

from distilray.model.errors import MetricError
from distilray.pipeline import Job, JobError, Source, evaluate
from distilray.pipeline.cli.main import main
from distilray.pipeline.commands.run import execute
from distilray.pipeline.job.job import parse_job
from tests.support import IOB2, WORDS, make_checkpoint, random_texts, read_output, write_shard

LABELS = ("war", "peace", "money")


def corpus(folder: Path, count: int = 90, **columns: list) -> Path:
    write_shard(folder / "a.parquet", random_texts(count, 5, words=(3, 30)), row_group_size=20, **columns)
    return folder


def job_of(tmp_path: Path, task: dict[str, Any], engine: str = "local") -> Job:
    """Return a job with units of a few rows, so that counts are merged."""
    raw = {
        "source": {"uri": str(tmp_path / "in"), "keep": ["id"]},
        "tasks": [{"name": "answer", **task}],
        "sink": {"uri": str(tmp_path / "out")},
        "compute": {"engine": engine, "unit_bytes": 2000, "dtype": "float32"},
    }
    return parse_job(raw, "test")


def answers(job: Job) -> list[Any]:
    execute(job)
    return read_output(job.sink.uri)["answer"].to_pylist()


def word_spans(text: str, draw: random.Random) -> list[dict[str, Any]]:
    """Return entities that start and end with words between spaces."""
    spans, at, words = [], 0, text.split(" ")
    starts = np.cumsum([0, *(len(word) + 1 for word in words)])
    while at < len(words):
        size = draw.choice([1, 1, 2, 3])
        if draw.random() < 0.3 and at + size <= len(words):
            end = int(starts[at + size] - 1)
            spans.append({"start": int(starts[at]), "end": end, "label": draw.choice(["PER", "LOC", "ORG"])})
        at += size
    return spans


def tags(text: str, spans: list[dict[str, Any]]) -> list[str]:
    """Return one tag for each character. Spans with equal characters have equal tags."""
    out = ["O"] * len(text)
    for span in spans:
        out[span["start"]] = f"B-{span['label']}"
        out[span["start"] + 1 : span["end"]] = [f"I-{span['label']}"] * (span["end"] - span["start"] - 1)
    return out


def test_figures_of_entities_equal_those_of_seqeval(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", IOB2)
    draw = random.Random(1)
    texts = [" ".join(draw.choice(WORDS) for _ in range(draw.randint(1, 30))) for _ in range(60)]
    gold = [word_spans(text, draw) for text in texts]
    write_shard(tmp_path / "in/a.parquet", texts, row_group_size=20, gold=gold, id=list(range(60)))
    job = job_of(tmp_path, {"task": "token-classification", "model": str(model), "gold": "gold", "threshold": 0.35})
    found = answers(job)
    figures = evaluate(job)["answer"]
    # some gold is right: the first answers become gold, too
    report = classification_report(
        [tags(text, spans) for text, spans in zip(texts, gold, strict=True)],
        [tags(text, spans) for text, spans in zip(texts, found, strict=True)],
        output_dict=True,
        zero_division=0,
    )
    for name, row in (("micro", "micro avg"), ("macro", "macro avg"), ("weighted", "weighted avg")):
        expected = {key.replace("f1-score", "f1"): value for key, value in report[row].items()}
        assert figures[name] == pytest.approx(expected)
    assert figures["labels"]["PER"]["support"] == report["PER"]["support"]
    assert figures["micro"]["f1"] > 0
    assert figures["corpus"] == {"judged": 60, "without_gold": 0, "dead": 0, "unread_shards": 0}


def test_the_loss_of_entities_equals_that_of_transformers(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", IOB2)
    texts = ["john met mary in new york", "peace", "lincolnton said washington"]
    gold = [[(0, 4, "PER"), (9, 13, "PER"), (17, 25, "LOC")], [], [(0, 10, "LOC")]]
    spans = [[dict(zip(("start", "end", "label"), span, strict=True)) for span in row] for row in gold]
    write_shard(tmp_path / "in/a.parquet", texts, gold=spans, id=[1, 2, 3])
    job = job_of(tmp_path, {"task": "token-classification", "model": str(model), "gold": "gold"})
    words = [
        ["B-PER", "O", "B-PER", "O", "B-LOC", "I-LOC"],
        ["O"],
        ["B-LOC", "O", "O"],
    ]
    hf = transformers.AutoModelForTokenClassification.from_pretrained(model).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    inputs = tokenizer(texts, return_tensors="pt", padding=True)
    labels = torch.full(inputs.input_ids.shape, -100)
    for row, names in enumerate(words):
        ids = inputs.word_ids(row)
        for at, word in enumerate(ids):
            if word is not None and word != ids[at - 1]:
                labels[row, at] = IOB2.index(names[word])
    with torch.inference_mode():
        expected = hf(**inputs, labels=labels).loss.item()
    assert evaluate(job)["answer"]["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["names", "indices"])
def test_figures_of_labels_equal_those_of_scikit_learn(tmp_path: Path, kind: str) -> None:
    model = make_checkpoint(tmp_path / "model", LABELS, head="sequence-classification")
    gold = np.random.default_rng(0).integers(0, 3, 90)
    column = gold.tolist() if kind == "indices" else [None if i % 30 == 7 else LABELS[g] for i, g in enumerate(gold)]
    corpus(tmp_path / "in", gold=column, id=list(range(90)))
    job = job_of(tmp_path, {"task": "text-classification", "model": str(model), "gold": "gold"})
    found = [row["label"] for row in answers(job)]
    figures = evaluate(job)["answer"]
    kept = [i for i in range(90) if column[i] is not None]
    expected, given = [LABELS[gold[i]] for i in kept], [found[i] for i in kept]
    assert figures["accuracy"] == sk.accuracy_score(expected, given)
    assert figures["macro"]["f1"] == pytest.approx(sk.f1_score(expected, given, average="macro"))
    report = sk.classification_report(expected, given, output_dict=True, zero_division=0)
    for label in LABELS:
        assert figures["labels"][label]["f1"] == pytest.approx(report[label]["f1-score"])
    assert figures["corpus"] == {"judged": len(kept), "without_gold": 90 - len(kept), "dead": 0, "unread_shards": 0}


def test_figures_of_several_labels_and_numbers(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    flags, numbers = draw.random((90, 3)) < 0.4, draw.normal(size=90)
    lists = [[label for label, has in zip(LABELS, row, strict=True) if has] for row in flags]
    corpus(tmp_path / "in", gold=lists, number=numbers.tolist(), id=list(range(90)))
    kind = {"head": "sequence-classification"}
    many = make_checkpoint(tmp_path / "many", LABELS, problem_type="multi_label_classification", **kind)
    one = make_checkpoint(tmp_path / "one", ("n",), problem_type="regression", **kind)
    task = {"task": "text-classification", "model": str(many), "gold": "gold", "threshold": 0.3}
    job = job_of(tmp_path, task)
    found = np.array([[label in {a["label"] for a in row} for label in LABELS] for row in answers(job)])
    figures = evaluate(job)["answer"]
    assert figures["micro"]["f1"] == pytest.approx(sk.f1_score(flags, found, average="micro"))
    assert figures["subset_accuracy"] == sk.accuracy_score(flags, found)
    job = job_of(tmp_path / "n", {"task": "text-classification", "model": str(one), "gold": "number"})
    job = job.model_copy(update={"source": Source(uri=str(tmp_path / "in"))})
    predicted = np.array([row["score"] for row in answers(job)])
    figures = evaluate(job)["answer"]
    assert figures["mse"] == figures["loss"] == pytest.approx(sk.mean_squared_error(numbers.astype("f4"), predicted))
    assert figures["pearson"] == pytest.approx(np.corrcoef(numbers.astype("f4"), predicted)[0, 1])


def test_answers_are_judged_by_the_rules_of_squad(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", head="question-answering", positions=64)
    texts = random_texts(60, 8, words=(3, 120))
    questions = ["who said that", "where is the bank", "what is peace"] * 20
    draw, gold = random.Random(2), []
    for text in texts:
        words = [word for word in text.split(" ") if word]
        chosen = draw.sample(words, min(len(words), draw.choice([0, 1, 2])))
        gold.append([{"text": word, "start": text.find(word)} for word in chosen])
    write_shard(tmp_path / "in/a.parquet", texts, row_group_size=20, gold=gold, question=questions, id=list(range(60)))
    task = {"task": "question-answering", "model": str(model), "question_column": "question", "gold": "gold"}
    job = job_of(tmp_path, {**task, "no_answer": True})
    found = [row[0]["text"] for row in answers(job)]
    figures = evaluate(job)["answer"]
    exact = np.mean([text in ([g["text"] for g in golds] or [""]) for text, golds in zip(found, gold, strict=True)])
    assert figures["total"] == 60
    assert figures["exact"] >= 100 * exact  # the rules ignore case, punctuation and articles
    assert figures["NoAns_total"] == sum(not golds for golds in gold)
    best = [{"text": text, "start": source.find(text)} for text, source in zip(found, texts, strict=True)]
    write_shard(
        tmp_path / "in/a.parquet", texts, gold=[[b] if b["text"] else [] for b in best], question=questions, id=texts
    )
    assert evaluate(job)["answer"]["exact"] == evaluate(job)["answer"]["f1"] == 100


def test_figures_of_masks_and_choices(tmp_path: Path) -> None:
    mlm = make_checkpoint(tmp_path / "mlm", head="masked-lm", positions=64)
    texts = ["the [MASK] of america", "no mask at all", " ".join(["peace"] * 200) + " [MASK] and [MASK]", "a [MASK]"]
    gold = [["president"], [], ["war", "peace"], None]
    write_shard(tmp_path / "in/a.parquet", texts, gold=gold, id=list(range(4)))
    job = job_of(tmp_path, {"task": "fill-mask", "model": str(mlm), "gold": "gold"})
    figures = evaluate(job)["answer"]
    assert figures["corpus"] == {"judged": 2, "without_gold": 1, "dead": 1, "unread_shards": 0}
    assert (figures["tokens"], figures["perplexity"]) == (3, pytest.approx(np.exp(figures["loss"])))
    write_shard(tmp_path / "in/a.parquet", texts[:1], gold=gold[:1], id=[1])
    hf = transformers.AutoModelForMaskedLM.from_pretrained(mlm).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(mlm)
    inputs = tokenizer(texts[0], return_tensors="pt")
    is_mask = inputs.input_ids == tokenizer.mask_token_id
    labels = torch.where(is_mask, tokenizer.convert_tokens_to_ids("president"), -100)
    with torch.inference_mode():
        expected = hf(**inputs, labels=labels).loss.item()
    assert evaluate(job)["answer"]["loss"] == pytest.approx(expected, rel=1e-5)

    choice = make_checkpoint(tmp_path / "mc", head="multiple-choice")
    texts, draw = random_texts(40, 3, words=(1, 9)), random.Random(4)
    choices = [draw.sample(WORDS, draw.randint(2, 5)) for _ in texts]
    right = [draw.randrange(len(row)) for row in choices]
    write_shard(tmp_path / "in/a.parquet", texts, gold=right, choices=choices, id=right)
    job = job_of(tmp_path / "c", {"task": "multiple-choice", "model": str(choice), "gold": "gold"})
    job = job.model_copy(update={"source": Source(uri=str(tmp_path / "in"))})
    found = answers(job)
    figures = evaluate(job)["answer"]
    assert figures["accuracy"] == np.mean([a["index"] == r for a, r in zip(found, right, strict=True)])
    nll = [-np.log(a["scores"][r]) for a, r in zip(found, right, strict=True)]
    assert figures["loss"] == pytest.approx(np.mean(nll), rel=1e-5)


def test_zero_shot_counts_dead_letters(tmp_path: Path) -> None:
    verdicts = ("contradiction", "neutral", "entailment")
    nli = make_checkpoint(tmp_path / "nli", verdicts, head="sequence-classification", positions=200)
    texts = [*random_texts(30, 2, words=(1, 9)), " ".join(["peace"] * 300), None]
    gold = [WORDS[i % 2 + 18] for i in range(32)]
    write_shard(tmp_path / "in/a.parquet", texts, gold=gold, id=list(range(32)))
    job = job_of(
        tmp_path, {"task": "zero-shot-classification", "model": str(nli), "gold": "gold", "labels": WORDS[18:20]}
    )
    found = [row[0]["label"] for row in answers(job)]
    figures = evaluate(job)["answer"]
    assert figures["corpus"] == {"judged": 30, "without_gold": 0, "dead": 2, "unread_shards": 0}
    assert figures["accuracy"] == sk.accuracy_score(gold[:30], found)


@pytest.mark.cluster
@pytest.mark.slow
def test_both_engines_and_the_command_give_the_same_figures(
    tmp_path: Path, cluster: None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make_checkpoint(tmp_path / "model", LABELS, head="sequence-classification")
    gold = [LABELS[i % 3] for i in range(90)]
    corpus(tmp_path / "in", gold=gold, id=gold)
    task = {"task": "text-classification", "model": str(model), "gold": "gold"}
    local = evaluate(job_of(tmp_path, task))
    ray = evaluate(job_of(tmp_path, task, engine="ray"))
    assert ray["answer"]["confusion"] == local["answer"]["confusion"]
    assert ray["answer"]["loss"] == pytest.approx(local["answer"]["loss"], rel=1e-6)
    path = tmp_path / "job.json"  # JSON is YAML
    raw = job_of(tmp_path, task).description()
    raw["tasks"][0]["gold"] = "gold"
    path.write_text(json.dumps(raw))
    assert main(["evaluate", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answer"]["accuracy"] == local["answer"]["accuracy"]
    assert main(["evaluate", str(path)]) == 0
    assert "accuracy" in capsys.readouterr().out
    raw["tasks"][0]["gold"] = "id"
    corpus(tmp_path / "in", gold=gold, id=["love"] * 90)
    path.write_text(json.dumps({**raw, "compute": {**raw["compute"], "engine": "ray"}}))
    assert main(["evaluate", str(path)]) == 2  # the worker's own error, without a traceback
    error = capsys.readouterr().err
    assert "gold column id has love; expected one of the model's war, peace, money" in error
    assert "Traceback" not in error


def test_gold_may_be_numbers_if_all_labels_are_numbers(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", ("1", "2", "3"), head="sequence-classification")
    corpus(tmp_path / "in", 20, gold=[1, 2, 3, 3] * 5, id=list(range(20)))
    figures = evaluate(job_of(tmp_path, {"task": "text-classification", "model": str(model), "gold": "gold"}))["answer"]
    assert {label: row["support"] for label, row in figures["labels"].items()} == {"1": 5, "2": 5, "3": 10}


def test_unsuitable_gold_is_an_error(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", LABELS, head="sequence-classification")
    corpus(tmp_path / "in", 20, gold=["love"] * 20, number=[0.5] * 20, id=list(range(20)))
    task = {"task": "text-classification", "model": str(model)}
    with pytest.raises(MetricError, match="gold column gold has love; expected one of the model's war, peace, money"):
        evaluate(job_of(tmp_path, {**task, "gold": "gold"}))
    with pytest.raises(MetricError, match="gold column number: expected labels: strings or whole numbers, got double"):
        evaluate(job_of(tmp_path, {**task, "gold": "number"}))
    with pytest.raises(JobError, match="column missing is missing"):
        evaluate(job_of(tmp_path, {**task, "gold": "missing"}))
    with pytest.raises(JobError, match="no task has a gold column"):
        evaluate(job_of(tmp_path, task))


@pytest.mark.parametrize(
    ("task", "gold", "message"),
    [
        ("ner", [[{"start": -3, "end": 3, "label": "LOC"}]], "start < end in characters.*for a text of 7 characters"),
        ("ner", [[{"start": 0, "end": 8, "label": "LOC"}]], "start < end in characters.*for a text of 7 characters"),
        ("ner", [[{"start": 0, "end": 3, "label": None}]], "got a null inside"),
        ("ner", [[{"start": "0", "end": "3", "label": "LOC"}]], "expected lists of structs with label"),
        (
            "ner",
            [[{"start": 0, "end": 3, "label": "FOOD"}]],
            "gold has an entity FOOD, but the model has only the labels O",
        ),
        ("many", [["war", None]], "got a null inside"),
        ("many", ["war"], "expected lists of labels, got string"),
        ("one", [[1.0, 2.0]], "expected numbers"),
        ("one", ["1.5"], "expected numbers"),
        ("mlm", [["peace", "war"]], "a token for each mask"),
        ("mlm", [[None]], "got a null inside"),
        ("mlm", [["peacelike"]], "has peacelike; expected one of the model's .* more"),
        ("qa", [[{"text": "war", "start": 4}, {"text": "the", "start": None}]], "got a null inside"),
        ("qa", [[{"text": "a long answer", "start": 2}]], "expected lists of structs with text and start"),
        ("qa", [{"text": ["war"]}], "SQuAD's struct"),
        ("qa", [{"text": ["war"], "answer_start": [1, 2]}], "SQuAD's struct"),
        ("qa", ["war"], "expected lists of structs with text and start"),
        ("choice", ["0"], "expected whole numbers, got string"),
        ("choice", [7], "gold of row 0 is 7, expected 0 to 1"),
    ],
)
def test_gold_of_another_form_is_an_error(tmp_path: Path, task: str, gold: list, message: str) -> None:
    kind = "sequence-classification"
    made: dict[str, dict[str, Any]] = {
        "ner": {"labels": IOB2},
        "many": {"labels": LABELS, "head": kind, "problem_type": "multi_label_classification"},
        "one": {"labels": ("n",), "head": kind},
        "mlm": {"head": "masked-lm"},
        "qa": {"head": "question-answering"},
        "choice": {"head": "multiple-choice"},
    }
    names = {"ner": "token-classification", "mlm": "fill-mask", "qa": "question-answering", "choice": "multiple-choice"}
    model = make_checkpoint(tmp_path / "model", **made[task])
    raw = {"task": names.get(task, "text-classification"), "model": str(model), "gold": "gold"}
    raw |= {"questions": ["who"]} if task == "qa" else {}
    text = "a [MASK]" if task == "mlm" else "the war"
    write_shard(tmp_path / "in/a.parquet", [text], gold=gold, id=[1], choices=[["a", "b"]])
    with pytest.raises(MetricError, match=message):
        evaluate(job_of(tmp_path, raw))


def test_unreadable_shards_are_counted(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", LABELS, head="sequence-classification")
    corpus(tmp_path / "in", 20, gold=["war"] * 20, id=list(range(20)))
    write_shard(tmp_path / "in/b.parquet", ["without gold"], id=[1])
    task = {"task": "text-classification", "model": str(model), "gold": "gold"}
    figures = evaluate(job_of(tmp_path, task))["answer"]
    assert figures["corpus"] == {"judged": 20, "without_gold": 0, "dead": 0, "unread_shards": 1}
    corpus(tmp_path / "in", 0, gold=[], id=[])
    with pytest.raises(JobError, match="no rows to evaluate in .*in; 1 shards could not be read, such as .*b.parquet"):
        evaluate(job_of(tmp_path, task))


def test_gold_may_be_a_hive_key_with_the_name_of_the_task(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "model", LABELS, head="sequence-classification")
    for label in LABELS:
        write_shard(tmp_path / f"in/answer={label}/a.parquet", random_texts(10, 4), id=list(range(10)))
    task = {"task": "text-classification", "model": str(model), "gold": "answer"}
    figures = evaluate(job_of(tmp_path, task))["answer"]
    assert [figures["labels"][label]["support"] for label in LABELS] == [10, 10, 10]
