"""GPU nodes that a running job requests from a real Ray autoscaler. The nodes only claim to have a GPU."""

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


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU of a node would be real")
def test_a_gpu_node_starts_only_if_the_job_requests_gpus(tmp_path: Path) -> None:
    slow_job(tmp_path, 20)
    with autoscaling_cluster(tmp_path, 2, GPUS) as address:
        without = run(tmp_path, address, "without")
        requested = run(tmp_path, address, "with", "--set", "compute.gpus=1")
    assert without.returncode == 0, without.stderr
    assert read_output(tmp_path / "without").num_rows > 0
    # the worker started on the new node, and found no GPU
    assert "Ray gave this worker a GPU that torch cannot use" in requested.stderr
    assert requested.returncode != 0
