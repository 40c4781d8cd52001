"""A Ray cluster whose Python does not have distilray, shared by the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from distilray.deploy.jobs_api import Cluster
from tests.ray_head import head, make_bare_python


@pytest.fixture(scope="package")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bare_python(tmp_path_factory.mktemp("bare"))


@pytest.fixture(scope="package")
def cluster(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose head may still be starting."""
    folder = tmp_path_factory.mktemp("head")
    with head(bare, folder, folder) as environment:
        yield Cluster(environment["RAY_ADDRESS"])
