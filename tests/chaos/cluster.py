"""A Ray cluster of several nodes on one machine, and its processes: who they are, and the end of them."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# in the titles of processes; those of tasks change with what they do
VICTIMS = {
    "predict actor": b"MapBatches(Predict)",
    "tokenize actor": b"MapBatches(Tokenize)",
    "read task": b"ray::ReadUnitSource",
    "write task": b"ray::MapBatches(Write)",
}


@dataclass
class Nodes:
    """A head that does no work, and nodes of three (logical) CPUs that do it."""

    cluster: Any
    working: list[Any] = field(default_factory=list)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self) -> None:
        self.working.append(self.cluster.add_node(num_cpus=3, object_store_memory=2**27))

    def kill(self, node: Any) -> None:
        """The raylet, its agents and its workers, at once."""
        self.working.remove(node)
        own = [info.process.pid for infos in node.all_processes.values() for info in infos]
        for pid in [*own, *(child for parent in own for child in _children(parent))]:
            end(pid)
        self.cluster.remove_node(node, allow_graceful=False)

    def workers(self, victim: str) -> list[int]:
        """Process ids of all workers of a kind of VICTIMS, as of now."""
        raylets = [info.process.pid for node in self.working for info in node.all_processes["raylet"]]
        return [pid for raylet in raylets for pid in _children(raylet) if VICTIMS[victim] in _title(pid)]


@contextmanager
def nodes(count: int) -> Iterator[Nodes]:
    """Runs while the block runs."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 2**27}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        found = Nodes(cluster)
        for _ in range(count):
            found.add()
        yield found
    finally:
        cluster.shutdown()


def end(pid: int) -> None:
    """SIGKILL, to whoever is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    with suppress(OSError):
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        # a process is started by any thread
        more = [p.read_text() for p in Path(f"/proc/{parent}/task").glob("*/children")]
        return sorted({int(pid) for pid in " ".join([text, *more]).split()})
    return []


def _title(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""
