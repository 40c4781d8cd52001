"""A short soak test. `python -m tests.chaos` runs a long one."""

import random
from pathlib import Path

import pytest

from tests.chaos.cluster import nodes
from tests.chaos.job_on_s3 import job_on_s3
from tests.chaos.soak import Soak

pytestmark = [pytest.mark.s3, pytest.mark.cluster, pytest.mark.chaos]


def test_random_kills_lose_and_duplicate_no_row(tmp_path: Path) -> None:
    with job_on_s3(tmp_path, shards=4) as job, nodes(2) as cluster:
        result = Soak(job, cluster, random.Random(1)).run(kills=10)
    assert result["kills"] >= 10
    assert result["wrong"] == {}
