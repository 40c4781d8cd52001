#!/usr/bin/env python3
"""Benchmark of a corpus from Parquet to Parquet, in three ways: python benchmarks/end_to_end.py

Each way finds the entities of the same English documents with the same random DistilBERT. The ways run in turn, each in
processes of its own:
  (a) Ray Data with a Transformers pipeline in map_batches, as in Ray's documentation of batch inference: batches in the
      given order, padded to their longest text
  (b) Ray Data with two stages, as in NVIDIA's NeMo Curator: one tokenizes, pads to the model's length and sorts by
      length; the other trims each batch to its longest text
  (c) distilray
Every way cuts documents at 512 tokens, so that all have the same work. Start-up is the start of the process and of Ray,
and a first job of one document.
(a) computes in float32, as in its documentation. (b) computes by autocast in the dtype that (c) chooses: float16 on a
GPU, bfloat16 on a CPU with bfloat16 units, else float32.
Target: (c) >= 10 x (a) and >= 2 x (b).
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from agreement import LENGTH, agreement
from corpora import english
from harness import Measured, make_model, megabytes, run_measured, start_ray, write_corpus

WAYS = {"docs": "(a) Transformers pipeline", "sorted": "(b) padded, sorted", "ours": "(c) distilray"}
BATCH = {"cpu": 32, "cuda": 256}


def device() -> str:
    import torch  # noqa: PLC0415

    return "cuda" if torch.cuda.is_available() else "cpu"


def precision() -> Any:
    """Return the dtype of (b) and (c)."""
    import torch  # noqa: PLC0415

    from distilray.model.inference.device import choose_dtype  # noqa: PLC0415

    return choose_dtype("auto", torch.device(device()))


class Pipeline:
    """The Transformers pipeline of (a)."""

    def __init__(self, model: str, threads: int) -> None:
        import torch  # noqa: PLC0415
        import transformers  # noqa: PLC0415

        torch.set_num_threads(threads)
        self.model = transformers.pipeline(
            "token-classification", model=model, aggregation_strategy="first", device=device(), dtype=torch.float32
        )

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        entities = self.model(list(batch["text"]), batch_size=32)
        spans = [json.dumps([[e["start"], e["end"], e["entity_group"]] for e in row]) for row in entities]
        return {"id": batch["id"], "entities": spans}


class Pad:
    """The first stage of (b): tokenize, pad and sort."""

    def __init__(self, model: str) -> None:
        import transformers  # noqa: PLC0415

        self.tokenizer = transformers.AutoTokenizer.from_pretrained(model)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tokens = self.tokenizer(
            list(batch["text"]), max_length=LENGTH, padding="max_length", truncation=True, return_tensors="np"
        )
        order = np.argsort(tokens["attention_mask"].sum(axis=1), kind="stable")
        return {"id": batch["id"][order], **{name: tokens[name][order] for name in ("input_ids", "attention_mask")}}


class Trim:
    """The second stage of (b): trim each batch and predict the label of each token."""

    def __init__(self, model: str, threads: int) -> None:
        import torch  # noqa: PLC0415
        import transformers  # noqa: PLC0415

        torch.set_num_threads(threads)
        self.device, self.dtype = device(), precision()
        self.model = transformers.AutoModelForTokenClassification.from_pretrained(model).eval().to(self.device)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        import torch  # noqa: PLC0415

        labels: list[np.ndarray] = []
        size = BATCH[self.device]
        for i in range(0, len(batch["id"]), size):
            ids, mask = (
                torch.tensor(batch[name][i : i + size], device=self.device) for name in ("input_ids", "attention_mask")
            )
            lengths = mask.sum(1)
            longest = int(lengths.max())
            with torch.inference_mode(), torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
                best = self.model(input_ids=ids[:, :longest], attention_mask=mask[:, :longest]).logits.argmax(-1)
            rows = zip(best.cpu().numpy().astype(np.int8), lengths.tolist(), strict=True)
            labels += [row[1 : length - 1] for row, length in rows]
        return {"id": batch["id"], "labels": pa.array(labels, pa.list_(pa.int8()))}


def child(way: str, corpora: list[str], model: str, out: str, cpus: int) -> dict[str, Any]:
    """Run one way over each corpus in this process. `seconds`: of the last corpus, when Ray's workers run."""
    start_ray(cpus)
    for number, corpus in enumerate(corpora):
        start = time.perf_counter()
        folder = f"{out}-{number}"
        result = distilray(corpus, model, folder, cpus) if way == "ours" else rival(way, corpus, model, folder, cpus)
    return {"seconds": time.perf_counter() - start, **result}


