#!/usr/bin/env python3
"""Benchmark of the forward pass against the peak of a GPU: python benchmarks/gpu.py

It runs a random DistilBERT-base with a head of 9 labels over English text in documents of real lengths. The sections:
  peaks     the ceilings: matrix product (fp16, bf16), copies on the device and between host and device
  forward   tokens/s of Transformers fp32 in padded batches of 32, of fp16 in sorted batches of several sizes, and of
            the packed pass with each attention kernel and several token budgets; the ratios to the first and to the
            best sorted one, and the share of the peak
  grid      milliseconds of one pass over batches of 2 to 16 sequences of 64 and 128 tokens, for each kernel
  busy      the share of a predictor's time in which the device computes, and the effect of decoding: the device's
            seconds of a profiled run divided by the wall seconds of runs without the profiler, which slows the host
  variants  torch.compile and CUDA graphs against the plain pass (see gpu_variants.py)
  pipeline  benchmarks/end_to_end.py and overhead.py, if Ray is installed. Each takes minutes: run this section alone
The output names everything that cannot run on this machine. On a CPU: python benchmarks/gpu.py --device cpu --quick
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import transformers
from gpu_setup import Setup, in_turn, make_setup, seconds
from gpu_variants import variants

from distilray.model.checkpoint.weights import load_encoder
from distilray.model.inference.calibrate import calibrate
from distilray.model.inference.device import choose_device
from distilray.model.inference.transfer import send
from distilray.model.network.attention import choose_attention
from distilray.model.network.pack import make_pack
from distilray.operators.predict import PredictUnit
from distilray.operators.rows import schema as s
from distilray.operators.tasks import TokenClassification
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec

Figures = dict[str, Any]
BATCHES = (32, 128, 256)  # sizes of the sorted batches of Transformers
# sizes for a GPU: distilray computes for longer than Ray takes to start; a rival may need minutes
PIPELINE = {
    "end_to_end": ["--repeats", "1", "--megabytes", "64"],
    "overhead": ["--repeats", "1", "--megabytes", "128", "--pack", "65536"],
}


def peaks(setup: Setup) -> Figures:
    """Measure FLOP/s and bytes/s, the best of several."""
    n, big = (256, 2**22) if setup.quick else (8192, 2**31)
    rivals: dict[str, Callable[[], object]] = {}
    for dtype in (torch.float16, torch.bfloat16):
        a, b = (torch.randn(n, n, device=setup.device).to(dtype) for _ in range(2))
        rivals[f"{dtype} product"] = partial(torch.mm, a, b)
    here, there = (torch.empty(big, dtype=torch.uint8, device=setup.device) for _ in range(2))
    host = torch.empty(big // 8, dtype=torch.uint8, pin_memory=setup.device.type == "cuda")
    rivals |= {
        "copy on the device": partial(there.copy_, here),
        "host to device": partial(there[: big // 8].copy_, host, non_blocking=True),
        "device to host": partial(host.copy_, here[: big // 8], non_blocking=True),
    }
    amount = {name: 2.0 * n**3 if "product" in name else big / 8 for name in rivals} | {"copy on the device": 2.0 * big}
    least = {name: min(seconds(work, setup.device) for _ in range(12)) for name, work in rivals.items()}
    return {name: amount[name] / spent for name, spent in least.items()}


def padded(model: torch.nn.Module, ids: list[torch.Tensor], device: torch.device, batch: int = 32) -> None:
    for i in range(0, len(ids), batch):
        rows = torch.nn.utils.rnn.pad_sequence(ids[i : i + batch], batch_first=True)
        lengths = torch.tensor([len(row) for row in ids[i : i + batch]])
        mask = (torch.arange(rows.shape[1]) < lengths[:, None]).long()
        model(input_ids=rows.to(device), attention_mask=mask.to(device)).logits.argmax(-1).cpu()


def hugging_face(setup: Setup, dtype: torch.dtype, attention: str = "sdpa") -> torch.nn.Module:
    kind = transformers.DistilBertForTokenClassification
    return kind.from_pretrained(setup.folder, dtype=dtype, attn_implementation=attention).eval().to(setup.device)


def forward(setup: Setup, peak: float, repeats: int) -> Figures:
    ids, device = setup.ids(), setup.device
    half = "float16" if device.type == "cuda" else "bfloat16"
    recipe = "Transformers fp32, padded batches of 32"
    rivals: dict[str, Callable[[], object]] = {recipe: partial(padded, hugging_face(setup, torch.float32), ids, device)}
    tuned, by_length = hugging_face(setup, getattr(torch, half)), sorted(ids, key=len)
    for size in BATCHES:
        rivals[f"Transformers {half}, sorted, batches of {size}"] = partial(padded, tuned, by_length, device, size)
    runs, missing = setup.kernels(half)
    calibration = calibrate(setup.predictor(half, "auto"), setup.pool, setup.sequences, 2 if setup.quick else 15)
    best = calibration.tokens_per_pack
    budgets = [512] if setup.quick else [best // 4, best, best * 4]
    for name in runs[1:]:
        rivals[f"packed {half}, {name}"] = run(setup, half, name, best)
    for budget in budgets:
        rivals[f"packed {half}, auto, {budget} tokens"] = run(setup, half, "auto", budget)
    if device.type == "cuda":
        rivals["packed bfloat16, auto"] = run(setup, "bfloat16", "auto", best)
    spent = in_turn(rivals, device, repeats)
    rate = {name: setup.tokens / value for name, value in spent.items()}
    best_rival = max((name for name in rate if "sorted" in name), key=rate.__getitem__)
    for name, value in rate.items():
        share = setup.flops() / setup.tokens * value / peak
        print(
            f"{name:46} {value:12,.0f} tokens/s {value / rate[recipe]:7.2f}x {value / rate[best_rival]:6.2f}x "
            f"{share:6.1%} of the product"
        )
    print(*(f"cannot run on this machine: {name}: {why}" for name, why in missing.items()), sep="\n")
    figures = {"calibrated": calibration.tokens_per_pack, "tokens": setup.tokens, "best_rival": best_rival}
    return {"tokens_per_second": rate, "missing": missing, **figures}


def run(setup: Setup, dtype: str, attention: str, budget: int) -> Callable[[], object]:
    return partial(setup.predictor(dtype, attention, budget), setup.pool, setup.sequences, [setup.head_request])


def grid(setup: Setup, repeats: int) -> Figures:
    """Measure milliseconds of the encoder alone, without copies, as in the published table."""
    half = torch.float16 if setup.device.type == "cuda" else torch.bfloat16
    runs, _ = setup.kernels(str(half).removeprefix("torch."))
    config = setup.weights.config
    encoders = {
        name: load_encoder(setup.weights, choose_attention(name, setup.device, half, config.head_dim), half)
        for name in runs
    }
    hf_models = {name: hugging_face(setup, half, name).base_model for name in ("eager", "sdpa")}
    cells: Figures = {}
    print("milliseconds a pass", *(f"{name:>12}" for name in (*runs, *(f"HF {name}" for name in hf_models))))
    for batch in (2, 4, 8, 16):
        for length in (64, 128):
            ids = np.random.default_rng(0).integers(1000, config.vocab_size, (batch, length))
            pack, _ = send(make_pack(ids.reshape(-1), np.full(batch, length)), [], setup.device)
            rows = torch.from_numpy(ids).to(setup.device)
            rivals: dict[str, Callable[[], object]] = {
                name: partial(repeat, encoder.to(setup.device), repeats, pack, {config.n_layers})
                for name, encoder in encoders.items()
            }
            rivals |= {f"HF {name}": partial(repeat, model, repeats, rows) for name, model in hf_models.items()}
            spent = in_turn(rivals, setup.device, 5)
            cells[f"{batch}x{length}"] = cell = {name: 1000 * value / repeats for name, value in spent.items()}
            print(f"{batch:9} x {length:7}", *(f"{value:12.3f}" for value in cell.values()))
    return cells


def repeat(work: Callable[..., object], times: int, *args: object) -> None:
    for _ in range(times):
        work(*args)


def busy(setup: Setup, repeats: int) -> Figures:
    """Measure device seconds over wall seconds, of different runs.

    predictor: the predictor alone. tokens to answers: the operator, as in a worker.
    """
    task = TokenClassification(model=setup.folder)
    columns = dict.fromkeys(s.DEATH, pa.nulls(len(setup.texts), pa.string()))
    table = TokenizeUnit([task])(pa.table({s.TEXT: setup.texts, **columns}))
    predict = PredictUnit([task], ComputeSpec())
    predictor = predict.predictors[0]
    ways: dict[str, Callable[[], object]] = {
        "predictor": partial(predictor, setup.pool, setup.sequences, [setup.head_request]),
        "tokens to answers": partial(predict, table),
    }
    spent = in_turn(ways, setup.device, repeats)
    shares = {name: device_seconds(work, setup.device) / spent[name] for name, work in ways.items()}
    for name, share in shares.items():
        print(f"{name:20} {spent[name]:8.3f} s, the device computes {share:.1%} of it")
    return {"busy": shares, "seconds": spent}


def device_seconds(work: Callable[[], object], device: torch.device) -> float:
    """Sum the seconds of all kernels and copies, which queue in one stream. On a CPU, sum those of all operators."""
    kinds = [torch.profiler.ProfilerActivity.CPU if device.type == "cpu" else torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profile:
        seconds(work, device)
    name = "self_cpu_time_total" if device.type == "cpu" else "self_device_time_total"
    return sum(getattr(event, name) for event in profile.key_averages()) / 1e6


def pipeline(setup: Setup) -> Figures:
    """Return the last line of each benchmark of the whole pipeline."""
    results: Figures = {}
    for name, options in PIPELINE.items():
        script = Path(__file__).resolve().parent / f"{name}.py"
        if importlib.util.find_spec("ray") is None or not script.is_file() or setup.quick:
            results[name] = "not run: it needs Ray, and is not part of --quick"
            print(f"{name}: {results[name]}")
            continue
        done = subprocess.run([sys.executable, str(script), *options], capture_output=True, text=True, check=False)
        print(done.stdout, done.stderr[-2000:] if done.returncode else "", sep="\n")
        results[name] = json.loads(done.stdout.splitlines()[-1]) if not done.returncode else done.stderr[-2000:]
    return results


def run_section(section: Callable[[], Figures]) -> Figures:
    """Run a section. An error in it does not lose the figures of the others, because device time is scarce."""
    try:
        return section()
    except Exception:
        print(failed := traceback.format_exc())
        return {"failed": failed}


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--quick", action="store_true", help="use a tiny model and little text, to check that everything runs"
    )
    parser.add_argument("--size", type=int, default=4_000_000, help="bytes of text")
    parser.add_argument("--repeats", type=int, default=3)
    names = ("peaks", "forward", "grid", "busy", "variants", "pipeline")
    parser.add_argument("--sections", nargs="+", choices=names, default=names)
    parser.add_argument("--out", type=Path, help="a JSON file, written after every section")
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    device = choose_device()
    if device.type != args.device:
        raise SystemExit(
            f"expected a {args.device} device, got {device.type}, on which this machine computes; see --device"
        )
    with tempfile.TemporaryDirectory() as folder:
        setup = make_setup(folder, device, 30_000 if args.quick else args.size, args.quick)
        results: Figures = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
        results |= {"torch": torch.__version__, "peaks": peaks(setup)}
        print(results["device"], f"torch {torch.__version__}", f"{setup.tokens:,} tokens", sep=", ")
        for name, value in results["peaks"].items():
            scale, unit = (1e12, "TFLOP/s") if "product" in name else (1e9, "GB/s")
            print(f"{name:24} {value / scale:10.2f} {unit}")
        peak = results["peaks"][f"{torch.float16 if device.type == 'cuda' else torch.bfloat16} product"]
        sections: dict[str, Callable[[], Figures]] = {
            "forward": partial(forward, setup, peak, args.repeats),
            "grid": partial(grid, setup, 2 if args.quick else 20),
            "busy": partial(busy, setup, args.repeats),
            "variants": partial(variants, setup, args.repeats),
            "pipeline": partial(pipeline, setup),
        }
        for name in args.sections:
            if name in sections:
                print(f"\n{name}", flush=True)
                results[name] = run_section(sections[name])
            if args.out:
                args.out.write_text(json.dumps(results, indent=2))
    print(json.dumps(results))
    if failed := [name for name, value in results.items() if isinstance(value, dict) and "failed" in value]:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
