"""The benchmarks of whole runs, small: they end, all ways answer every row, and the answers agree."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def last_line(script: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


@pytest.mark.chaos
def test_end_to_end_compares_equal_answers() -> None:
    said = last_line("end_to_end.py", "--model", "tiny", "--megabytes", "0.1", "--shards", "2", "--repeats", "1")
    assert said["agreement"]["spans"] > 0
    assert said["agreement"]["docs"] > 0.999
    assert said["agreement"]["sorted"] > 0.999
    assert {"docs", "sorted", "ours"} == said["ways"].keys()
    assert all(way["object_store"] > 0 and way["memory"] > way["object_store"] for way in said["ways"].values())


def test_overhead_is_over_the_same_tokens() -> None:
    said = last_line("overhead.py", "--model", "tiny", "--megabytes", "0.1", "--shards", "2", "--repeats", "1")
    assert said["tokens"] > 0
    assert said["model"] > 0
    assert said["job"] > 0
    assert {"Read", "Tokenize", "Predict", "Predictor", "Write", "decoding"} == said["spent"].keys()


@pytest.mark.chaos
def test_scale_counts_every_row_and_plans_many_shards() -> None:
    said = last_line("scale.py", "--sizes", "0.1,0.3", "--shards", "500")
    small, large = said["sizes"].values()
    assert 0 < small["rows"] < large["rows"]
    assert "driver" in large["memory"]
    assert said["plan"]["units"] == said["resume"]["units"] == 500
