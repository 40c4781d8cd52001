#!/usr/bin/env python3
"""Benchmark of the cost of a token and of the driver's memory as the corpus grows: python benchmarks/scale.py

The job computes mean word embeddings of 32 dimensions. They cost almost nothing, so the benchmark measures the
pipeline. It runs 10 MB to 2 GB of text on Ray, each size in a process of its own, in units of 4 MiB.
The time a token is measured between the first and the last commit, so without start-up. Texts that are tokenized before
the first commit shorten it; the effect is larger for a smaller corpus. The work a token is the time of all stages
together.
Then the benchmark plans a corpus of 100,000 tiny shards, without the sample of a first run, and resumes it when all its
units are committed.
Targets: the work a token is the same within 10 % from 100 MB up, and the driver's memory is constant. 100,000 shards
are planned in < 60 s with < 1 GB, and resumed in < 60 s.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from corpora import english
from harness import make_model, megabytes, run_measured, start_ray

SHARD = 2**25  # bytes of text
UNIT = 2**22  # bytes of text: one second of word embeddings
SOURCE = 20 * 10**6  # bytes of text without repetition
STEADY = 100 * 10**6  # bytes: from planned_job size on, the cost of a token must be constant


def write_large(folder: Path, size: int) -> str:
    """Write about `size` bytes of text in shards. Every shard has the same documents, in another order."""
    folder.mkdir(parents=True)
    texts = english(min(size, SOURCE))
    rng, mean = np.random.default_rng(0), texts.nbytes / len(texts)
    rows = [min(SHARD, size - at) / mean for at in range(0, size, SHARD)]
    number = 0
    for i, row_count in enumerate(max(1, round(count)) for count in rows):
        order = np.concatenate([rng.permutation(len(texts)) for _ in range(-(-row_count // len(texts)))])[:row_count]
        table = pa.table({"id": pa.array(np.arange(number, number + row_count)), "text": texts.take(pa.array(order))})
        pq.write_table(table, folder / f"part-{i:05d}.parquet", row_group_size=2048, use_dictionary=False)
        number += row_count
    return str(folder)


def job(corpus: str, model: str, out: str, engine: str) -> Any:
    from distilray.pipeline import Compute, Embeddings, Job, Sink, Source  # noqa: PLC0415

    compute: dict[str, Any] = {"engine": engine, "tokens_per_pack": 16384, "unit_bytes": UNIT}
    return Job(
        source=Source(uri=corpus, keep=["id"]),
        tasks=[Embeddings(model=model, layer=0, long_texts="truncate")],
        sink=Sink(uri=out),
        compute=Compute(**compute),
    )


def stream(corpus: str, model: str, out: str, cpus: int) -> dict[str, Any]:
    """Run a corpus on Ray. Raises ValueError if a row is missing in the output."""
    from distilray.pipeline.commands.run import execute  # noqa: PLC0415

    start_ray(cpus)
    commits: list[tuple[float, int]] = []
    start = time.perf_counter()
    result = execute(
        job(corpus, model, out, "ray"), on_unit=lambda done: commits.append((time.perf_counter(), done.stats.tokens))
    )
    seconds, (first, first_tokens), (last, _) = time.perf_counter() - start, commits[0], commits[-1]
    files = list(Path(out, "data").glob("*.parquet"))
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    planned = sum(pq.read_metadata(file).num_rows for file in Path(corpus).glob("*.parquet"))
    if rows != planned:
        raise ValueError(f"{out}: expected {planned} rows as in the corpus, got {rows}")
    tokens, steady = result.manifest["tokens"], sum(n for _, n in commits) - first_tokens
    timing = result.manifest["timing"]
    return {
        "rows": rows,
        "units": len(files),
        "tokens": tokens,
        "seconds": seconds,
        "start_up": first - start,
        "ns_a_token": (last - first) / steady * 1e9 if steady else None,
        "ns_of_work": sum(timing[stage] for stage in ("read", "tokenize", "predict", "write")) / tokens * 1e9,
        "timing": timing,
    }


def plan(corpus: str, model: str, out: str) -> dict[str, Any]:
    """List the shards, read their footers, cut them into units and save the plan."""
    from distilray.pipeline.corpus.survey import survey  # noqa: PLC0415
    from distilray.pipeline.planning.checked_tasks import check_tasks  # noqa: PLC0415
    from distilray.pipeline.planning.plan import cut  # noqa: PLC0415
    from distilray.pipeline.sink.output import open_output  # noqa: PLC0415

    planned_job = job(corpus, model, out, "local")
    checked = check_tasks(planned_job.tasks)
    fingerprint = planned_job.fingerprint(checked.digests)
    before, start = _peak(), time.perf_counter()
    units = cut(survey(planned_job.source, planned_job.inputs), 2**20)
    open_output(planned_job.sink).save_plan(units, fingerprint, planned_job, checked.answers)
    return {"units": len(units.units), "seconds": time.perf_counter() - start, "memory": _peak(), "before": before}


def resume(corpus: str, model: str, out: str) -> dict[str, Any]:
    """Resume a run whose units are all committed, so that it only counts them."""
    from distilray.pipeline.commands.run import execute  # noqa: PLC0415

    before, start = _peak(), time.perf_counter()
    result = execute(job(corpus, model, out, "local"))
    seconds = time.perf_counter() - start
    if result.computed.units or result.manifest["units"] != len(result.plan.units):
        raise ValueError(f"expected nothing to compute, got {result.computed}")
    return {"units": result.manifest["units"], "seconds": seconds, "memory": _peak(), "before": before}


def _peak() -> int:
    """Return the peak memory in bytes. getrusage would include the memory of the parent."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def many_shards(folder: Path, shards: int, model: str) -> dict[str, Any]:
    """Plan and resume a corpus of copies of one shard, with copies of the one object that its rows became."""
    from distilray.operators.objects.unit_object import UNIT_KEY, encode_parquet  # noqa: PLC0415
    from distilray.pipeline.commands.run import execute  # noqa: PLC0415

    one, corpus, out = folder / "one", folder / "shards", folder / "many"
    one.mkdir()
    pq.write_table(pa.table({"id": [0, 1], "text": english(1).take(pa.array([0, 0]))}), one / "part.parquet")
    _copies((one / "part.parquet").read_bytes(), [corpus / f"{i // 1000:04d}/{i:07d}.parquet" for i in range(shards)])
    arguments = {"corpus": str(corpus), "model": model, "out": str(out)}
    planned = run_measured(__file__, {"what": "plan", **arguments}).result
    execute(job(str(one), model, str(folder / "answered"), "local"))
    (answered,) = (folder / "answered/data").glob("*.parquet")
    table = pq.read_table(answered)
    metadata = {key: value for key, value in pq.read_metadata(answered).metadata.items() if key != b"ARROW:schema"}
    (out / "data").mkdir()
    for name in pq.read_table(out / "_plan.parquet", columns=["name"])["name"].to_pylist():
        (out / f"data/{name}.parquet").write_bytes(encode_parquet(table, {**metadata, UNIT_KEY: name}))
    return {"plan": planned, "resume": run_measured(__file__, {"what": "resume", **arguments}).result}


