"""What a first run settles for all others: the units for the devices at hand, how they pack, and what it will come to."""

import logging
from dataclasses import replace

import pyarrow as pa

from distilray.model.storage.store import explain
from distilray.operators.encoder_passes import EncoderPasses
from distilray.operators.predict import PredictUnit, Throughput
from distilray.pipeline.corpus.survey import Corpus
from distilray.pipeline.errors import STOP_ERRORS, USER_ERRORS
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.compute_target import (
    ComputeTarget,
    check_backend,
    compute_spec,
    import_ray_engine,
    isolation_of,
    stall_seconds,
)
from distilray.pipeline.planning.plan import Plan, cut
from distilray.pipeline.planning.token_sample import forecast, take_sample

log = logging.getLogger(__name__)

_UNITS_A_WORKER = 4  # at least, or workers are idle while others do their last unit
_SMALLEST = 8  # a unit is so many times smaller for it at most
_WORTH_CALIBRATING = 64  # full units: ten seconds of calibration are little beside an hour


def make_plan(job: Job, corpus: Corpus, target: ComputeTarget) -> Plan:
    """Units for the device at hand. Raises as `check_backend` does."""
    check_backend(job, target)
    text_bytes = sum(size for shard in corpus.shards for _, size in shard.groups)
    return cut(corpus, job.compute.unit_bytes or _unit_bytes(target, text_bytes))


def _unit_bytes(target: ComputeTarget, text_bytes: int) -> int:
    """The device's own size, or less if there would be too few units for the workers."""
    if target.devices == 1:
        return target.unit_bytes
    fair = text_bytes // (_UNITS_A_WORKER * target.devices)
    return max(target.unit_bytes // _SMALLEST, min(target.unit_bytes, fair))


def calibrate_plan_safely(job: Job, plan: Plan, passes: EncoderPasses, target: ComputeTarget) -> Plan:
    """The plan as `settle` has it; without a forecast if looking at a sample fails, or has ended an earlier process."""
    unsettled = replace(plan, tokens_per_pack=job.compute.tokens_per_pack)
    with isolation_of(job, target).attempt("plan", "sample") as died:
        if died:
            log.warning(
                "there is no forecast: an earlier process came to its end while it looked at a sample of the corpus"
            )
            return unsettled
        try:
            return calibrate_plan(job, plan, passes, target)[0]
        except (*USER_ERRORS, *STOP_ERRORS):
            raise
        except Exception as error:  # of a row: it will be a dead letter
            log.warning("there is no forecast: a sample of the corpus raises %s", explain(error))
            return unsettled


def calibrate_plan(
    job: Job, plan: Plan, passes: EncoderPasses, target: ComputeTarget, *, calibrate: bool = False
) -> tuple[Plan, Throughput | None]:
    """The plan with its token budget and its forecast; the pace of the devices if it was worth to know.

    It is if `calibrate` says so, or if the corpus is large and the job does not say how to pack.
    """
    given = job.compute.tokens_per_pack
    sample = take_sample(plan, passes)
    if sample is None:
        return replace(plan, tokens_per_pack=given), None
    large = plan.text_bytes >= _WORTH_CALIBRATING * target.unit_bytes
    pace = _measure_throughput(job, target, sample.table) if calibrate or (large and given is None) else None
    ahead = forecast(sample, passes, target.devices)
    if pace is None:
        return replace(plan, tokens_per_pack=given, forecast=ahead), None
    ahead = replace(ahead, rate=pace.tokens_per_second, device=pace.device)
    return replace(plan, tokens_per_pack=given or pace.tokens_per_pack, forecast=ahead), pace


def drop_foreign_calibration(plan: Plan, target: ComputeTarget) -> Plan:
    """The plan without its rate and its token budget if these were measured on another kind of device."""
    ahead = plan.forecast
    if ahead is None or ahead.rate is None or ahead.is_for(target.on_gpu):
        return plan
    here = "a GPU" if target.on_gpu else "a CPU"
    log.warning(
        "tokens_per_pack of the plan, %s, was measured on %s: not used on %s, where scores may differ in the last digit; "
        "set compute.tokens_per_pack to have another than the default",
        plan.tokens_per_pack,
        ahead.device,
        here,
    )
    return replace(plan, tokens_per_pack=None, forecast=replace(ahead, rate=None))


def _measure_throughput(job: Job, target: ComputeTarget, table: pa.Table) -> Throughput | None:
    """Of one worker of those that predict."""
    spec = compute_spec(job.compute, None, target)
    if target.pools and target.on_cluster:
        pace: Throughput | None = import_ray_engine().measure_throughput(
            job.tasks, spec, target.pools.predict, table, stall_seconds(job.compute)
        )
        return pace
    return PredictUnit(job.tasks, spec).measure_throughput(table)
