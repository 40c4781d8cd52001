#!/usr/bin/env python3
"""Benchmark of the word cache against `tokenizers`: python benchmarks/tokenization.py

The texts are English prose and text in ninety languages. The benchmark measures CPU seconds of one thread, all ways in
turn in one run. The vocabulary is that of the NER example, which is mostly English. --model examples/models/qa, if
it is made, has the vocabulary of BERT.
Rivals: the library's encode_batch, which computes ids, offsets and word ids, without extracting them from its objects;
the same extracted as arrays, which is what a job needs and what distilray gives; and encode_batch_fast, which computes
no offsets, with its ids as an array.
distilray: with an empty cache; for new documents, after as many others; for documents that the cache has; and the
operator over a table.
Ceiling: a copy of the text and of its tokens, 16 bytes each, in memory.
Sentences repeat beyond 2 MB: --size 2000000 has only new text.
Target: 3 x encode_batch without extraction from an empty cache, 5 x from a full one.
"""

import os

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import corpora
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tokenizers

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.model.tokenizer.tokens import encode
from distilray.operators.rows import schema as s
from distilray.operators.tasks import Embeddings
from distilray.operators.tokenize import TokenizeUnit

MODEL = Path(__file__).resolve().parent.parent / "examples/models/ner"
BARE, WHOLE = "encode_batch", "encode_batch, arrays"
EMPTY, UNSEEN, SEEN = "ours, empty cache", "ours, unseen text", "ours, seen text"


def timed(work: Callable[[], object]) -> float:
    start = time.process_time()
    _kept = work()  # the time to free its memory does not count
    return time.process_time() - start


def ids_only(library: tokenizers.Tokenizer, texts: list[str]) -> np.ndarray:
    encodings = library.encode_batch_fast(texts, add_special_tokens=False)
    return np.fromiter(chain.from_iterable(e.ids for e in encodings), dtype=np.int32)


def measure(model: str, texts: pa.StringArray, repeats: int) -> dict[str, float]:
    """Measure the median tokens a CPU second of each way."""
    strings, half = texts.to_pylist(), len(texts) // 2
    warm = Tokenizer(Checkpoint(model))
    tokens = warm(texts)
    operator, table = TokenizeUnit([Embeddings(model=model, long_texts="mean")]), pa.table({s.TEXT: texts})
    operator(table)
    unseen = int(tokens.offsets[-1] - tokens.offsets[half])
    library = warm._tokenizer
    seconds: dict[str, list[float]] = {}
    for _ in range(repeats):
        cold, halfway = Tokenizer(Checkpoint(model)), Tokenizer(Checkpoint(model))
        halfway(texts.slice(0, half))
        memory = np.zeros(pc.sum(pc.binary_length(texts)).as_py() + 16 * len(tokens.input_ids), dtype=np.uint8)
        for name, count, work in (
            ("encode_batch_fast, ids", 1.0, lambda: ids_only(library, strings)),
            (BARE, 1.0, lambda: library.encode_batch(strings, add_special_tokens=False)),
            (WHOLE, 1.0, lambda: encode(library, strings)),
            (EMPTY, 1.0, lambda cold=cold: cold(texts)),
            (UNSEEN, unseen / len(tokens.input_ids), lambda halfway=halfway: halfway(texts.slice(half))),
            (SEEN, 1.0, lambda: warm(texts)),
            ("operator, seen text", 1.0, lambda: operator(table)),
            ("copy", 1.0, lambda memory=memory: memory.copy()),
        ):
            seconds.setdefault(name, []).append(timed(work) / count / len(tokens.input_ids))
    return {name: 1 / statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(MODEL), help="folder of the checkpoint whose tokenizer is measured")
    parser.add_argument("--size", type=int, default=8_000_000, help="bytes of each corpus")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    results: dict[str, object] = {}
    for corpus in (corpora.english, corpora.multilingual):
        texts = corpus(args.size)
        rates = measure(args.model, texts, args.repeats)
        print(f"{corpus.__name__}: {len(texts):,} documents, {args.size:,} bytes")
        for name, rate in rates.items():
            over = " ".join(f"{rate / rates[rival]:7.2f} x {rival}" for rival in (BARE, WHOLE))
            print(f"  {name:22} {rate:13,.0f} tokens/s a core {over} {rate / rates['copy']:7.1%} of a copy")
        results[corpus.__name__] = rates
    print(json.dumps({"model": args.model, "size": args.size, "tokens_per_second": results}))


if __name__ == "__main__":
    main()
