"""Real clusters of Ray on this machine, which nothing in this process is connected to."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def cluster_of(*cpus: int) -> Iterator[Any]:
    """A `ray.cluster_utils.Cluster` of nodes with that many CPUs each, the first of them the head."""
    from ray.cluster_utils import Cluster  # imported late: it takes seconds

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False})
    try:
        for count in cpus[1:]:
            cluster.add_node(num_cpus=count)
        yield cluster
    finally:
        cluster.shutdown()
