"""Fixtures of several test modules."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.support import make_checkpoint

ROOT = Path(__file__).resolve().parent.parent

torch.set_num_threads(1)  # tiny models: more threads only wait for each other
hypothesis.settings.register_profile("distilray", deadline=None)  # no property test asserts a time
hypothesis.settings.load_profile("distilray")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def _calibrations(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Write the calibrations of the tests to a temporary folder, not to the cache of the user."""
    os.environ["DISTILRAY_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small token classifier with 512 positions and IOB2 labels."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples, with the output of examples/jobs/ner.yaml in out/ner-yaml."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "examples", folder / "examples")
    command = [sys.executable, "-m", "distilray", "run", "examples/jobs/ner.yaml"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster of this process. All tests of the session share it."""
    import ray  # imported late: it takes seconds

    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()
