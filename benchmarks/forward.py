#!/usr/bin/env python3
"""Is the packed pass cheaper than a padded one, and which token budget is best? python benchmarks/forward.py

A random DistilBERT-base, passages of the example's corpus with log-normal lengths, the same for every rival, turn by turn
in one run. Rivals: Transformers, batches of 32 padded to the longest (as in Ray's documentation); the same, texts sorted
by length; the packed pass at several budgets. Ceiling: the matrix product of the machine at the model's own shape.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds
import torch
from transformers import DistilBertConfig, DistilBertForTokenClassification

from distilray.model.checkpoint import Checkpoint
from distilray.model.predictor import Head, Predictor, Reading
from distilray.model.sequences import SINGLE, Readout, Specials, single
from distilray.model.weights import read_weights

BUDGETS = (1024, 2048, 4096, 8192, 16384)
SPECIALS = Specials(cls_id=101, sep_id=102)


def lengths_of_passages(count: int, mean: float) -> np.ndarray:
    """Log-normal lengths in tokens, as measured on real corpora, up to the model's limit."""
    draw = np.random.default_rng(0).lognormal(np.log(mean) - 0.5, 1.0, count)
    return np.clip(draw, 4, 510).astype(np.int64)


def corpus_ids(total: int) -> np.ndarray:
    """Word ids of real text, hashed into the vocabulary: only their number matters to the time."""
    folder = Path(__file__).resolve().parent.parent / "examples/corpus"
    words = " ".join(ds.dataset(folder).to_table(columns=["text"])["text"].to_pylist()).split()
    return np.resize(np.array([1000 + hash(word) % 29000 for word in words]), total).astype(np.int64)


def padded(model: torch.nn.Module, texts: list[torch.Tensor], batch: int) -> None:
    for i in range(0, len(texts), batch):
        ids = torch.nn.utils.rnn.pad_sequence(texts[i : i + batch], batch_first=True)
        lengths = torch.tensor([len(text) for text in texts[i : i + batch]])
        model(input_ids=ids, attention_mask=(torch.arange(ids.shape[1]) < lengths[:, None]).long())


def matmul_rate(tokens: int = 4096, dim: int = 768, hidden: int = 3072) -> float:
    """FLOP/s of float32 [tokens, dim] x [dim, hidden]."""
    a, b = torch.randn(tokens, dim), torch.randn(dim, hidden)
    return 2 * tokens * dim * hidden / timed(lambda: a @ b)


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=96)
    parser.add_argument("--mean", type=float, default=134)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    lengths = lengths_of_passages(args.documents, args.mean)
    ids = corpus_ids(int(lengths.sum()))
    first = np.cumsum(lengths) - lengths
    texts = [
        torch.tensor([SPECIALS.cls_id, *ids[a : a + n], SPECIALS.sep_id]) for a, n in zip(first, lengths, strict=True)
    ]
    tokens = int(lengths.sum()) + SINGLE * len(lengths)
    with tempfile.TemporaryDirectory() as folder:
        hf = DistilBertForTokenClassification(DistilBertConfig(num_labels=9)).eval()
        hf.save_pretrained(folder)
        weights = read_weights(Checkpoint(folder))
    heads = [Head("token-classification", weights, weights.config.n_layers)]
    predictors = {budget: Predictor(weights, heads, SPECIALS, "float32", tokens_per_pack=budget) for budget in BUDGETS}
    sequences, every = single(first, lengths), np.arange(len(lengths))
    reading = Reading(Readout(every, np.ones_like(lengths), lengths))
    rivals: dict[str, Callable[[], object]] = {
        "Transformers fp32, padded batches of 32": lambda: padded(hf, texts, 32),
        "Transformers fp32, sorted": lambda: padded(hf, sorted(texts, key=len), 32),
    }
    for budget, predictor in predictors.items():
        rivals[f"packed fp32, {budget} tokens"] = lambda predictor=predictor: predictor(ids, sequences, [reading])
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    peaks = [matmul_rate()]
    for _ in range(args.repeats):
        for name, work in rivals.items():
            seconds[name].append(timed(work))
            peaks.append(matmul_rate())

    peak = max(peaks)
    flops = tokens * 2 * 42.5e6 + 4 * 6 * 768 * float(((lengths + SINGLE) ** 2).sum())
    rate = {name: tokens / statistics.median(times) for name, times in seconds.items()}
    base = rate["Transformers fp32, padded batches of 32"]
    print(f"{tokens:,} tokens, {args.threads} thread(s); matrix product at best {peak / 1e9:.0f} GFLOP/s")
    for name, tokens_per_second in rate.items():
        share = flops / tokens * tokens_per_second / peak
        print(
            f"{name:42} {tokens_per_second:8,.0f} tokens/s {tokens_per_second / base:6.2f}x {share:6.0%} of the product"
        )
    print(json.dumps({"tokens": tokens, "threads": args.threads, "tokens_per_second": rate, "matmul_flops": peak}))


if __name__ == "__main__":
    main()
