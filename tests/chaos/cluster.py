"""A Ray cluster of several nodes on one machine, and functions that find and kill its processes."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# parts of the titles of processes; the title of a task's process changes with the task
VICTIMS = {
    "predict actor": b"MapBatches(Predict)",
    "tokenize actor": b"MapBatches(Tokenize)",
    "read task": b"ray::ReadUnit",
    "write task": b"ray::MapBatches(Write)",
}


@dataclass
class Nodes:
    """A cluster: a head without CPUs, and worker nodes of three logical CPUs each."""

    cluster: Any
    worker_nodes: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self) -> None:
        self.worker_nodes.append(self.cluster.add_node(num_cpus=3, object_store_memory=2**27))

    def kill(self, node: Any) -> None:
        """Kill the raylet of a node, its agents and its workers at once."""
        self.worker_nodes.remove(node)
        pids = [info.process.pid for infos in node.all_processes.values() for info in infos]
        for pid in [*pids, *(child for parent in pids for child in _children(parent))]:
            kill_process(pid)
        self.cluster.remove_node(node, allow_graceful=False)

    def workers(self, victim: str) -> list[int]:
        """Return the process ids of all running workers of a kind. victim: a key of VICTIMS."""
        raylets = [info.process.pid for node in self.worker_nodes for info in node.all_processes["raylet"]]
        return [pid for raylet in raylets for pid in _children(raylet) if VICTIMS[victim] in _title(pid)]


@contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """Run a cluster with a number of worker nodes during the block."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 2**27}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        started = Nodes(cluster)
        for _ in range(count):
            started.add()
        yield started
    finally:
        cluster.shutdown()


def kill_process(pid: int) -> None:
    """Send SIGKILL to a process, if it still exists."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    with suppress(OSError):
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        # any thread may start a process
        of_threads = [p.read_text() for p in Path(f"/proc/{parent}/task").glob("*/children")]
        return sorted({int(pid) for pid in " ".join([text, *of_threads]).split()})
    return []


def _title(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
