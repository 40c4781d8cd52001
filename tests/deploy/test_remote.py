"""`distilray submit`, `status` and `stop` against a real cluster whose Python does not have distilray."""

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from distilray.deploy.jobs_api import Cluster
from distilray.deploy.submission import Started, prepare, start
from distilray.pipeline.cli.main import main
from tests.deploy.airflow_site import suspend
from tests.support import make_checkpoint, random_texts, read_output, write_shard

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]


def make_job(folder: Path, **compute: Any) -> Path:
    make_checkpoint(folder / "model")
    write_shard(folder / "corpus/a.parquet", [*random_texts(40, 1), None])
    raw = {
        "source": {"uri": str(folder / "corpus")},
        "tasks": [{"task": "token-classification", "model": str(folder / "model")}],
        "sink": {"uri": str(folder / "out")},
        "compute": compute,
    }
    (folder / "job.yaml").write_text(yaml.safe_dump(raw))
    return folder / "job.yaml"


def submit_from(checkout: Path, arguments: list[str]) -> str:
    """Run `distilray submit` with the code of a checkout, and return its output."""
    code = "import sys; from distilray.pipeline.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "submit", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_cluster_runs_the_submitted_code_even_if_it_has_older_code(
    cluster: Cluster, bare: Path, tmp_path: Path
) -> None:
    job = make_job(tmp_path)
    ignored = shutil.ignore_patterns(".venv", ".airflow", ".git", "out", "examples", "tests", ".*cache*", "*.egg-info")
    checkout = Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=ignored))
    first = submit_from(checkout, [str(job), "--address", cluster.address])
    assert "40 answered" in first
    assert "distilray-result" not in first  # this line is for programs
    assert read_output(tmp_path / "out", "dead")["reason"].to_pylist() == ["null_text"]

    operator = checkout / "operators/rows/columns.py"
    operator.write_text(operator.read_text().replace('"null_text"', '"changed_text"'))
    target = next((bare.parent.parent / "lib").glob("python*/site-packages"))
    (target / "distilray").mkdir()
    (target / "distilray/__init__.py").write_text("raise ImportError('older code')")
    try:
        again = submit_from(
            checkout, [str(job), "--set", f"sink.uri={tmp_path / 'out2'}", "--address", cluster.address]
        )
    finally:
        shutil.rmtree(target / "distilray")
    assert "40 answered" in again
    assert read_output(tmp_path / "out2", "dead")["reason"].to_pylist() == ["changed_text"]


def test_a_job_can_be_attached_stopped_and_submitted_again(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["submit", str(make_job(tmp_path, engine="local")), "--address", cluster.address]
    assert main([*arguments, "--no-wait"]) == 0
    (name,) = re.findall("submitted (distilray-out-[0-9a-f]{12})\n", capsys.readouterr().err)
    while not suspend(tmp_path, "run"):  # the job stays suspended
        time.sleep(0.05)
    assert main([*arguments, "--no-wait"]) == 0
    assert f"attached to {name}\n" in capsys.readouterr().err
    assert [each.status for each in cluster.jobs() if each.id.startswith(name)] == ["RUNNING"]

    assert main(["stop", name, "--address", cluster.address]) == 0
    assert main(["stop", name, "--address", cluster.address]) == 0  # a second stop does nothing
    capsys.readouterr()
    assert main(["status", name, "--address", cluster.address, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["status"], said["exit_code"]) == ("STOPPED", 130)
    for number, message in (
        (2, "40 answered"),
        (3, "nothing left to compute"),
    ):  # an ended job does not block the next one
        assert main(arguments) == 0
        output = capsys.readouterr()
        assert f"submitted {name}-try{number}\n" in output.err
        assert message in output.out


@contextmanager
def unreliable_proxy(cluster: Cluster) -> Iterator[str]:
    """Yield the address of a proxy to the cluster that breaks every second connection."""
    upstream = urlsplit(cluster.address)

    def pump(source: socket.socket, to: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def serve() -> None:
        for number in itertools.count():
            try:
                client, _ = listener.accept()
            except OSError:  # the listener is closed
                return
            if number % 2 == 0:
                client.close()
                continue
            server = socket.create_connection((upstream.hostname, upstream.port))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_submit_exits_with_the_code_of_the_job_despite_broken_connections(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(tmp_path, engine="local")
    shutil.rmtree(tmp_path / "corpus")
    with unreliable_proxy(cluster) as address:
        assert main(["submit", str(job), "--address", address, "--submission-id", f"mine-{tmp_path.name}"]) == 2
    said = capsys.readouterr()
    assert f"cannot list source {tmp_path}/corpus" in said.out
    assert f"mine-{tmp_path.name} FAILED" in said.err
    assert main(["status", "nobody", "--address", cluster.address]) == 2
    assert "nobody does not exist" in capsys.readouterr().err


def test_simultaneous_submissions_share_one_job(cluster: Cluster, tmp_path: Path) -> None:
    submission = prepare(make_job(tmp_path, engine="local").read_text())
    started: list[Started] = []
    threads = [threading.Thread(target=lambda: started.append(start(cluster, submission))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {each.job_id for each in started} == {submission.id}
    assert sorted(each.attached for each in started) == [False, *[True] * 5]
    while not cluster.job(submission.id).ended:
        time.sleep(0.2)
    assert cluster.job(submission.id).exit_code == 0
    assert submission.code.name in str(cluster._json("GET", f"/api/jobs/{submission.id}")["runtime_env"])
