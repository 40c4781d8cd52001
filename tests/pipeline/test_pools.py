"""Pools fit the cluster, with CPUs to spare, whatever its size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilray.pipeline import Compute, JobError, Pool
from distilray.pipeline.pools import size_pools


@given(st.integers(1, 512), st.integers(0, 64), st.none() | st.floats(1e-6, 50))
def test_the_largest_pools_leave_room(cpus: int, gpus: int, per_worker: float | None) -> None:
    if gpus and cpus < 2 * gpus:
        return  # fewer than two CPUs a GPU is no machine
    pools = size_pools(Compute(), cpus, gpus, per_worker)
    both = (pools.tokenize, pools.predict)
    assert sum(workers.max * workers.num_cpus for workers in both) + pools.read_cpus <= cpus
    assert all(1 <= workers.min <= workers.max for workers in both)
    assert pools.predict.max * pools.predict.num_gpus == gpus
    assert 1 <= pools.threads <= max(cpus, 1)


def test_what_is_asked_for_is_met_or_refused() -> None:
    pools = size_pools(Compute(tokenize=Pool(min=2, max=3), predict=Pool(min=1, max=4), threads=2), 16, 0)
    assert (pools.tokenize.min, pools.tokenize.max, pools.predict.max, pools.threads) == (2, 3, 4, 2)
    with pytest.raises(
        JobError, match="1 tokenize and 9 predict actors and a reader need 10 CPUs .* the cluster has 4"
    ):
        size_pools(Compute(predict=Pool(min=9)), 4, 0)
    with pytest.raises(JobError, match="9 GPUs; the cluster has 64 and 8"):
        size_pools(Compute(predict=Pool(min=9)), 64, 8)


@pytest.mark.parametrize(("cpus", "gpus"), [(64, 8), (64, 0)])
def test_tokenizers_follow_from_the_measured_rate_with_half_as_many_again(cpus: int, gpus: int) -> None:
    for per_worker in (0.01, 0.5, 1.5):
        pools = size_pools(Compute(), cpus, gpus, per_worker)
        busy = per_worker * pools.predict.max
        assert busy <= pools.tokenize.max
        assert pools.tokenize.max <= 1.5 * busy + 1
    assert size_pools(Compute(), 64, 8).tokenize.max == 24
    assert size_pools(Compute(), 64, 0).tokenize.max == 1