def distilray(corpus: str, model: str, out: str, cpus: int) -> dict[str, Any]:
    from distilray.pipeline import (  # noqa: PLC0415
        Compute,
        Job,
        Sink,
        Source,
        TokenClassification,
        run,
    )

    job = Job(
        source=Source(uri=corpus, keep=["id"]),
        tasks=[TokenClassification(model=model, compat="hf")],
        sink=Sink(uri=out),
        compute=Compute(threads=cpus if device() == "cpu" else None),
    )
    manifest = run(job, quiet=True).manifest
    return {"backend": "; ".join(manifest["backends"]), "timing": manifest.get("timing")}


def rival(way: str, corpus: str, model: str, out: str, cpus: int) -> dict[str, Any]:
    import ray  # noqa: PLC0415
    from ray.data import ActorPoolStrategy  # noqa: PLC0415

    on_gpu = device() == "cuda"
    # on a CPU half a processor: with a whole one, a small machine would have no processor left for reading
    one: dict[str, Any] = {"compute": ActorPoolStrategy(size=1), **({"num_gpus": 1} if on_gpu else {"num_cpus": 0.5})}
    data = ray.data.read_parquet(corpus)
    if way == "docs":
        data = data.map_batches(Pipeline, fn_constructor_args=(model, cpus), batch_size=256, **one)
    else:
        data = data.map_batches(
            Pad, fn_constructor_args=(model,), batch_size=1024, compute=ActorPoolStrategy(size=1), num_cpus=0.25
        )
        data = data.map_batches(Trim, fn_constructor_args=(model, cpus), batch_size=1024, **one)
    data.write_parquet(out)
    return {"backend": f"{device()} {str(precision()).removeprefix('torch.') if way == 'sorted' else 'float32'}"}


def summarize(runs: dict[str, list[Measured]], tokens: int) -> dict[str, Any]:
    """Print the medians of each way, and return them as plain data."""
    results = {}
    for way in WAYS:
        seconds = statistics.median(run.seconds for run in runs[way])
        running = statistics.median(run.result["seconds"] for run in runs[way])
        results[way] = {
            "backend": runs[way][0].result["backend"],
            "seconds": seconds,
            "running": running,
            "tokens_per_second": tokens / seconds,
            "tokens_per_second_running": tokens / running,
            "memory": max(run.tree for run in runs[way]),
            "object_store": max(run.object_store for run in runs[way]),
        }
    for way, title in WAYS.items():
        r, best = results[way], results["ours"]
        print(
            f"{title:27} {r['seconds']:7.1f} s, {r['running']:7.1f} s without start-up, "
            f"{r['tokens_per_second']:9,.0f} tokens/s, without start-up {r['tokens_per_second_running']:9,.0f}; "
            f"distilray is {best['tokens_per_second'] / r['tokens_per_second']:.1f}x and "
            f"{best['tokens_per_second_running'] / r['tokens_per_second_running']:.1f}x; "
            f"memory {megabytes(r['memory'])}, object store {megabytes(r['object_store'])}; {r['backend']}"
        )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["full", "small", "tiny"], default="full")
    parser.add_argument("--megabytes", type=float, default=4.0, help="size of the text")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=os.cpu_count())
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(**args.child)))
        return
    if args.cpus < 2:
        parser.error(
            f"expected --cpus 2 or more, got {args.cpus}: Ray Data reads and writes with a whole CPU beside the models"
        )
    with tempfile.TemporaryDirectory() as name:
        folder, texts = Path(name), english(int(args.megabytes * 1e6))
        model = make_model(folder / "model", args.model)
        corpora = [
            write_corpus(folder / "one", texts.slice(0, 1), 1),
            write_corpus(folder / "corpus", texts, args.shards),
        ]
        env = {"DISTILRAY_CACHE": str(folder / "cache")}
        runs: dict[str, list[Measured]] = {way: [] for way in WAYS}
        for number in range(args.repeats):
            for way in WAYS:
                out = str(folder / f"{way}{number}")
                arguments = {"way": way, "corpora": corpora, "model": model, "out": out, "cpus": args.cpus}
                runs[way].append(run_measured(__file__, arguments, env))
        outs = {way: str(folder / f"{way}0-1") for way in WAYS}
        manifest = json.loads((folder / "ours0-1/_manifest.json").read_text())
        figures = {
            "documents": len(texts),
            "tokens": manifest["window_tokens"],
            "agreement": agreement(outs, texts.to_pylist(), model),
        }
    print(
        f"{figures['documents']:,} documents, {figures['tokens']:,} tokens computed once each, {args.cpus} CPUs, "
        f"{args.model} model"
    )
    results = summarize(runs, figures["tokens"])
    print(
        f"equal spans of (a) {figures['agreement']['docs']:.2%}, "
        f"equal labels of (b) {figures['agreement']['sorted']:.2%}"
    )
    print(json.dumps({**figures, "cpus": args.cpus, "model": args.model, "ways": results}))


if __name__ == "__main__":
    main()
