"""Fixtures that several test modules share."""

from pathlib import Path

import pytest

from tests.support import make_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small token classifier, 512 positions, IOB2 labels."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint"))
