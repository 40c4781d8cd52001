"""GPU nodes that are not there when a run starts: a real autoscaler of Ray, and nodes that only say they have a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.clusters import autoscaling_cluster
from tests.support import read_output, slow_job

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]  # two minutes

GPUS = {"gpu": {"resources": {"CPU": 1, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 1}}


def run(folder: Path, address: str, out: str, *more: str) -> subprocess.CompletedProcess[str]:
    job = ["job.yaml", "--set", "compute.engine=ray", "--set", f"sink.uri={out}"]
    return subprocess.run(
        [sys.executable, "-m", "distilray", "run", *job, *more],
        cwd=folder,
        env={**os.environ, "RAY_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="here a node's GPU would be a real one")
def test_a_gpu_that_the_job_counts_on_is_brought_and_one_it_does_not_know_of_is_not(tmp_path: Path) -> None:
    slow_job(tmp_path, 20)
    with autoscaling_cluster(tmp_path, 2, GPUS) as address:
        without = run(tmp_path, address, "without")
        counted_on = run(tmp_path, address, "with", "--set", "compute.gpus=1")
    assert without.returncode == 0, without.stderr
    assert read_output(tmp_path / "without").num_rows > 0
    # the worker was placed on the new node, and found that it has no GPU
    assert "Ray gave this worker a GPU that torch cannot use" in counted_on.stderr
    assert counted_on.returncode != 0
