"""The driver, the server, and the parts of a cluster killed before and after every put of the protocol; the job finishes."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.chaos.cluster import Nodes, end, nodes
from tests.chaos.stage import Stage, stage
from tests.proxy import Rule

pytestmark = [pytest.mark.s3, pytest.mark.chaos]

# what is put, and how many puts of its kind go before; of the plan's six units the second and the third of a shard have
# a dead letter
PUTS = {
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
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("protocol")) as here:
        yield here


def hold(here: Stage, out: str, when: str, put: str) -> None:
    """That put into an output will be held."""
    path, skip = PUTS[put]
    here.proxy.rules(Rule([f"hold_{when}"], method="PUT", path=f"/out/{out}/{path}", skip=skip, times=1))


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_driver_is_killed(here: Stage, when: str, put: str) -> None:
    out = f"driver-{when}-{put}".replace(" ", "-")
    hold(here, out, when, put)
    driver = here.start(out)
    here.proxy.wait_held()
    assert driver.pid
    os.kill(driver.pid, signal.SIGKILL)
    driver.join()
    here.proxy.release()
    assert ("_SUCCESS" in here.names(out)) == ((when, put) == ("after", "success"))
    committed = {name for name in here.names(out) if name.startswith("data/")}
    here.finish(out)
    assert here.judge(out) == {}
    puts = {path.partition(f"/out/{out}/")[2]: count for path, count in here.proxy.puts().items()}
    assert {name: puts[name] for name in committed} == dict.fromkeys(committed, 1)  # so not computed again


@pytest.mark.parametrize("put", PUTS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_server_is_killed_and_starts_again(here: Stage, when: str, put: str) -> None:
    out = f"server-{when}-{put}".replace(" ", "-")
    hold(here, out, when, put)
    driver = here.start(out)
    here.proxy.wait_held()
    here.server.kill()
    here.proxy.release()
    here.server.start()
    driver.join()
    assert driver.exitcode == 0, here.log(out).read_text()[-3000:]  # it has tried again, after whatever was done
    assert here.judge(out) == {}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Nodes]:
    with nodes(2) as found:
        yield found


@pytest.mark.cluster
@pytest.mark.parametrize("victim", ["predict actor", "tokenize actor", "node"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_part_of_the_cluster_is_killed_at_every_put(here: Stage, cluster: Nodes, when: str, victim: str) -> None:
    """Wherever there is such a part: before the first unit and after the last there is only the node."""
    out = f"{victim}-{when}-every-put".replace(" ", "-")
    here.proxy.rules(Rule([f"hold_{when}"], method="PUT", path=f"/out/{out}/"))
    driver = here.start(out, "ray", {"RAY_ADDRESS": cluster.address})
    killed: dict[str, bool] = {}
    while driver.is_alive():
        driver.join(0.05)
        for put in here.proxy.held()[:1]:
            killed[put] = killed.get(put) or _kill(cluster, victim)
            here.proxy.release(go=True)
    here.proxy.rules()
    assert driver.exitcode == 0, here.log(out).read_text()[-3000:]
    assert here.judge(out) == {}
    steps = {put.partition(f"/out/{out}/")[2].partition("?")[0].partition("/")[0] for put in killed if killed[put]}
    if victim == "node":
        assert steps >= {"_plan.parquet", "_runs", "data", "dead", "_manifest.json", "_SUCCESS"}
    else:
        assert steps & {"data", "dead"}


def _kill(cluster: Nodes, victim: str) -> bool:
    """False if there is none now."""
    if victim == "node":
        cluster.kill(cluster.working[0])
        cluster.add()
        return True
    pids, last = cluster.workers(victim), time.monotonic() + 4  # less than the client of the put waits
    while not pids and time.monotonic() < last:  # it was killed just now
        time.sleep(0.1)
        pids = cluster.workers(victim)
    for pid in pids:
        end(pid)
    return bool(pids)
