"""`ray job submit`, as the README has it, against real clusters with and without distilray installed."""

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
    return make_bare_python(tmp_path)


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
    ignored = shutil.ignore_patterns(".venv", ".airflow", ".git", "out", ".*cache*", "*.egg-info")
    return Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=ignored))


def test_a_cluster_without_distilray(tmp_path: Path, checkout: Path, bare_python: Path) -> None:
    with head(bare_python, tmp_path, tmp_path) as environment:
        command = ["python", "examples/ner_corpus.py", "--output", str(tmp_path / "out")]
        said = submit(environment, ["--working-dir", ".", "--", *command], checkout)
    assert_answered(said, tmp_path / "out")


@pytest.mark.chaos
def test_an_installed_distilray(tmp_path: Path, checkout: Path) -> None:
    with head(Path(sys.executable), tmp_path, checkout) as environment:
        said = submit(environment, ["examples/ner_corpus.py"], checkout)
    assert_answered(said, checkout / "out/ner")


@pytest.mark.chaos
def test_a_cluster_that_asks_for_a_token(tmp_path: Path, checkout: Path) -> None:
    """The job's own driver and workers have it from the head; whoever lacks it is turned away."""
    token = secrets.token_hex(32)
    with head(Path(sys.executable), tmp_path, checkout, token) as environment:
        ours = [sys.executable, "-m", "distilray", "submit", "examples/jobs/ner.yaml"]
        done = subprocess.run(ours, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert (checkout / "out/ner-yaml/_SUCCESS").exists()
        environment["RAY_AUTH_MODE"] = "token"
        said = submit(environment, ["examples/ner_corpus.py"], checkout)
        assert_answered(said, checkout / "out/ner")
        assert token not in done.stdout + done.stderr + said
        assert [job.status for job in Cluster(environment["RAY_ADDRESS"], token).jobs()] == ["SUCCEEDED"] * 2
        for wrong in (secrets.token_hex(32), None):
            with pytest.raises(SubmitError, match="token") as turned_away:
                Cluster(environment["RAY_ADDRESS"], wrong).jobs()
            assert str(wrong) not in str(turned_away.value)
        with pytest.raises(AssertionError, match="(?i)authenticat|unauthorized|token"):
            submit({**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}, ["examples/ner_corpus.py"], checkout)
