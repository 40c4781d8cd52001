"""An Airflow of its own, on SQLite, in the environment that `make .airflow/ready` sets up: neither Ray nor torch is there."""

import json
import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".airflow/bin/python"


@dataclass(frozen=True)
class Site:
    """Its folder, and what every process of it has in its environment."""

    home: Path
    environment: dict[str, str]

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """An `airflow` command in a process group of its own."""
        with log.open("ab") as sink:
            command = [str(PYTHON), "-m", "airflow", *arguments]
            return subprocess.Popen(command, env=self.environment, stdout=sink, stderr=sink, start_new_session=True)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Of its database."""
        with sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True, timeout=30) as database:
            return database.execute(query).fetchall()

    def xcoms(self, task: str) -> dict[str, Any]:
        """What a task has told others."""
        found = self.rows(f"SELECT key, value FROM xcom WHERE task_id = '{task}'")
        return {key: decoded(value) for key, value in found}


def decoded(value: Any) -> Any:
    """JSON, and JSON in a string of JSON; other strings are left."""
    try:
        return decoded(json.loads(value)) if isinstance(value, str) else value
    except ValueError:
        return value


def make_site(home: Path, dags: Path, address: str) -> Site:
    """With a connection ray_default to the cluster, and an empty database."""
    assert PYTHON.exists(), "Airflow is not installed: make .airflow/ready"
    url = urlsplit(address)
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_RAY_DEFAULT": json.dumps({"conn_type": "http", "host": url.hostname, "port": url.port}),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    target = Site(home, {**os.environ, **settings})
    migrate = target.start("db", "migrate", log=home / "migrate.log")
    assert migrate.wait(200) == 0, (home / "migrate.log").read_text()
    return target


def processes() -> Iterator[tuple[int, str, str]]:
    """Number, command line and working folder of each process."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            yield int(entry.name), words, str((entry / "cwd").readlink())
        except OSError:  # it has ended
            continue


def hold(folder: Path, job: str) -> list[int]:
    """Stops the processes of a submitted job, whose job file names a folder, in the middle of what they do; [] if there are none."""
    found = []
    for number, words, cwd in processes():
        file = Path(cwd, "job.yaml")
        if f"-m distilray {job}" in words and file.exists() and str(folder) in file.read_text():
            os.kill(number, signal.SIGSTOP)
            found.append(number)
    return found


def release(held: list[int]) -> None:
    for number in held:
        os.kill(number, signal.SIGCONT)
