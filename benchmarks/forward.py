#!/usr/bin/env python3
"""Benchmark of the packed pass against the padded passes of tuned rivals: python benchmarks/forward.py

All compute the same documents of English prose with one random DistilBERT-base for token classification, in turn in one
run, on a CPU.
The recipe: Transformers in float32, batches of 32 in the given order, padded to the longest (from Ray's documentation).
The other rivals sort by length and use their best batch size: Transformers in float32, and in bfloat16 if the chip has
bfloat16 units; ONNX Runtime; OpenVINO in float32 and bfloat16, for latency or throughput, whichever is faster.
distilray: a Predictor with default settings.
Ceiling: matrix products of the dtype of distilray, the best measured between all turns.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from corpora import MEAN_CHARS
from gpu_setup import Setup, in_turn, make_setup, seconds
from rivals import Rival, check_installed, onnx_rival, openvino_rivals, padded, transformers_rival
from torch import Tensor

from distilray.model.inference.device import choose_dtype

CPU = torch.device("cpu")
RECIPE, OURS = "Transformers fp32, padded batches of 32", "distilray"
BATCHES = (4, 8, 16, 32)


class Peak:
    """The best rate of matrix products at the model's shapes, in FLOP/s, over all measurements."""

    def __init__(self, dtype: torch.dtype, dim: int, hidden: int) -> None:
        self.best = 0.0
        self.products = [(torch.randn(2048, dim, dtype=dtype), torch.randn(dim, n, dtype=dtype)) for n in (dim, hidden)]
        self.outputs = [a @ b for a, b in self.products]

    def measure(self) -> None:
        for (a, b), out in zip(self.products, self.outputs, strict=True):
            spent = seconds(partial(torch.mm, a, b, out=out), CPU)
            self.best = max(self.best, 2 * a.shape[0] * b.numel() / spent)


def make_documents(folder: str, documents: int, quick: bool) -> Setup:
    """Make `documents` windows in an arbitrary order."""
    setup = make_setup(folder, CPU, 2 * documents * MEAN_CHARS, quick)
    if len(setup.sequences.first) < documents:
        raise ValueError(f"expected {documents} windows of text, got {len(setup.sequences.first)}")
    return replace(setup, sequences=setup.sequences.take(np.arange(documents)))


def tuned(rivals: dict[str, Rival], texts: Sequence[Tensor], sizes: Sequence[int]) -> tuple[str, Callable[[], object]]:
    """Find the fastest way and batch size of a rival over texts in order of length. The first pass does not count."""
    ways = {
        f"{name} batches of {size}".strip(): partial(rival, padded(texts, size))
        for name, rival in rivals.items()
        for size in sizes
    }
    times = in_turn(ways, CPU, 1)
    best = min(times, key=times.__getitem__)
    return best, ways[best]


def make_rivals(
    setup: Setup, texts: Sequence[Tensor], threads: int, sizes: Sequence[int]
) -> dict[str, Callable[[], object]]:
    """Make the rivals by name. All but the recipe take the texts in order of length."""
    folder, ordered = setup.folder, sorted(texts, key=len)
    fp32 = transformers_rival(folder, torch.float32)
    rivals: dict[str, dict[str, Rival]] = {
        "Transformers fp32": {"": fp32},
        "ONNX Runtime fp32": {"": onnx_rival(folder, threads)},
        "OpenVINO fp32": openvino_rivals(folder, threads, "f32"),
    }
    if choose_dtype("auto", CPU) == torch.bfloat16:
        rivals["Transformers bf16"] = {"": transformers_rival(folder, torch.bfloat16)}
        rivals["OpenVINO bf16"] = openvino_rivals(folder, threads, "bf16")
    else:
        print("this chip has no bfloat16 units: Transformers bf16 and OpenVINO bf16 do not run")
    best_ways: dict[str, Callable[[], object]] = {RECIPE: partial(fp32, padded(texts, 32))}
    for name, ways in rivals.items():
        best, work = tuned(ways, ordered, sizes)
        best_ways[f"{name}, sorted, {best}"] = work
    return best_ways


def largest_difference(work: Callable[[], object], texts: Sequence[Tensor], expected: Sequence[np.ndarray]) -> float:
    """Compute the largest difference between a rival's logits and the expected ones of distilray."""
    rows = [row for batch in work() for row in batch]  # type: ignore[attr-defined]
    return max(
        float(np.abs(row[1 : len(text) - 1] - logits).max())
        for row, text, logits in zip(rows, texts, expected, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--batches", type=int, nargs="+", default=BATCHES, help="batch sizes of which each rival uses its best"
    )
    parser.add_argument("--quick", action="store_true", help="use a tiny model, to check that everything runs")
    args = parser.parse_args()
    check_installed()
    warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        measure(make_documents(folder, args.documents, args.quick), args.threads, args.repeats, args.batches)


def measure(setup: Setup, threads: int, repeats: int, sizes: Sequence[int]) -> None:
    texts, predictor = setup.ids(), setup.predictor("auto", "auto")
    rivals = make_rivals(setup, texts, threads, sizes)

    def run_predictor() -> np.ndarray:
        return predictor(setup.pool, setup.sequences, [setup.head_request])[0][0]

    logits = np.split(run_predictor(), np.cumsum(setup.sequences.length)[:-1])
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    differences = {}
    for name, work in rivals.items():
        indices = range(len(texts)) if name == RECIPE else order
        differences[name] = largest_difference(work, [texts[i] for i in indices], [logits[i] for i in indices])
        print(f"largest difference of a logit from distilray: {differences[name]:.1e}  {name}")

    c = setup.weights.config
    peak = Peak(getattr(torch, predictor.precision), c.dim, c.hidden_dim)
    turns: dict[str, Callable[[], object]] = {}
    for name, work in {**rivals, OURS: run_predictor}.items():
        turns |= {name: work, f"peak after {name}": peak.measure}
    times = in_turn(turns, CPU, repeats)

    rate = {name: setup.tokens / times[name] for name in (*rivals, OURS)}
    best = max(rivals, key=rate.__getitem__)
    share = setup.flops() / times[OURS] / peak.best
    padding = sum(mask.size for _, mask in padded(texts, 32)) / setup.tokens
    print(
        f"{len(texts)} documents, {setup.tokens:,} tokens ({padding:.1f}x as many in the recipe's batches), "
        f"{threads} thread(s)"
    )
    print(f"distilray: {predictor.backend}, {predictor.tokens_per_pack} tokens a pack")
    for name, tokens_per_second in sorted(rate.items(), key=lambda item: item[1]):
        print(f"{name:62} {tokens_per_second:9,.0f} tokens/s {tokens_per_second / rate[RECIPE]:6.2f}x the recipe")
    print(f"{rate[OURS] / rate[best]:.2f}x the best rival ({best})")
    print(f"{share:.0%} of the best {predictor.precision} matrix product measured, {peak.best / 1e9:.0f} GFLOP/s")
    figures: dict[str, object] = {
        "documents": len(texts),
        "tokens": setup.tokens,
        "threads": threads,
        "precision": predictor.precision,
    }
    figures["differences"] = differences
    ratios = {"to_recipe": rate[OURS] / rate[RECIPE], "to_best_rival": rate[OURS] / rate[best], "share_of_peak": share}
    print(json.dumps({**figures, "tokens_per_second": rate, "best_rival": best, "peak_flops": peak.best, **ratios}))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)  # frees nothing: see rivals.py
