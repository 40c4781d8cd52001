"""The operator in a real Airflow on SQLite, without Ray and torch, against a real Ray head."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from distilray.deploy.jobs_api import Cluster
from tests.deploy.airflow_site import PYTHON, ROOT, Site, make_site, resume, suspend
from tests.support import make_checkpoint, random_texts, write_shard

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def target(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Site:
    return make_site(tmp_path_factory.mktemp("airflow"), ROOT / "examples/airflow", cluster.address)


def test_the_example_finishes_after_the_death_of_its_worker(cluster: Cluster, target: Site, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model")
    write_shard(tmp_path / "corpus/day=2026-11-22/a.parquet", [*random_texts(40, 1), None], id=list(range(41)))
    (tmp_path / "corpus/day=2026-11-22/_SUCCESS").touch()
    places = {name: str(tmp_path / name) for name in ("corpus", "model", "answers")}
    command = ("dags", "test", "answers", "2026-11-22", "--conf", json.dumps(places))

    first = target.start(*command, log=tmp_path / "first.log")
    while not (suspended := suspend(tmp_path, "run")):
        assert first.poll() is None, (tmp_path / "first.log").read_text()
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()

    second = target.start(*command, log=tmp_path / "second.log")
    while "attached to distilray-day-2026-11-22-" not in (tmp_path / "second.log").read_text():
        assert second.poll() is None, (tmp_path / "second.log").read_text()
        time.sleep(0.1)
    resume(suspended)
    assert second.wait() == 0, (tmp_path / "second.log").read_text()
    assert "40 answered in" in (tmp_path / "second.log").read_text()  # the log of the job

    jobs = [job for job in cluster.jobs() if job.metadata["sink"] == f"{tmp_path}/answers/day=2026-11-22"]
    assert sorted((job.status, job.entrypoint.split()[3]) for job in jobs) == [
        ("SUCCEEDED", "run"),
        ("SUCCEEDED", "verify"),
    ]
    manifest = json.loads((tmp_path / "answers/day=2026-11-22/_manifest.json").read_text())
    xcoms = target.xcoms("run")
    figures = xcoms["return_value"]
    assert {name: figures[name] for name in ("rows", "dead", "tokens")} == {
        "rows": 40,
        "dead": {"null_text": 1},
        "tokens": manifest["tokens"],
    }
    (page,) = {xcoms["ray_dashboard"], xcoms["_link_RayDashboardLink"]}
    assert page == f"{cluster.address}/#/jobs/{next(job.id for job in jobs if '-verify-' not in job.id)}"
    events = target.rows("SELECT extra FROM asset_event WHERE source_task_id = 'publish'")
    assert [json.loads(extra)["rows"] for (extra,) in events] == [40]


def long_job(folder: Path) -> Path:
    """Write the file of a job that takes many minutes."""
    make_checkpoint(folder / "model", layers=4, dim=192, hidden_dim=512)
    write_shard(folder / "corpus/a.parquet", random_texts(100, 1, words=(40, 60)) * 5000, row_group_size=1000)
    raw = {
        "source": {"uri": str(folder / "corpus")},
        "tasks": [{"task": "token-classification", "model": str(folder / "model")}],
        "sink": {"uri": str(folder / "answers")},
        "compute": {"engine": "local", "dtype": "float32"},
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(raw))
    return folder / "job.yaml"


# defers as in Airflow, then acts as a triggerer does if a user ends the task or its deadline passes
_END_TASKS = """
import asyncio, importlib.util, sys, time
from airflow.sdk.exceptions import TaskDeferred
from distilray.deploy.airflow import DistilrayOperator, DistilrayTrigger

assert not [name for name in ("ray", "torch", "pyarrow") if importlib.util.find_spec(name)]
job = open(sys.argv[1]).read()

class TI:
    xcom_push = staticmethod(lambda key, value: print(key, value))

def deferred():
    operator = DistilrayOperator(task_id="run", job=job, poll_interval=1)
    try:
        operator.execute({"ti": TI})
    except TaskDeferred as deferral:
        name, kwargs = deferral.trigger.serialize()
        assert name == f"{DistilrayTrigger.__module__}.{DistilrayTrigger.__qualname__}"
        return operator, kwargs

async def first(trigger):
    async for event in trigger.run():
        return event.payload

async def killed(trigger):
    waiting = asyncio.create_task(first(trigger))
    await asyncio.sleep(2)
    await trigger.on_kill()
    return await waiting

print(asyncio.run(killed(DistilrayTrigger(**deferred()[1]))))
print(asyncio.run(first(DistilrayTrigger(**{**deferred()[1], "deadline": time.time()}))))
operator, kwargs = deferred()
operator.on_kill()
print(asyncio.run(first(DistilrayTrigger(**kwargs))))
"""


def test_the_end_of_a_task_ends_its_job(cluster: Cluster, target: Site, tmp_path: Path) -> None:
    job = long_job(tmp_path)
    done = subprocess.run(
        [PYTHON, "-c", _END_TASKS, str(job)], env=target.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split("'")[3] for line in lines if line.startswith("{")] == ["STOPPED", "TIMEOUT", "STOPPED"]
    sink = yaml.safe_load(job.read_text())["sink"]["uri"]
    jobs = sorted((each for each in cluster.jobs() if each.metadata["sink"] == sink), key=lambda each: each.id)
    assert [each.id.partition("-try")[2] for each in jobs] == ["", "2", "3"]
    while not all(cluster.job(each.id).ended for each in jobs):
        time.sleep(0.1)
    assert {cluster.job(each.id).status for each in jobs} == {"STOPPED"}
