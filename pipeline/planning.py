"""What a first run settles for all others: the units for the devices at hand, how they pack, and what it will come to."""

import hashlib
import logging
import os
from dataclasses import dataclass, replace
from types import ModuleType

import pyarrow as pa
import torch

from distilray.model.attention import choose_attention
from distilray.model.device import choose_dtype
from distilray.model.store import explain
from distilray.operators.guard import HOPELESS, Guard
from distilray.operators.passes import Passes
from distilray.operators.predict import Pace, Predict
from distilray.operators.task import ComputeSpec, open_checkpoints
from distilray.pipeline.errors import STOP_ERRORS, USER_ERRORS
from distilray.pipeline.forecast import Forecast
from distilray.pipeline.job import Compute, Job
from distilray.pipeline.plan import Plan, cut
from distilray.pipeline.pools import Pools, size_pools
from distilray.pipeline.sample import forecast, take_sample
from distilray.pipeline.shards import Corpus

log = logging.getLogger(__name__)

# a minute of work for a CPU and seconds for a GPU: 32 MiB of text are 8 M tokens, about 2 GB while they are decoded
_UNIT_BYTES = {"cpu": 2**20, "gpu": 2**25}
_UNITS_A_WORKER = 4  # at least, or workers are idle while others do their last unit
_SMALLEST = 8  # a unit is so many times smaller for it at most
_DEADLINE = 300  # seconds without progress, on Ray; the local engine's process is the user's own
_STALL, _HANGS = 1800, 6  # seconds; deadlines: of a unit, of a part of it, and of four rows
_WORTH_CALIBRATING = 64  # full units: ten seconds of calibration are little beside an hour


@dataclass(frozen=True)
class Site:
    """Where a job computes. pools: None for the local engine; joined: on a cluster, and not in this process."""

    on_gpu: bool
    pools: Pools | None
    joined: bool

    @property
    def devices(self) -> int:
        return self.pools.predict.max if self.pools else 1

    @property
    def unit_bytes(self) -> int:
        return _UNIT_BYTES["gpu" if self.on_gpu else "cpu"]


def find_site(compute: Compute, ahead: Forecast | None = None, *, start: bool = True) -> Site:
    """The cluster or the machine at hand, with workers in the proportion that the forecast `ahead` tells.

    start: a cluster may be started, and not just this machine looked at. Raises JobError if it is too small for what the
    job asks for.
    """
    if compute.engine == "local":
        return Site(torch.cuda.is_available(), None, joined=False)
    joined = start or "RAY_ADDRESS" in os.environ
    here = (float(os.cpu_count() or 1), float(torch.cuda.device_count()), None)
    cpus, gpus, left = ray_engine().connect() if joined else here
    if joined and compute.gpus:  # workers that wait for a place are what an autoscaler acts upon
        gpus = max(gpus, compute.gpus)
    per_worker = ahead.tokenizers_per_device if ahead and ahead.is_for(gpus > 0) else None
    return Site(gpus > 0, size_pools(compute, cpus, gpus, per_worker, left), joined)


def make_plan(job: Job, corpus: Corpus, site: Site) -> Plan:
    """Units for the device at hand. Raises as `check_backend` does."""
    check_backend(job, site)
    text_bytes = sum(size for shard in corpus.shards for _, size in shard.groups)
    return cut(corpus, job.compute.unit_bytes or _unit_bytes(site, text_bytes))


def check_backend(job: Job, site: Site) -> None:
    """Raises BackendError if a CPU cannot do what the job asks for; a GPU is on another machine: its workers check."""
    if not site.on_gpu:
        compute, cpu = job.compute, torch.device("cpu")
        for checkpoint in open_checkpoints(job.tasks):
            choose_attention(compute.attention, cpu, choose_dtype(compute.dtype, cpu), checkpoint.config.head_dim)


