"""Where a job computes, and how its workers are set up."""

import hashlib
import os
from dataclasses import dataclass
from types import ModuleType

import torch

from distilray.model.inference.device import choose_dtype
from distilray.model.network.attention import choose_attention
from distilray.operators.isolation.bisect import MAX_FAILED_ROWS, Isolation
from distilray.operators.tasks.task import open_checkpoints
from distilray.operators.worker_config import ComputeSpec
from distilray.pipeline.engines.actor_pools import ActorPools, size_pools
from distilray.pipeline.job.job import Compute, Job
from distilray.pipeline.planning.forecast import Forecast

# a minute of work for a CPU and seconds for a GPU: 32 MiB of text are 8 M tokens, about 2 GB while they are decoded
_UNIT_BYTES = {"cpu": 2**20, "gpu": 2**25}


_DEADLINE = 300  # seconds without progress, on Ray; the local engine's process is the user's own


_STALL, _HANGS = 1800, 6  # seconds; deadlines: of a unit, of a part of it, and of four rows


@dataclass(frozen=True)
class ComputeTarget:
    """Where a job computes. pools: None for the local engine; joined: on a cluster, and not in this process."""

    on_gpu: bool
    pools: ActorPools | None
    on_cluster: bool

    @property
    def devices(self) -> int:
        return self.pools.predict.max if self.pools else 1

    @property
    def unit_bytes(self) -> int:
        return _UNIT_BYTES["gpu" if self.on_gpu else "cpu"]


def find_target(compute: Compute, ahead: Forecast | None = None, *, start: bool = True) -> ComputeTarget:
    """The cluster or the machine at hand, with workers in the proportion that the forecast `ahead` tells.

    start: a cluster may be started, and not just this machine looked at. Raises JobError if it is too small for what the
    job asks for.
    """
    if compute.engine == "local":
        return ComputeTarget(torch.cuda.is_available(), None, on_cluster=False)
    on_cluster = start or "RAY_ADDRESS" in os.environ
    here = (float(os.cpu_count() or 1), float(torch.cuda.device_count()), None)
    cpus, gpus, left = import_ray_engine().connect() if on_cluster else here
    if on_cluster and compute.gpus:  # workers that wait for a place are what an autoscaler acts upon
        gpus = max(gpus, compute.gpus)
    per_worker = ahead.tokenizers_per_device if ahead and ahead.is_for(gpus > 0) else None
    return ComputeTarget(gpus > 0, size_pools(compute, cpus, gpus, per_worker, left), on_cluster)


def check_backend(job: Job, target: ComputeTarget) -> None:
    """Raises BackendError if a CPU cannot do what the job asks for; a GPU is on another machine: its workers check."""
    if not target.on_gpu:
        compute, cpu = job.compute, torch.device("cpu")
        for checkpoint in open_checkpoints(job.tasks):
            choose_attention(compute.attention, cpu, choose_dtype(compute.dtype, cpu), checkpoint.config.head_dim)


def isolation_of(job: Job, target: ComputeTarget) -> Isolation:
    """How this job's workers outlive its rows."""
    run = hashlib.sha256(job.sink.uri.encode()).hexdigest()[:16]
    max_failed_rows = MAX_FAILED_ROWS if job.max_dead is None else None  # else the user has said how many may die
    return Isolation(run, job.compute.deadline or (_DEADLINE if target.pools else None), max_failed_rows)


def stall_seconds(compute: Compute) -> float:
    """Seconds without a unit taken or given after which a run on Ray stops: by itself more than some rows that hang take."""
    return compute.stall or max(_STALL, _HANGS * (compute.deadline or _DEADLINE))


def compute_spec(compute: Compute, tokens_per_pack: int | None, target: ComputeTarget) -> ComputeSpec:
    """How each worker computes."""
    threads = target.pools.threads if target.pools else compute.threads
    return ComputeSpec(compute.dtype, compute.attention, compute.tokens_per_pack or tokens_per_pack, threads)


def import_ray_engine() -> ModuleType:
    """Ray takes seconds to import: only where it is used."""
    from distilray.pipeline.engines import ray_data as graph  # noqa: PLC0415

    return graph
