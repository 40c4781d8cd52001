"""`ray job submit` as in the README, on clusters with and without an installed distilray."""

import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from distilray.deploy.errors import SubmitError
from distilray.deploy.jobs_api import Cluster
from tests.ray_head import head, make_bare_python
from tests.support import read_output

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ROOT = Path(__file__).resolve().parent.parent
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def submit(environment: dict[str, str], arguments: list[str], cwd: Path) -> str:
    """Run `ray job submit`, with retries while the head starts. Return its output."""
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
        printed = done.stdout + done.stderr
        if done.returncode == 0:
            return printed
        if not any(sign in printed for sign in ("No available agent", "Failed to connect", "Connection refused")):
            break
    raise AssertionError(printed)


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    return make_bare_python(tmp_path)


def assert_answered(printed: str, out: Path) -> None:
    assert (out / "_SUCCESS").exists(), printed
    table = read_output(out)
    assert table.num_rows > 20
    assert sum(map(len, table["entities"].to_pylist())) > 1000
    assert "dead letters" in printed
    assert "padding" in printed


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the repository without ignored files."""
    ignored = shutil.ignore_patterns(".venv", ".airflow", ".git", "out", ".*cache*", "*.egg-info")
    return Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=ignored))


def test_submit_works_on_a_cluster_without_distilray(tmp_path: Path, checkout: Path, bare_python: Path) -> None:
    with head(bare_python, tmp_path, tmp_path) as environment:
        command = ["python", "examples/ner_corpus.py", "--output", str(tmp_path / "out")]
        printed = submit(environment, ["--working-dir", ".", "--", *command], checkout)
    assert_answered(printed, tmp_path / "out")


@pytest.mark.chaos
def test_submit_works_on_a_cluster_with_distilray(tmp_path: Path, checkout: Path) -> None:
    with head(Path(sys.executable), tmp_path, checkout) as environment:
        printed = submit(environment, ["examples/ner_corpus.py"], checkout)
    assert_answered(printed, checkout / "out/ner")


@pytest.mark.chaos
def test_submit_works_on_a_cluster_that_requires_a_token(tmp_path: Path, checkout: Path) -> None:
    """The driver and the workers of the job get the token from the head. Clients without the token are rejected."""
    token = secrets.token_hex(32)
    with head(Path(sys.executable), tmp_path, checkout, token) as environment:
        command = [sys.executable, "-m", "distilray", "submit", "examples/jobs/ner.yaml"]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (checkout / "out/ner-yaml/_SUCCESS").exists()
        environment["RAY_AUTH_MODE"] = "token"
        printed = submit(environment, ["examples/ner_corpus.py"], checkout)
        assert_answered(printed, checkout / "out/ner")
        assert token not in done.stdout + done.stderr + printed
        assert [job.status for job in Cluster(environment["RAY_ADDRESS"], token).jobs()] == ["SUCCEEDED"] * 2
        for wrong in (secrets.token_hex(32), None):
            with pytest.raises(SubmitError, match="token") as rejection:
                Cluster(environment["RAY_ADDRESS"], wrong).jobs()
            assert str(wrong) not in str(rejection.value)
        with pytest.raises(AssertionError, match="(?i)authenticat|unauthorized|token"):
            submit({**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}, ["examples/ner_corpus.py"], checkout)
