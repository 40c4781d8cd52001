"""Real processes killed during a run: no row is missing, no row occurs twice, and no unit is computed again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distilray.pipeline import load_job
from distilray.pipeline.commands.run import execute
from tests.support import output_bytes, slow_job

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

UNITS = 24
PATIENCE = 240  # seconds


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job of 24 units, slow enough to be killed during the run, and its local output in `alone`."""
    folder = tmp_path_factory.mktemp("faults")
    slow_job(folder, 120)
    result = execute(load_job(folder / "job.yaml"))
    assert result.manifest["rows"] == 476
    assert result.manifest["dead"] == {"null_text": 4}
    return folder


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    """Start `distilray run` on Ray in its own process."""
    code = "import sys; from distilray.pipeline.cli.main import main; sys.exit(main())"
    arguments = ["run", str(folder / "job.yaml"), "--set", "compute.engine=ray", "--set", f"sink.uri={out}"]
    environment = {**os.environ, "RAY_ADDRESS": "local"}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, stdout=subprocess.DEVNULL)


def wait_for_commits(out: Path, count: int, process: subprocess.Popen[bytes]) -> dict[str, int]:
    """Return the names and times of the data objects as soon as `count` objects exist."""
    for _ in range(PATIENCE * 20):
        done = {path.name: path.stat().st_mtime_ns for path in out.glob("data/[0-9]*.parquet")}
        if len(done) >= count:
            return done
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.05)
    raise AssertionError("no commits came")


def predict_actors(driver: int) -> list[int]:
    """Return the process ids of the predict actors in the cluster of a driver."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
                session = (entry / "environ").read_bytes()
            except OSError:
                continue
            if b"MapBatches(Predict)" in title and b"DISTILRAY_TEST=%d" % driver in session:
                found.append(int(entry.name))
    return found


def test_the_same_command_finishes_the_run_of_a_killed_driver(uninterrupted: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    driver = start(uninterrupted, out)
    wait_for_commits(out, 4, driver)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    time.sleep(5)  # units in flight may still commit
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("data/[0-9]*.parquet")}
    assert 4 <= len(before) < UNITS
    assert not (out / "_SUCCESS").exists()
    assert start(uninterrupted, out).wait(PATIENCE) == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("data/[0-9]*.parquet")}
    assert len(after) == UNITS
    assert {name: after[name] for name in before} == before  # neither written nor computed again
    assert output_bytes(out) == output_bytes(uninterrupted / "alone")
    assert (out / "_SUCCESS").exists()


def test_a_run_survives_killed_predict_actors(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    mark = os.getpid()
    monkeypatch.setenv("DISTILRAY_TEST", str(mark))
    driver = start(uninterrupted, out)
    wait_for_commits(out, 3, driver)
    victims = predict_actors(mark)
    assert victims
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    assert driver.wait(PATIENCE) == 0
    assert output_bytes(out) == output_bytes(uninterrupted / "alone")
    timing = json.loads((out / "_manifest.json").read_text())["timing"]
    assert timing["workers"] <= len(victims)  # a restarted actor counts as the same worker
