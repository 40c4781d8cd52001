"""Ray workers whose construction fails: the run ends with the reason."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ray.exceptions import ActorDiedError, RayTaskError

from distilray.pipeline.engines import ray_data
from tests.support import slow_job

PROGRAM = """
import sys
import ray
from distilray.pipeline.cli.main import main
ray.init(address="local", num_cpus=2, num_gpus=1, log_to_driver=False)
sys.exit(main(["run", "job.yaml", "--set", "compute.engine=ray"]))
"""


def test_an_unexpected_construction_error_keeps_its_reason() -> None:
    death = ActorDiedError(RayTaskError("__init__", "CUDA out of memory", RuntimeError()))
    with pytest.raises(ActorDiedError, match="CUDA out of memory"), ray_data._unwrap_ray_errors(1):
        raise death


@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU of a node would be real")
def test_a_failed_construction_ends_the_run_with_one_line(tmp_path: Path) -> None:
    slow_job(tmp_path, 20)
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    line = "distilray: Ray gave this worker a GPU that torch cannot use: check the driver of the node"
    assert line in ended.stderr.splitlines(), ended.stderr[-3000:]
    assert "Traceback" not in ended.stderr
