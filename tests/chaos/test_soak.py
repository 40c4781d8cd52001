"""A short soak: what `python -m tests.chaos` does for half an hour."""

import random
from pathlib import Path

import pytest

from tests.chaos.cluster import nodes
from tests.chaos.soak import Soak
from tests.chaos.stage import stage

pytestmark = [pytest.mark.s3, pytest.mark.cluster, pytest.mark.chaos]


def test_nothing_is_lost_or_doubled_whoever_dies(tmp_path: Path) -> None:
    with stage(tmp_path, shards=4) as here, nodes(2) as cluster:
        verdict = Soak(here, cluster, random.Random(1)).run(kills=10)
    assert verdict["kills"] >= 10
    assert verdict["wrong"] == {}
