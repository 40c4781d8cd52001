"""The benchmark of the forward pass, small: every rival runs, and all give the same logits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks/forward.py"
RIVALS = ("Transformers fp32, padded", "Transformers fp32, sorted", "ONNX Runtime fp32", "OpenVINO fp32")


@pytest.mark.slow
def test_the_rivals_run_and_agree() -> None:
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package, reason="needs distilray[bench]")
    arguments = ["--quick", "--documents", "6", "--repeats", "1", "--batches", "2"]
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, stdout=subprocess.PIPE, text=True)
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["documents"], said["threads"]) == (6, 1)
    for rival in RIVALS:
        assert any(name.startswith(rival) for name in said["tokens_per_second"])
    fp32 = [difference for name, difference in said["differences"].items() if "bf16" not in name]
    assert len(fp32) == 4
    assert max(fp32) < (1e-5 if said["precision"] == "float32" else 0.05)
    assert said["share_of_peak"] > 0
    assert said["best_rival"] in said["tokens_per_second"]
