"""Ray clusters as processes of this machine. This process is not connected to them."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def cluster_of(*cpus: int) -> Iterator[Any]:
    """Run a `ray.cluster_utils.Cluster`. cpus: the number of CPUs of each node; the first is the head."""
    from ray.cluster_utils import Cluster  # imported late: it takes seconds

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False})
    try:
        for count in cpus[1:]:
            cluster.add_node(num_cpus=count)
        yield cluster
    finally:
        cluster.shutdown()


@contextmanager
def autoscaling_cluster(folder: Path, cpus: int, groups: dict[str, Any]) -> Iterator[str]:
    """Run a head whose autoscaler (v2) adds nodes of the groups as processes of this machine. Yields its address.

    cpus: the number of CPUs of the head. This does not use `AutoscalingCluster.start`, which ends every Ray cluster of
    the machine.
    """
    from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID  # imported late, as above
    from ray.util import get_node_ip_address

    address = f"{get_node_ip_address()}:{free_port()}"
    provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
    commands = ["setup_commands", "initialization_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter"]
    commands += [f"{kind}_{what}_commands" for kind in ("head", "worker") for what in ("setup", "start_ray")]
    config = {
        "cluster_name": "fake",
        "max_workers": sum(group["max_workers"] for group in groups.values()),
        "idle_timeout_minutes": 1,
        "upscaling_speed": 1,
        "provider": {"type": "external", "module": provider, "gcs_address": address, "launch_multiple": True},
        "auth": {},
        "file_mounts": {},
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": cpus}, "node_config": {}, "max_workers": 0},
            **groups,
        },
        **{key: [] for key in commands},
    }
    (folder / "autoscaler.json").write_text(json.dumps(config))
    environment = {
        **os.environ,
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_AUTH_MODE": "disabled",  # `ray start` turns tokens on
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
        "RAY_gcs_rpc_server_reconnect_timeout_s": "5",  # nodes end so many seconds after their head
    }
    options = [
        "--head",
        "--block",
        f"--port={address.rpartition(':')[2]}",
        f"--num-cpus={cpus}",
        "--include-dashboard=false",
    ]
    options += ["--object-store-memory=200000000", f"--autoscaling-config={folder / 'autoscaler.json'}"]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options]
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield address
        finally:
            process.terminate()
            process.wait(60)
