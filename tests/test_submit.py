"""`ray job submit`, as the README has it, against real clusters with and without distilray installed."""

import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.clusters import free_port
from tests.support import read_output

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@contextmanager
def head(python: Path, folder: Path, cwd: Path, token: str | None = None) -> Iterator[dict[str, str]]:
    """A Ray head whose `python` is the given one; yields the environment for `ray job submit`, with the token if it asks one."""
    path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
    asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token} if token else {"RAY_AUTH_MODE": "disabled"}
    environment = {**os.environ, "PATH": path, **asks}
    port = free_port()
    options = ["--head", "--block", "--port", str(free_port()), "--num-cpus=2", f"--dashboard-port={port}"]
    options += [f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=200000000"]
    command = [str(python), "-m", "ray.scripts.scripts", "start", *options]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=log, stderr=log)
        try:
            yield {**environment, "RAY_ADDRESS": f"http://127.0.0.1:{port}"}
        finally:
            process.terminate()
            process.wait(60)


def submit(environment: dict[str, str], arguments: list[str], cwd: Path) -> str:
    """`ray job submit`, again while the head is still starting."""
    for _ in range(30):
        done = subprocess.run(
            [*RAY, "job", "submit", *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        said = done.stdout + done.stderr
        if done.returncode == 0:
            return said
        if not any(sign in said for sign in ("No available agent", "Failed to connect", "Connection refused")):
            break
    raise AssertionError(said)


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python that has every dependency, but not distilray."""
    venv.create(tmp_path / "bare", symlinks=True)
    site = next((tmp_path / "bare/lib").glob("python*/site-packages"))
    # the line makes the packages importable; .pth files inside them, such as an editable install's, are not read
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = tmp_path / "bare/bin/python"
    missing = subprocess.run([python, "-c", "import distilray"], cwd=tmp_path, capture_output=True, check=False)
    assert b"No module named 'distilray'" in missing.stderr
    return python


def assert_answered(said: str, out: Path) -> None:
    assert (out / "_SUCCESS").exists(), said
    table = read_output(out)
    assert table.num_rows > 20
    assert sum(map(len, table["entities"].to_pylist())) > 1000
    assert "dead letters" in said
    assert "padding" in said


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The repository as a user has it, without what is ignored."""
    ignored = shutil.ignore_patterns(".venv", ".git", "out", ".*cache*", "*.egg-info")
    return Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=ignored))


def test_a_cluster_without_distilray(tmp_path: Path, checkout: Path, bare_python: Path) -> None:
    with head(bare_python, tmp_path, tmp_path) as environment:
        command = ["python", "examples/ner_corpus.py", "--output", str(tmp_path / "out")]
        said = submit(environment, ["--working-dir", ".", "--", *command], checkout)
    assert_answered(said, tmp_path / "out")


def test_an_installed_distilray(tmp_path: Path, checkout: Path) -> None:
    with head(Path(sys.executable), tmp_path, checkout) as environment:
        said = submit(environment, ["examples/ner_corpus.py"], checkout)
    assert_answered(said, checkout / "out/ner")


def test_a_cluster_that_asks_for_a_token(tmp_path: Path, checkout: Path) -> None:
    """The job's own driver and workers have it from the head; whoever lacks it is turned away."""
    token = secrets.token_hex(32)
    with head(Path(sys.executable), tmp_path, checkout, token) as environment:
        said = submit(environment, ["examples/ner_corpus.py"], checkout)
        assert_answered(said, checkout / "out/ner")
        assert token not in said
        with pytest.raises(AssertionError, match="(?i)authenticat|unauthorized|token"):
            submit({**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}, ["examples/ner_corpus.py"], checkout)
