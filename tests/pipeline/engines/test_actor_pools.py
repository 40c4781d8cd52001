"""Sizes of actor pools: they fit a cluster of any size and leave CPUs free."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilray.pipeline import Compute, JobError, Pool
from distilray.pipeline.engines.actor_pools import size_pools


@given(st.integers(1, 512), st.integers(0, 64), st.none() | st.floats(1e-6, 50))
def test_the_largest_pools_leave_cpus_for_readers(cpus: int, gpus: int, per_worker: float | None) -> None:
    if gpus and cpus < 2 * gpus:
        return  # no machine has fewer than two CPUs per GPU
    pools = size_pools(Compute(), cpus, gpus, per_worker)
    both = (pools.tokenize, pools.predict)
    assert sum(workers.max * workers.num_cpus for workers in both) + pools.read_cpus <= cpus
    assert all(1 <= workers.min <= workers.max for workers in both)
    assert pools.predict.max * pools.predict.num_gpus == gpus
    assert 1 <= pools.threads <= max(cpus, 1)


@given(st.lists(st.integers(1, 96), min_size=2, max_size=12), st.integers(0, 2), st.data())
def test_pools_fit_after_the_loss_of_any_node(nodes: list[int], gpus: int, data: st.DataObject) -> None:
    """The placement of the actors on the remaining nodes is arbitrary. CPUs are counted as Ray counts them."""
    if gpus and min(nodes) < 2 * gpus:
        return
    cpus, left = sum(nodes), sum(nodes) - max(nodes)
    pools = size_pools(Compute(), cpus, gpus * len(nodes), remaining_cpus=left)
    alone = size_pools(Compute(), cpus, gpus * len(nodes))
    assert [pools.tokenize.max, pools.predict.max, pools.threads] == [
        alone.tokenize.max,
        alone.predict.max,
        alone.threads,
    ]
    both = (pools.tokenize, pools.predict)
    assert sum(workers.max * workers.num_cpus for workers in both) + pools.read_cpus <= left
    free = [float(cpus) for cpus in sorted(nodes)[:-1]]
    actors = data.draw(st.permutations([w.num_cpus for w in both for _ in range(w.max)]))
    placed = []
    for need in actors:
        fits = [i for i, cpus in enumerate(free) if cpus >= need]
        if fits:
            free[data.draw(st.sampled_from(fits))] -= need
            placed.append(need)
    assert max(free) >= pools.read_cpus
    assert {pools.tokenize.num_cpus, pools.predict.num_cpus} <= set(placed)


def test_requested_pools_are_used_or_an_error() -> None:
    pools = size_pools(Compute(tokenize=Pool(min=2, max=3), predict=Pool(min=1, max=4), threads=2), 16, 0)
    assert (pools.tokenize.min, pools.tokenize.max, pools.predict.max, pools.threads) == (2, 3, 4, 2)
    with pytest.raises(
        JobError, match="1 tokenize and 9 predict actors and a reader need 10 CPUs .* the cluster has 4"
    ):
        size_pools(Compute(predict=Pool(min=9)), 4, 0)
    with pytest.raises(JobError, match="9 GPUs; the cluster has 64 and 8"):
        size_pools(Compute(predict=Pool(min=9)), 64, 8)


@pytest.mark.parametrize(("cpus", "gpus"), [(64, 8), (64, 0)])
def test_tokenizers_cover_up_to_one_and_a_half_times_the_measured_need(cpus: int, gpus: int) -> None:
    for per_worker in (0.01, 0.5, 1.5):
        pools = size_pools(Compute(), cpus, gpus, per_worker)
        busy = per_worker * pools.predict.max
        assert busy <= pools.tokenize.max
        assert pools.tokenize.max <= 1.5 * busy + 1
    assert size_pools(Compute(), 64, 8).tokenize.max == 24
    assert size_pools(Compute(), 64, 0).tokenize.max == 1


def test_a_cluster_without_cpus_is_an_error() -> None:
    with pytest.raises(JobError, match="the cluster has no CPUs"):
        size_pools(Compute(), 0, 0)
