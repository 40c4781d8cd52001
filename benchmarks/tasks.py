#!/usr/bin/env python3
"""Benchmark of the cost of several tasks in one job: python benchmarks/tasks.py

The tasks are NER, classification and embeddings over the example's corpus, from texts to answers, with random
DistilBERTs: once with one encoder for all, once with three encoders. The benchmark measures each task alone, all
together, and tokenizing and the forward passes alone, in turn in one run. It measures CPU seconds of one thread, so
that other work on the machine has little effect.
Targets: with a shared encoder, all together take < 1.15 x the most expensive task. With three encoders, all together
take <= tokenizing once + the sum of the forward passes.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import torch
import transformers
from harness import EXAMPLES, VOCABULARY, make_config

from distilray.operators.predict import PredictUnit
from distilray.operators.rows import schema as s
from distilray.operators.tasks import Embeddings, TextClassification, TokenClassification
from distilray.operators.tasks.task import Task
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec

HEADS = {
    "ner": transformers.DistilBertForTokenClassification,
    "label": transformers.DistilBertForSequenceClassification,
    "base": transformers.DistilBertModel,
}


def make_models(folder: Path, dim: int, layers: int, *, shared: bool) -> list[Task]:
    """Make three random checkpoints over the example's vocabulary, with one encoder or with three."""
    config = make_config(dim, layers, num_labels=7)
    encoder = transformers.DistilBertModel(config)
    for name, head in HEADS.items():
        model = head(config)
        if shared:
            model.base_model.load_state_dict(encoder.state_dict())
        model.save_pretrained(folder / name)
        shutil.copy(VOCABULARY, folder / name)
    return [
        TokenClassification(model=str(folder / "ner")),
        TextClassification(model=str(folder / "label"), long_texts="mean"),
        Embeddings(model=str(folder / "base"), long_texts="mean"),
    ]


def rows(words: int, documents: int) -> pa.Table:
    """Make a table of passages of the corpus, as `read` returns them."""
    texts = ds.dataset(EXAMPLES / "corpus").to_table(columns=["text"])["text"].to_pylist()
    source = " ".join(texts).split(" ")
    passages = [" ".join(source[i * words : (i + 1) * words]) for i in range(documents)]
    dead = dict.fromkeys(s.DEATH, pa.nulls(documents, pa.string()))
    return pa.table({s.TEXT: passages, **dead})


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def forward(predict: PredictUnit, table: pa.Table) -> float:
    """Measure CPU seconds inside the encoders and the heads alone."""
    spent: list[float] = []

    def timing(inner: Callable[..., object], *args: object) -> object:
        start = time.process_time()
        result = inner(*args)
        spent.append(time.process_time() - start)
        return result

    for predictor in predict.predictors:
        predictor._forward = partial(timing, predictor._forward)  # type: ignore[method-assign]
    predict(table)
    for predictor in predict.predictors:
        del predictor._forward
    return sum(spent)


def measure(tasks: Sequence[Task], table: pa.Table, repeats: int) -> dict[str, float]:
    """Measure the median CPU seconds of each task alone, of all together, and of their parts."""
    compute = ComputeSpec(dtype="float32", threads=1)
    task_sets = {task.name: [task] for task in tasks} | {"together": list(tasks)}
    stages = {name: (TokenizeUnit(task_set), PredictUnit(task_set, compute)) for name, task_set in task_sets.items()}
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        for name, (tokenize, predict) in stages.items():
            seconds.setdefault(name, []).append(timed(lambda t=tokenize, p=predict: p(t(table))))
        tokens = stages["together"][0](table)
        seconds.setdefault("tokenize", []).append(timed(lambda: stages["together"][0](table)))
        for task in tasks:
            seconds.setdefault(f"forward {task.name}", []).append(forward(stages[task.name][1], tokens))
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--words", type=int, default=300)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = rows(args.words, args.documents)
    results = {}
    for shared in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            tasks = make_models(Path(folder), args.dim, args.layers, shared=shared)
            seconds = measure(tasks, table, args.repeats)
        alone = [seconds[task.name] for task in tasks]
        parts = seconds["tokenize"] + sum(seconds[f"forward {task.name}"] for task in tasks)
        kind = "one encoder" if shared else "three encoders"
        print(kind, {name: round(value, 2) for name, value in seconds.items()})
        print(
            f"  together / most expensive alone {seconds['together'] / max(alone):.2f}, "
            f"/ sum of all alone {seconds['together'] / sum(alone):.2f}"
        )
        print(f"  together / (tokenizing once + forward passes) {seconds['together'] / parts:.2f}")
        results[kind] = {
            **seconds,
            "over_dearest": seconds["together"] / max(alone),
            "over_parts": seconds["together"] / parts,
        }
    print(json.dumps(results))


if __name__ == "__main__":
    main()
