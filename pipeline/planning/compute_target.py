"""Where a job computes, and the settings of its workers."""

import hashlib
import os
from dataclasses import dataclass
from types import ModuleType

import torch

from distilray.model.inference.device import choose_dtype
from distilray.model.network.attention import choose_attention
from distilray.operators.isolation.attempts import MAX_FAILED_ROWS, Isolation
from distilray.operators.tasks.task import open_checkpoints
from distilray.operators.worker_config import ComputeSpec
from distilray.pipeline.engines.actor_pools import ActorPools, size_pools
from distilray.pipeline.job.job import Compute, Job
from distilray.pipeline.planning.forecast import Forecast

# Bytes of text in a unit: a minute of work for a CPU, seconds for a GPU. 32 MiB of text have 8 M tokens, which take
# about 2 GB of memory while they are decoded.
_UNIT_BYTES = {"cpu": 2**20, "gpu": 2**25}
# Seconds without progress until a worker on Ray ends its process. The local engine has no default deadline, because it
# computes in the user's process.
_DEADLINE = 300
# Seconds without progress until a run on Ray stops. They must cover six deadlines at least: one of a unit, one of a
# part of the unit, and four of single rows.
_STALL, _DEADLINES_PER_STALL = 1800, 6


@dataclass(frozen=True)
class ComputeTarget:
    """The devices that a job computes on.

    on_gpu: whether workers compute on GPUs. pools: the actor pools, None for the local engine. on_cluster: whether this
    process has joined a Ray cluster.
    """

    on_gpu: bool
    pools: ActorPools | None
    on_cluster: bool

    @property
    def devices(self) -> int:
        """The number of predict workers."""
        return self.pools.predict.max if self.pools else 1

    @property
    def unit_bytes(self) -> int:
        """The default size of a unit, in bytes of text."""
        return _UNIT_BYTES["gpu" if self.on_gpu else "cpu"]


def find_target(compute: Compute, forecast: Forecast | None = None, *, start: bool = True) -> ComputeTarget:
    """Find the cluster or the machine to compute on, and size its actor pools.

    forecast: the source of the number of tokenizers per predict worker, if it was measured on the same kind of device.
    start: whether to start a cluster if there is none; otherwise the resources of this machine are counted. Raises
    JobError if the resources are too small for the job.
    """
    if compute.engine == "local":
        return ComputeTarget(torch.cuda.is_available(), None, on_cluster=False)
    on_cluster = start or "RAY_ADDRESS" in os.environ
    machine = (float(os.cpu_count() or 1), float(torch.cuda.device_count()), None)
    cpus, gpus, cpus_left = import_ray_engine().connect() if on_cluster else machine
    if on_cluster and compute.gpus:  # an autoscaler adds nodes only if workers are waiting for resources
        gpus = max(gpus, compute.gpus)
    tokenizers = forecast.tokenizers_per_device if forecast and forecast.is_for(gpus > 0) else None
    return ComputeTarget(gpus > 0, size_pools(compute, cpus, gpus, tokenizers, cpus_left), on_cluster)


def check_backend(job: Job, target: ComputeTarget) -> None:
    """Raise BackendError if the target is a CPU and does not support the job's dtype and attention.

    A GPU may be on another machine, so its workers check this themselves.
    """
    if not target.on_gpu:
        compute, cpu = job.compute, torch.device("cpu")
        for checkpoint in open_checkpoints(job.tasks):
            choose_attention(compute.attention, cpu, choose_dtype(compute.dtype, cpu), checkpoint.config.head_dim)


def isolation_of(job: Job, target: ComputeTarget) -> Isolation:
    """Return the settings that limit the damage of rows that make a worker fail."""
    run = hashlib.sha256(job.sink.uri.encode()).hexdigest()[:16]
    max_failed_rows = MAX_FAILED_ROWS if job.max_dead is None else None  # else max_dead is the limit
    return Isolation(run, job.compute.deadline or (_DEADLINE if target.pools else None), max_failed_rows)


def stall_seconds(compute: Compute) -> float:
    """Return the seconds after which a run on Ray stops if no stage takes or returns a unit.

    The default is longer than the deadlines of a few rows that hang.
    """
    return compute.stall or max(_STALL, _DEADLINES_PER_STALL * (compute.deadline or _DEADLINE))


def compute_spec(compute: Compute, tokens_per_pack: int | None, target: ComputeTarget) -> ComputeSpec:
    """Return the settings with which each worker computes. tokens_per_pack: the budget of the plan."""
    threads = target.pools.threads if target.pools else compute.threads
    return ComputeSpec(compute.dtype, compute.attention, compute.tokens_per_pack or tokens_per_pack, threads)


def import_ray_engine() -> ModuleType:
    """Import the module of the Ray engine. Call this only where Ray is used, because importing Ray takes seconds."""
    from distilray.pipeline.engines import ray_data  # noqa: PLC0415

    return ray_data
