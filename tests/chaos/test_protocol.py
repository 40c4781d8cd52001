"""A job finishes although the driver, the server or parts of a cluster are killed.

The kills happen before and after every object write of the protocol.
"""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.chaos.cluster import Nodes, kill_process, nodes
from tests.chaos.job_on_s3 import JobOnS3, job_on_s3
from tests.proxy import Rule

pytestmark = [pytest.mark.s3, pytest.mark.chaos]

# the prefix of the written object, and the number of earlier writes with that prefix; the plan has six units, and the
# second and the third unit of each shard have a dead letter
WRITES = {
    "the plan": ("_plan.parquet", 0),
    "the number of the run": ("_runs/", 0),
    "the first unit": ("data/", 0),
    "the first dead letters": ("dead/", 0),
    "a middle unit": ("data/", 3),
    "the last dead letters": ("dead/", 3),
    "the last unit": ("data/", 5),
    "the manifest": ("_manifest.json", 0),
    "success": ("_SUCCESS", 0),
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobOnS3]:
    with job_on_s3(tmp_path_factory.mktemp("protocol")) as job:
        yield job


def hold(job: JobOnS3, out: str, when: str, write: str) -> None:
    """Make the proxy hold a write into an output."""
    path, skip = WRITES[write]
    job.proxy.rules(Rule([f"hold_{when}"], method="PUT", path=f"/out/{out}/{path}", skip=skip, times=1))


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_resumes_after_its_driver_is_killed(job: JobOnS3, when: str, write: str) -> None:
    out = f"driver-{when}-{write}".replace(" ", "-")
    hold(job, out, when, write)
    driver = job.start(out)
    job.proxy.wait_held()
    assert driver.pid
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    job.proxy.release()
    assert ("_SUCCESS" in job.names(out)) == ((when, write) == ("after", "success"))
    committed = {name for name in job.names(out) if name.startswith("data/")}
    job.finish(out)
    assert job.differences(out) == {}
    writes = {path.partition(f"/out/{out}/")[2]: count for path, count in job.proxy.writes().items()}
    assert {name: writes[name] for name in committed} == dict.fromkeys(committed, 1)  # and therefore computed once


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_survives_a_restart_of_the_server(job: JobOnS3, when: str, write: str) -> None:
    out = f"server-{when}-{write}".replace(" ", "-")
    hold(job, out, when, write)
    driver = job.start(out)
    job.proxy.wait_held()
    job.server.kill()
    job.proxy.release()
    job.server.start()
    driver.join()
    assert driver.exitcode == 0, job.log(out).read_text()[-3000:]  # it has retried the write
    assert job.differences(out) == {}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(2) as started:
        yield started


@pytest.mark.cluster
@pytest.mark.parametrize("victim", ["predict actor", "tokenize actor", "node"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_run_survives_kills_in_the_cluster_at_every_write(
    job: JobOnS3, cluster: Nodes, when: str, victim: str
) -> None:
    """Before the first unit and after the last, only nodes run: there are no actors to kill."""
    out = f"{victim}-{when}-every-write".replace(" ", "-")
    job.proxy.rules(Rule([f"hold_{when}"], method="PUT", path=f"/out/{out}/"))
    driver = job.start(out, "ray", {"RAY_ADDRESS": cluster.address})
    killed: dict[str, bool] = {}
    while driver.is_alive():
        driver.join(0.05)
        for write in job.proxy.held()[:1]:
            killed[write] = killed.get(write) or _kill(cluster, victim)
            job.proxy.release(go=True)
    job.proxy.rules()
    assert driver.exitcode == 0, job.log(out).read_text()[-3000:]
    assert job.differences(out) == {}
    steps = {
        write.partition(f"/out/{out}/")[2].partition("?")[0].partition("/")[0] for write in killed if killed[write]
    }
    if victim == "node":
        assert steps >= {"_plan.parquet", "_runs", "data", "dead", "_manifest.json", "_SUCCESS"}
    else:
        assert steps & {"data", "dead"}


def _kill(cluster: Nodes, victim: str) -> bool:
    """Kill a node, or all workers of a kind. Return False if none is running."""
    if victim == "node":
        cluster.kill(cluster.worker_nodes[0])
        cluster.add()
        return True
    pids, deadline = cluster.workers(victim), time.monotonic() + 4  # shorter than the timeout of the writing client
    while not pids and time.monotonic() < deadline:  # the last kill may have been a moment ago
        time.sleep(0.1)
        pids = cluster.workers(victim)
    for pid in pids:
        kill_process(pid)
    return bool(pids)
