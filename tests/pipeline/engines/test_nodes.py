"""Real Ray clusters of several nodes on this machine: the loss of a node, and a cluster without free CPUs."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distilray.pipeline import load_job
from distilray.pipeline.commands.run import execute
from tests.clusters import cluster_of
from tests.support import output_bytes, slow_job

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]

UNITS, PATIENCE = 24, 400  # seconds


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A job of 24 units, and its output on one machine in `alone`."""
    folder = tmp_path_factory.mktemp("nodes")
    slow_job(folder, 120)
    assert execute(load_job(folder / "job.yaml")).manifest["units"] == UNITS
    return folder


def start(folder: Path, out: Path, address: str, *more: str) -> subprocess.Popen[str]:
    arguments = ["--set", "compute.engine=ray", "--set", f"sink.uri={out}", *more]
    command = [sys.executable, "-m", "distilray", "run", str(folder / "job.yaml"), *arguments]
    environment = {**os.environ, "RAY_ADDRESS": address}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder
    )


def test_a_run_survives_the_loss_of_a_node(folder: Path, tmp_path: Path) -> None:
    """The run has as many actors as fit the whole cluster. One node must then hold all of them and a reader.

    If a predict actor took one CPU and a tokenizer half a CPU, the remaining node would be full without a reader.
    """
    out = tmp_path / "out"
    with cluster_of(2, 2) as cluster:
        pools = [
            f"compute.{name}.{bound}={n}" for name, n in (("tokenize", 3), ("predict", 2)) for bound in ("min", "max")
        ]
        more = [word for pool in pools for word in ("--set", pool)]
        driver = start(folder, out, cluster.address, *more)
        for _ in range(PATIENCE * 20):
            if len(list(out.glob("data/[0-9]*.parquet"))) >= 3:
                break
            assert driver.poll() is None, driver.communicate()[1]
            time.sleep(0.05)
        (node,) = cluster.worker_nodes
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        assert len(list(out.glob("data/[0-9]*.parquet"))) < UNITS
        log = driver.communicate(timeout=PATIENCE)[1]
        assert driver.returncode == 0, log
    assert output_bytes(out) == output_bytes(folder / "alone")


OTHER_WORK = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
@ray.remote(num_cpus=2)
def hold():
    time.sleep(10**6)
task = hold.remote()
while ray.available_resources().get("CPU", 0) > 0.5:
    time.sleep(0.1)
print("held", flush=True)
time.sleep(10**6)
"""


def test_a_run_without_free_cpus_stops_and_names_the_waiting_actors(folder: Path, tmp_path: Path) -> None:
    with cluster_of(2) as cluster:
        address = cluster.address
        other_work = subprocess.Popen(
            [sys.executable, "-c", OTHER_WORK, address], stdout=subprocess.PIPE, text=True, cwd=folder
        )
        try:
            assert other_work.stdout
            assert other_work.stdout.readline().strip() == "held"
            driver = start(folder, tmp_path / "out", address, "--set", "compute.stall=15")
            log = driver.communicate(timeout=PATIENCE)[1]
        finally:
            other_work.kill()
            other_work.wait()
    assert driver.returncode == 1, log
    (line,) = log.strip().splitlines()
    assert "no stage made progress for 15 s (compute.stall): " in line
    assert "tokenize: 0 of 1 actors placed" in line
    assert "predict: 0 of 1 actors placed" in line
    assert "the cluster has 0 of 2 CPUs free and 0 of 0 GPUs free; stop other work on the cluster, or add nodes" in line
    assert line.endswith("run the same command again to resume")
