"""Small runs of the benchmarks of whole runs: they end, every method answers every row, and the answers agree."""

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
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.chaos
def test_end_to_end_compares_equal_answers() -> None:
    result = last_line("end_to_end.py", "--model", "tiny", "--megabytes", "0.1", "--shards", "2", "--repeats", "1")
    assert result["agreement"]["spans"] > 0
    assert result["agreement"]["docs"] > 0.999
    assert result["agreement"]["sorted"] > 0.999
    assert {"docs", "sorted", "ours"} == result["ways"].keys()
    assert all(way["object_store"] > 0 and way["memory"] > way["object_store"] for way in result["ways"].values())


def test_overhead_reports_the_time_of_every_stage() -> None:
    result = last_line("overhead.py", "--model", "tiny", "--megabytes", "0.1", "--shards", "2", "--repeats", "1")
    assert result["tokens"] > 0
    assert result["model"] > 0
    assert result["job"] > 0
    assert {"Read", "Tokenize", "Predict", "Predictor", "Write", "decoding"} == result["spent"].keys()


@pytest.mark.chaos
def test_scale_counts_every_row_and_plans_many_shards() -> None:
    result = last_line("scale.py", "--sizes", "0.1,0.3", "--shards", "500")
    small, large = result["sizes"].values()
    assert 0 < small["rows"] < large["rows"]
    assert "driver" in large["memory"]
    assert result["plan"]["units"] == result["resume"]["units"] == 500
