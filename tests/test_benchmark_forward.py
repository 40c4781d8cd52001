"""A small run of the forward pass benchmark: every library runs, and all give the same logits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks/forward.py"
LIBRARIES = ("Transformers fp32, padded", "Transformers fp32, sorted", "ONNX Runtime fp32", "OpenVINO fp32")


@pytest.mark.slow
def test_all_libraries_run_and_agree() -> None:
    for package in ("onnxruntime", "openvino"):
        pytest.importorskip(package, reason="needs distilray[bench]")
    arguments = ["--quick", "--documents", "6", "--repeats", "1", "--batches", "2"]
    done = subprocess.run([sys.executable, str(SCRIPT), *arguments], check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert (result["documents"], result["threads"]) == (6, 1)
    for library in LIBRARIES:
        assert any(name.startswith(library) for name in result["tokens_per_second"])
    fp32 = [difference for name, difference in result["differences"].items() if "bf16" not in name]
    assert len(fp32) == 4
    assert max(fp32) < (1e-5 if result["precision"] == "float32" else 0.05)
    assert result["share_of_peak"] > 0
    assert result["best_rival"] in result["tokens_per_second"]
