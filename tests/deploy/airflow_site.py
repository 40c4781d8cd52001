"""A separate Airflow on SQLite, in the environment of `make .airflow/ready`, which has neither Ray nor torch."""

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
    """An Airflow installation.

    home: its folder. environment: the environment of all its processes.
    """

    home: Path
    environment: dict[str, str]

    def start(self, *arguments: str, log: Path) -> subprocess.Popen[bytes]:
        """Start an `airflow` command in its own process group."""
        with log.open("ab") as sink:
            command = [str(PYTHON), "-m", "airflow", *arguments]
            return subprocess.Popen(command, env=self.environment, stdout=sink, stderr=sink, start_new_session=True)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query of the Airflow database."""
        with sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True, timeout=30) as database:
            return database.execute(query).fetchall()

    def xcoms(self, task: str) -> dict[str, Any]:
        """Return the XComs of a task."""
        found = self.rows(f"SELECT key, value FROM xcom WHERE task_id = '{task}'")
        return {key: decoded(value) for key, value in found}


def decoded(value: Any) -> Any:
    """Decode JSON, also JSON within a JSON string. Other strings are returned unchanged."""
    try:
        return decoded(json.loads(value)) if isinstance(value, str) else value
    except ValueError:
        return value


def make_site(home: Path, dags: Path, address: str) -> Site:
    """Create an Airflow with an empty database and the connection `ray_default` to the cluster."""
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
    """Yield the id, the command line and the working folder of each process."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            yield int(entry.name), words, str((entry / "cwd").readlink())
        except OSError:  # the process has ended
            continue


def suspend(folder: Path, job: str) -> list[int]:
    """Suspend the running processes of a submitted job whose job file contains `folder`. Returns their ids."""
    found = []
    for pid, words, cwd in processes():
        file = Path(cwd, "job.yaml")
        if f"-m distilray {job}" in words and file.exists() and str(folder) in file.read_text():
            os.kill(pid, signal.SIGSTOP)
            found.append(pid)
    return found


def resume(suspended: list[int]) -> None:
    for pid in suspended:
        os.kill(pid, signal.SIGCONT)
