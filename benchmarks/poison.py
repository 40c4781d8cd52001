#!/usr/bin/env python3
"""Benchmark of the cost of poison rows: python benchmarks/poison.py

Of 10,000 rows one raises, one segfaults, one exhausts memory, one hangs and one gives NaN, all while predicting. The
benchmark runs the same corpus with and without these rows on Ray, each run in a process of its own, with the full-size
model. Every other row must be answered, and each poison row must become a dead letter with its reason.
Target: at most 2 times the time of the clean run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from corpora import english
from harness import VOCABULARY, make_model, write_corpus
from safetensors.torch import load_file, save_file

POISON = Path(__file__).resolve().parent.parent / "tests/poison"
KINDS = {"raises": "error", "segfaults": "crash", "exhausts memory": "out_of_memory", "hangs": "timeout"}
CHARACTERS = 160  # length of a text
EVERY = 10_000  # rows, one of each kind


def unused_word(texts: pa.Array) -> tuple[str, int]:
    """Find a word of the vocabulary that no text has, and its number."""
    used = set(" ".join(texts.to_pylist()).lower().split())
    words = VOCABULARY.read_text(encoding="utf-8").split("\n")
    return next((word, i) for i, word in enumerate(words) if len(word) > 5 and word.isalpha() and word not in used)


def set_to_nan(model: str, number: int) -> None:
    """Set the embedding of a word to NaN."""
    file = Path(model) / "model.safetensors"
    tensors = load_file(file)
    tensors["distilbert.embeddings.word_embeddings.weight"][number] = float("nan")
    save_file(tensors, file)


def poisoned(texts: pa.Array, word: str) -> tuple[pa.Array, dict[int, str]]:
    """Insert poison rows into the texts. Return the texts and the reason of each dead letter."""
    rows, reasons = texts.to_pylist(), {}
    kinds = {f"poison: predict {kind}": reason for kind, reason in KINDS.items()} | {f"so {word} it": "not_finite"}
    for first in range(0, len(rows), EVERY):
        for i, (text, reason) in enumerate(kinds.items()):
            row = min(first + 400 + 1900 * i, len(rows) - 1 - i)
            rows[row], reasons[row] = text, reason
    return pa.array(rows, pa.string()), reasons


def run(folder: Path, name: str, corpus: str, model: str, deadline: float) -> tuple[float, dict[int, str], int]:
    """Run a job. Return its seconds, the reasons of its dead letters by row, and the number of answered rows."""
    job: dict[str, Any] = {
        "source": {"uri": corpus},
        "tasks": [{"task": "token-classification", "model": model}],
        "sink": {"uri": str(folder / f"out-{name}")},
        "compute": {"deadline": deadline, "dtype": "float32", "tokens_per_pack": 4096},  # a pack takes seconds on a CPU
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(job))
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(POISON), os.environ.get("PYTHONPATH", "")]),
        "DISTILRAY_CACHE": str(folder / "cache"),
        # Ray kills a process that exhausts memory before the machine runs out of it
        "RAY_memory_usage_threshold": f"{_memory_used() + 0.2:.2f}",
    }
    start = time.perf_counter()
    command = [sys.executable, "-m", "distilray", "run", str(folder / f"{name}.yaml")]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    out = folder / f"out-{name}"
    dead = [row for file in out.glob("dead/*.parquet") for row in pq.read_table(file).to_pylist()]
    return seconds, {row["row"]: row["reason"] for row in dead}, pq.read_table(out / "data").num_rows


def _memory_used() -> float:
    """Return the share of this machine's memory that is in use."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    available, total = (int(lines[name].split()[0]) for name in ("MemAvailable", "MemTotal"))
    return 1 - available / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=EVERY)
    parser.add_argument("--model", default="full", choices=("full", "small", "tiny"))
    parser.add_argument("--deadline", type=float, default=20.0, help="seconds")
    arguments = parser.parse_args()
    texts = pc.utf8_slice_codeunits(english(arguments.rows * 1000).slice(0, arguments.rows), 0, CHARACTERS)
    word, number = unused_word(texts)
    bad, expected = poisoned(texts, word)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_model(folder / "model", arguments.model)
        set_to_nan(model, number)
        corpora = {
            kind: write_corpus(folder / kind, rows_of_kind, 1)
            for kind, rows_of_kind in (("clean", texts), ("bad", bad))
        }
        clean, _, rows = run(folder, "clean", corpora["clean"], model, arguments.deadline)
        print(f"clean     {clean:7.1f} s  {rows:,} rows answered")
        seconds, dead, answered = run(folder, "bad", corpora["bad"], model, arguments.deadline)
    right = dead == expected and answered == len(texts) - len(dead)
    print(
        f"poisoned  {seconds:7.1f} s  {answered:,} rows answered, {len(dead)} dead letters, "
        f"{'all' if right else 'NOT'} as expected"
    )
    print(f"{seconds / clean:.2f} times the clean run's time")
    print(json.dumps({"rows": rows, "clean": clean, "poisoned": seconds, "ratio": seconds / clean, "right": right}))
    if not right:
        sys.exit(1)


if __name__ == "__main__":
    main()
