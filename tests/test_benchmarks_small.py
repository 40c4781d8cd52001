"""Small runs of the other benchmarks on a CPU: they end, and their last line is JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "gpu.py --device cpu --quick --sections peaks forward grid busy variants",
        "tasks.py --documents 3 --words 40 --dim 64 --layers 1 --repeats 1",
    ],
)
def test_the_benchmark_ends(command: str) -> None:
    script, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / script), *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    assert json.loads(done.stdout.splitlines()[-1])
