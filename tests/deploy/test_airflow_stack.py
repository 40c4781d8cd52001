"""The operator under a real scheduler, API server and triggerer, some of whose processes are killed."""

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests

from distilray.deploy.jobs_api import Cluster
from tests.deploy.airflow_site import ROOT, Site, make_site, processes, resume, suspend
from tests.ray_head import free_port
from tests.support import make_checkpoint, random_texts, write_shard

pytestmark = [pytest.mark.cluster, pytest.mark.chaos]


@dataclass
class Stack:
    """All processes of an Airflow, and its API."""

    target: Site
    url: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *options: str) -> None:
        self.running[name] = self.target.start(name, *options, log=self.target.home / f"{name}.log")

    def kill(self, name: str) -> None:
        os.killpg(self.running.pop(name).pid, signal.SIGKILL)

    def call_api(self, method: str, path: str, **content: Any) -> Any:
        token = requests.get(f"{self.url}/auth/token", timeout=60).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        response = requests.request(method, f"{self.url}/api/v2{path}", headers=headers, timeout=60, **content)
        assert response.ok, response.text
        return response.json()

    def trigger(self, dag: str, folder: Path) -> None:
        places = {name: str(folder / name) for name in ("corpus", "model", "answers")}
        self.call_api("POST", f"/dags/{dag}/dagRuns", json={"dag_run_id": "it", "logical_date": None, "conf": places})

    def task(self, dag: str) -> tuple[str, int]:
        """Return the state of the task and the number of its attempt."""
        ((state, number),) = self.target.rows(f"SELECT state, try_number FROM task_instance WHERE dag_id = '{dag}'")
        return state, number

    def log(self, dag: str, number: int) -> str:
        """Return the log of an attempt of the task."""
        return json.dumps(
            self.call_api("GET", f"/dags/{dag}/dagRuns/it/taskInstances/run/logs/{number}?full_content=true")
        )


def wait(ready: Callable[[], Any], stack: Stack) -> Any:
    """Return the result of `ready` as soon as it is true. Fails if a process of Airflow has ended."""
    while not (result := ready()):
        ended = [name for name, process in stack.running.items() if process.poll() is not None]
        assert not ended, (stack.target.home / f"{ended[0]}.log").read_text()[-5000:]
        time.sleep(0.2)
    return result


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    port = free_port()
    settings = {
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
        "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
    }
    target = make_site(tmp_path_factory.mktemp("airflow"), ROOT / "tests/deploy/dags", cluster.address)
    stack = Stack(replace(target, environment={**target.environment, **settings}), f"http://127.0.0.1:{port}")
    with ExitStack() as ends:
        ends.callback(lambda: [stack.kill(name) for name in list(stack.running)])
        for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
            stack.start(name, *(["--port", str(port)] if name == "api-server" else []))
        wait(lambda: len(target.rows("SELECT dag_id FROM serialized_dag")) == 3, stack)
        wait(lambda: _answers(stack.url), stack)
        yield stack


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/auth/token", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_checkpoint(tmp_path / "model")
    write_shard(tmp_path / "corpus/a.parquet", random_texts(40, 1))
    return tmp_path


def statuses(folder: Path, cluster: Cluster) -> list[str]:
    return [job.status for job in cluster.jobs() if job.metadata["sink"] == f"{folder}/answers"]


def test_the_retry_after_a_killed_worker_attaches_to_its_job(stack: Stack, cluster: Cluster, folder: Path) -> None:
    stack.trigger("in_worker", folder)
    suspended = wait(lambda: suspend(folder, "run"), stack)
    scheduler = stack.running["scheduler"].pid
    workers = [
        number
        for number, words, _ in processes()
        if words.startswith("airflow worker -- ")
        and "LocalExecutor" not in words  # the parent of the worker
        and os.getsid(number) == scheduler
    ]
    assert workers
    for number in workers:
        os.kill(number, signal.SIGKILL)
    wait(lambda: stack.task("in_worker") == ("running", 2), stack)
    wait(lambda: "attached to" in stack.log("in_worker", 2), stack)
    resume(suspended)
    wait(lambda: stack.task("in_worker")[0] == "success", stack)
    assert statuses(folder, cluster) == ["SUCCEEDED"]
    assert stack.target.rows(f"SELECT uri FROM asset WHERE uri LIKE '%{folder.name}%'") == [
        (f"file://{folder}/answers",)
    ]


def test_another_triggerer_continues_to_wait(stack: Stack, cluster: Cluster, folder: Path) -> None:
    stack.trigger("in_triggerer", folder)
    suspended = wait(lambda: suspend(folder, "run"), stack)
    wait(lambda: stack.task("in_triggerer")[0] == "deferred", stack)
    wait(lambda: stack.target.rows("SELECT id FROM trigger WHERE triggerer_id IS NOT NULL"), stack)
    stack.kill("triggerer")
    stack.start("triggerer")
    resume(suspended)
    wait(lambda: stack.task("in_triggerer")[0] == "success", stack)
    assert stack.task("in_triggerer")[1] == 1
    assert statuses(folder, cluster) == ["SUCCEEDED"]
    assert "40 answered in" in stack.log("in_triggerer", 1)


def test_a_task_that_a_user_fails_stops_its_job(stack: Stack, cluster: Cluster, folder: Path) -> None:
    stack.trigger("failed_by_hand", folder)
    wait(lambda: suspend(folder, "run"), stack)
    wait(lambda: stack.task("failed_by_hand")[0] == "deferred", stack)
    wait(lambda: stack.target.rows("SELECT id FROM trigger WHERE triggerer_id IS NOT NULL"), stack)
    stack.call_api("PATCH", "/dags/failed_by_hand/dagRuns/it/taskInstances/run", json={"new_state": "failed"})
    wait(lambda: statuses(folder, cluster) == ["STOPPED"], stack)  # Ray has killed the suspended processes
