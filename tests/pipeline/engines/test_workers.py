"""Workers that cannot be made: on Ray, and as Ray says it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ray.exceptions import ActorDiedError, RayTaskError

from distilray.pipeline.engines import ray_data as graph
from tests.support import slow_job

PROGRAM = """
import sys
import ray
from distilray.pipeline.cli.main import main
ray.init(address="local", num_cpus=2, num_gpus=1, log_to_driver=False)
sys.exit(main(["run", "job.yaml", "--set", "compute.engine=ray"]))
"""


def test_an_unforeseen_reason_why_a_worker_cannot_be_made_is_not_lost() -> None:
    death = ActorDiedError(RayTaskError("__init__", "CUDA out of memory", RuntimeError()))
    with pytest.raises(ActorDiedError, match="CUDA out of memory"), graph._unwrap_ray_errors(1):
        raise death


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="here a node's GPU would be a real one")
def test_a_worker_that_cannot_be_made_ends_the_run_with_its_reason_alone(tmp_path: Path) -> None:
    slow_job(tmp_path, 20)
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    line = "distilray: Ray gave this worker a GPU that torch cannot use: check the driver of the node"
    assert line in ended.stderr.splitlines(), ended.stderr[-3000:]
    assert "Traceback" not in ended.stderr