def _copies(data: bytes, files: list[Path]) -> None:
    for folder in {file.parent for file in files}:
        folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        file.write_bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10,100,1000,2000", help="MB of text, comma-separated; empty for none")
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--cpus", type=int, default=os.cpu_count())
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        what = {"stream": stream, "plan": plan, "resume": resume}[args.child.pop("what")]
        print(json.dumps(what(**args.child)))
        return
    sizes, results = [round(float(size) * 1e6) for size in args.sizes.split(",") if size], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = make_model(folder / "model", "tiny")
        for size in sizes:
            corpus, out = write_large(folder / "corpus", size), str(folder / "out")
            measured = run_measured(
                __file__, {"what": "stream", "corpus": corpus, "model": model, "out": out, "cpus": args.cpus}
            )
            memory = {"memory": measured.kinds, "tree": measured.tree, "object_store": measured.object_store}
            results[size] = measured.result | memory
            for path in (corpus, out):
                shutil.rmtree(path)
            print_size(size, results[size])
        spread = [result["ns_of_work"] for size, result in results.items() if size >= STEADY]
        if len(spread) > 1:
            print(
                f"work a token from {megabytes(STEADY)} up: {max(spread) / min(spread) - 1:.0%} between most and least"
            )
        many = many_shards(folder, args.shards, model) if args.shards else {}
    titles = {"plan": "plan, without the sample of a first run,", "resume": "resume"}
    for what, result in many.items():
        print(
            f"{titles[what]} of {args.shards:,} shards: {result['seconds']:.1f} s, {megabytes(result['memory'])} peak"
        )
    print(json.dumps({"cpus": args.cpus, "sizes": results, "shards": args.shards, **many}))


def print_size(size: int, result: dict[str, Any]) -> None:
    rate = f"{result['ns_a_token']:.0f} ns a token" if result["ns_a_token"] else "one unit only"
    workers = ", ".join(f"{kind} {megabytes(size)}" for kind, size in sorted(result["memory"].items()))
    print(
        f"{size / 1e6:7,.0f} MB: {result['tokens']:,} tokens, {result['units']:,} units of {megabytes(UNIT)}, "
        f"{result['seconds']:.1f} s, first commit after {result['start_up']:.1f} s, then {rate}, "
        f"{result['ns_of_work']:.0f} ns of work; object store {megabytes(result['object_store'])}; {workers}",
        flush=True,
    )


if __name__ == "__main__":
    main()
