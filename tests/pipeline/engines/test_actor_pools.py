"""Pools fit the cluster, with CPUs to spare, whatever its size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distilray.pipeline import Compute, JobError, Pool
from distilray.pipeline.engines.actor_pools import size_pools


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


@given(st.lists(st.integers(1, 96), min_size=2, max_size=12), st.integers(0, 2), st.data())
def test_after_any_node_is_lost_all_that_cannot_wait_find_a_place(
    nodes: list[int], gpus: int, data: st.DataObject
) -> None:
    """However the actors lie on the nodes that are left, with units of CPUs as Ray counts them."""
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
    for ask in actors:
        fits = [i for i, there in enumerate(free) if there >= ask]
        if fits:
            free[data.draw(st.sampled_from(fits))] -= ask
            placed.append(ask)
    assert max(free) >= pools.read_cpus
    assert {pools.tokenize.num_cpus, pools.predict.num_cpus} <= set(placed)


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


def test_a_cluster_without_cpus_is_one_clear_error() -> None:
    with pytest.raises(JobError, match="the cluster has no CPUs"):
        size_pools(Compute(), 0, 0)