def _unit_bytes(site: Site, text_bytes: int) -> int:
    """The device's own size, or less if there would be too few units for the workers."""
    if site.devices == 1:
        return site.unit_bytes
    fair = text_bytes // (_UNITS_A_WORKER * site.devices)
    return max(site.unit_bytes // _SMALLEST, min(site.unit_bytes, fair))


def guard_of(job: Job, site: Site) -> Guard:
    """How this job's workers outlive its rows."""
    run = hashlib.sha256(job.sink.uri.encode()).hexdigest()[:16]
    hopeless = HOPELESS if job.max_dead is None else None  # else the user has said how many may die
    return Guard(run, job.compute.deadline or (_DEADLINE if site.pools else None), hopeless)


def stall_of(compute: Compute) -> float:
    """Seconds without a unit taken or given after which a run on Ray stops: by itself more than some rows that hang take."""
    return compute.stall or max(_STALL, _HANGS * (compute.deadline or _DEADLINE))


def settle_safely(job: Job, plan: Plan, passes: Passes, site: Site) -> Plan:
    """The plan as `settle` has it; without a forecast if looking at a sample fails, or has ended an earlier process."""
    unsettled = replace(plan, tokens_per_pack=job.compute.tokens_per_pack)
    with guard_of(job, site).begun("plan", "sample") as died:
        if died:
            log.warning(
                "there is no forecast: an earlier process came to its end while it looked at a sample of the corpus"
            )
            return unsettled
        try:
            return settle(job, plan, passes, site)[0]
        except (*USER_ERRORS, *STOP_ERRORS):
            raise
        except Exception as error:  # of a row: it will be a dead letter
            log.warning("there is no forecast: a sample of the corpus raises %s", explain(error))
            return unsettled


def settle(job: Job, plan: Plan, passes: Passes, site: Site, *, calibrate: bool = False) -> tuple[Plan, Pace | None]:
    """The plan with its token budget and its forecast; the pace of the devices if it was worth to know.

    It is if `calibrate` says so, or if the corpus is large and the job does not say how to pack.
    """
    given = job.compute.tokens_per_pack
    sample = take_sample(plan, passes)
    if sample is None:
        return replace(plan, tokens_per_pack=given), None
    large = plan.text_bytes >= _WORTH_CALIBRATING * site.unit_bytes
    pace = _pace(job, site, sample.table) if calibrate or (large and given is None) else None
    ahead = forecast(sample, passes, site.devices)
    if pace is None:
        return replace(plan, tokens_per_pack=given, forecast=ahead), None
    ahead = replace(ahead, rate=pace.tokens_per_second, device=pace.device)
    return replace(plan, tokens_per_pack=given or pace.tokens_per_pack, forecast=ahead), pace


def fitted(plan: Plan, site: Site) -> Plan:
    """The plan without its rate and its token budget if these were measured on another kind of device."""
    ahead = plan.forecast
    if ahead is None or ahead.rate is None or ahead.is_for(site.on_gpu):
        return plan
    here = "a GPU" if site.on_gpu else "a CPU"
    log.warning(
        "tokens_per_pack of the plan, %s, was measured on %s: not used on %s, where scores may differ in the last digit; "
        "set compute.tokens_per_pack to have another than the default",
        plan.tokens_per_pack,
        ahead.device,
        here,
    )
    return replace(plan, tokens_per_pack=None, forecast=replace(ahead, rate=None))


def _pace(job: Job, site: Site, table: pa.Table) -> Pace | None:
    """Of one worker of those that predict."""
    spec = compute_spec(job.compute, None, site)
    if site.pools and site.joined:
        pace: Pace | None = ray_engine().pace(job.tasks, spec, site.pools.predict, table, stall_of(job.compute))
        return pace
    return Predict(job.tasks, spec).pace(table)


def compute_spec(compute: Compute, tokens_per_pack: int | None, site: Site) -> ComputeSpec:
    """How each worker computes."""
    threads = site.pools.threads if site.pools else compute.threads
    return ComputeSpec(compute.dtype, compute.attention, compute.tokens_per_pack or tokens_per_pack, threads)


def ray_engine() -> ModuleType:
    """Ray takes seconds to import: only where it is used."""
    from distilray.pipeline import graph  # noqa: PLC0415

    return graph
