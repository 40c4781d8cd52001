#!/usr/bin/env python3
"""Benchmark of the cost of everything around the model: python benchmarks/overhead.py

Two ways compute the same English documents with the same random DistilBERT, in turn: from Parquet to Parquet on Ray,
and the model alone over the same packs, with the same threads, in one process. "The model alone" is Predictor.__call__:
sorting and packing token ids, the passes, and restoring the order of their outputs. The difference is reading,
tokenizing, decoding, writing and Ray. The output also has the time of each operator in one process.
Target: the model alone takes >= 0.95 of the time of the whole, without Ray's start-up.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from corpora import english
from harness import make_model, run_measured, start_ray, write_corpus


def job(corpus: str, model: str, out: str, cpus: int, pack: int, engine: str) -> Any:
    from distilray.pipeline import Compute, Job, Sink, Source, TokenClassification  # noqa: PLC0415

    compute: dict[str, Any] = {"engine": engine, "threads": cpus, "tokens_per_pack": pack}
    return Job(
        source=Source(uri=corpus, keep=["id"]),
        tasks=[TokenClassification(model=model)],
        sink=Sink(uri=out),
        compute=Compute(**compute),
    )


def whole(corpora: list[str], model: str, out: str, cpus: int, pack: int) -> dict[str, Any]:
    """Run one document on Ray and then the corpus. Measure the corpus, and the time from its first to its last commit."""
    from distilray.pipeline.commands.run import execute  # noqa: PLC0415

    start_ray(cpus)
    for number, corpus in enumerate(corpora):
        commits: list[tuple[float, int]] = []
        start = time.perf_counter()
        result = execute(
            job(corpus, model, f"{out}-{number}", cpus, pack, "ray"),
            on_unit=lambda done, commits=commits: commits.append((time.perf_counter(), done.stats.computed_tokens)),
        )
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "first_commit": commits[0][0] - start,
        "steady": (commits[-1][0] - commits[0][0]) / max(sum(n for _, n in commits[1:]), 1),  # seconds a token
        "computed_tokens": result.manifest["computed_tokens"],
        "backends": list(result.manifest["backends"]),
        "timing": result.manifest.get("timing"),
    }


def alone(corpora: list[str], model: str, out: str, cpus: int, pack: int) -> dict[str, Any]:
    """Run in this process. Measure the seconds in the predictor and in each operator."""
    import torch  # noqa: PLC0415

    from distilray.model.inference.predictor import Predictor  # noqa: PLC0415
    from distilray.operators.predict import PredictUnit  # noqa: PLC0415
    from distilray.operators.read import Read  # noqa: PLC0415
    from distilray.operators.tokenize import TokenizeUnit  # noqa: PLC0415
    from distilray.operators.write import Write  # noqa: PLC0415
    from distilray.pipeline.commands.run import execute  # noqa: PLC0415

    torch.set_num_threads(cpus)
    spent: Counter[str] = Counter()
    kinds = {"Read": Read, "Tokenize": TokenizeUnit, "Predict": PredictUnit, "Predictor": Predictor, "Write": Write}
    for name, kind in kinds.items():
        kind.__call__ = _timed(kind.__call__, name, spent)  # type: ignore[method-assign]
    for number, corpus in enumerate(corpora):
        spent.clear()
        result = execute(job(corpus, model, f"{out}-{number}", cpus, pack, "local"))
    spent["decoding"] = spent["Predict"] - spent["Predictor"]  # includes the layout of the sequences
    return {"spent": dict(spent), "computed_tokens": result.manifest["computed_tokens"]}


def _timed(call: Any, name: str, spent: Counter[str]) -> Any:
    def timed(*args: Any) -> Any:
        start = time.perf_counter()
        try:
            return call(*args)
        finally:
            spent[name] += time.perf_counter() - start

    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["full", "small", "tiny"], default="full")
    parser.add_argument("--megabytes", type=float, default=8.0, help="size of the text")
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--pack", type=int, default=8192, help="tokens of a pack")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=os.cpu_count())
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        way = {"whole": whole, "alone": alone}[args.child.pop("way")]
        print(json.dumps(way(**args.child)))
        return
    runs: dict[str, list[dict[str, Any]]] = {"whole": [], "alone": []}
    start_up: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder, texts = Path(name), english(int(args.megabytes * 1e6))
        corpora = [
            write_corpus(folder / "one", texts.slice(0, 1), 1),
            write_corpus(folder / "corpus", texts, args.shards),
        ]
        shared = {"corpora": corpora, "model": make_model(folder / "model", args.model), "cpus": args.cpus}
        for number in range(args.repeats):
            for way, results_of_way in runs.items():
                arguments = {**shared, "way": way, "out": str(folder / f"{way}{number}"), "pack": args.pack}
                measured = run_measured(__file__, arguments, {"DISTILRAY_CACHE": str(folder / "cache")})
                results_of_way.append(measured.result)
                start_up += [measured.seconds - measured.result["seconds"]] if way == "whole" else []
    tokens = runs["alone"][0]["computed_tokens"]
    if any(run["computed_tokens"] != tokens for results_of_way in runs.values() for run in results_of_way):
        raise ValueError(f"expected {tokens} computed tokens from both ways, got different numbers: {runs}")
    model = statistics.median(run["spent"]["Predictor"] for run in runs["alone"])
    job_seconds = statistics.median(run["seconds"] for run in runs["whole"])
    steady = statistics.median(run["steady"] for run in runs["whole"]) * tokens
    results = {
        "tokens": tokens,
        "start_up": statistics.median(start_up),
        "model": model,
        "job": job_seconds,
        "first_commit": statistics.median(run["first_commit"] for run in runs["whole"]),
        "steady": steady,
        "ratio": model / job_seconds,
        "ratio_steady": model / steady if steady else None,
        "spent": {
            name: statistics.median(run["spent"][name] for run in runs["alone"]) for name in runs["alone"][0]["spent"]
        },
        "backends": runs["whole"][0]["backends"],
        "timing": runs["whole"][-1]["timing"],
    }
    print(f"{tokens:,} tokens, {args.cpus} CPUs, {args.model} model, {'; '.join(results['backends'])}")
    print(f"start-up of Ray with a first job {results['start_up']:6.1f} s")
    print(
        f"from Parquet to Parquet on Ray   {job_seconds:6.1f} s, the first commit after {results['first_commit']:.1f} s"
    )
    print(f"the model alone                  {model:6.1f} s, {model / job_seconds:.3f} of the job")
    if steady:
        print(
            f"all tokens at the rate between first and last commit {steady:.1f} s, the model {model / steady:.3f} of it"
        )
    operators = {"Read": "reading", "Tokenize": "tokenizing", "decoding": "decoding", "Write": "writing"}
    print("in one process: " + ", ".join(f"{title} {results['spent'][key]:.2f} s" for key, title in operators.items()))
    print(json.dumps({**results, "cpus": args.cpus, "model_size": args.model}))


if __name__ == "__main__":
    main()
