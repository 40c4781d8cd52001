"""The decisions of the first run of a sink, which later runs keep: units, token budget and forecast."""

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
from distilray.pipeline.planning.token_sample import make_forecast, take_sample

log = logging.getLogger(__name__)

_UNITS_PER_WORKER = 4  # at least, so that few workers are idle while others compute their last unit
_MAX_SHRINK = 8  # units become at most this many times smaller to reach that number
_WORTH_CALIBRATING = (
    64  # units of the default size: calibration takes ten seconds, a run of so many units about an hour
)


def make_plan(job: Job, corpus: Corpus, target: ComputeTarget) -> Plan:
    """Cut a corpus into units of a size that suits the target. Raises BackendError as `check_backend` does."""
    check_backend(job, target)
    text_bytes = sum(size for shard in corpus.shards for _, size in shard.groups)
    return cut(corpus, job.compute.unit_bytes or _unit_bytes(target, text_bytes))


def _unit_bytes(target: ComputeTarget, text_bytes: int) -> int:
    """Return the default unit size of the device, or less if there would be too few units for the workers."""
    if target.devices == 1:
        return target.unit_bytes
    even_share = text_bytes // (_UNITS_PER_WORKER * target.devices)
    return max(target.unit_bytes // _MAX_SHRINK, min(target.unit_bytes, even_share))


def forecast_plan_safely(job: Job, plan: Plan, passes: EncoderPasses, target: ComputeTarget) -> Plan:
    """Return the plan as `forecast_plan` does, but without a forecast if the sample cannot be processed.

    A sample cannot be processed if one of its rows raises an exception, or if it ended an earlier process.
    """
    uncalibrated = replace(plan, tokens_per_pack=job.compute.tokens_per_pack)
    with isolation_of(job, target).attempt("plan", "sample") as ended_before:
        if ended_before:
            log.warning("there is no forecast: an earlier process ended while it processed a sample of the corpus")
            return uncalibrated
        try:
            return forecast_plan(job, plan, passes, target)[0]
        except (*USER_ERRORS, *STOP_ERRORS):
            raise
        except Exception as error:  # caused by a row, which will become a dead letter
            log.warning("there is no forecast: a sample of the corpus raises %s", explain(error))
            return uncalibrated


def forecast_plan(
    job: Job, plan: Plan, passes: EncoderPasses, target: ComputeTarget, *, calibrate: bool = False
) -> tuple[Plan, Throughput | None]:
    """Return the plan with its token budget and its forecast, and the throughput of a device if it was measured.

    The throughput is measured if `calibrate` is true, or if the corpus is large and the job does not set
    `tokens_per_pack`.
    """
    tokens_per_pack = job.compute.tokens_per_pack
    sample = take_sample(plan, passes)
    if sample is None:
        return replace(plan, tokens_per_pack=tokens_per_pack), None
    large = plan.text_bytes >= _WORTH_CALIBRATING * target.unit_bytes
    measure = calibrate or (large and tokens_per_pack is None)
    throughput = _measure_throughput(job, target, sample.table) if measure else None
    forecast = make_forecast(sample, passes, target.devices)
    if throughput is None:
        return replace(plan, tokens_per_pack=tokens_per_pack, forecast=forecast), None
    forecast = replace(forecast, rate=throughput.tokens_per_second, device=throughput.device)
    tokens_per_pack = tokens_per_pack or throughput.tokens_per_pack
    return replace(plan, tokens_per_pack=tokens_per_pack, forecast=forecast), throughput


def drop_foreign_calibration(plan: Plan, target: ComputeTarget) -> Plan:
    """Return the plan without its rate and its token budget if these were measured on another kind of device."""
    forecast = plan.forecast
    if forecast is None or forecast.rate is None or forecast.is_for(target.on_gpu):
        return plan
    device = "a GPU" if target.on_gpu else "a CPU"
    log.warning(
        "the plan's tokens_per_pack of %s was measured on %s and is not used on %s. Scores may differ in the last "
        "digit; to choose the value yourself, set compute.tokens_per_pack",
        plan.tokens_per_pack,
        forecast.device,
        device,
    )
    return replace(plan, tokens_per_pack=None, forecast=replace(forecast, rate=None))


def _measure_throughput(job: Job, target: ComputeTarget, table: pa.Table) -> Throughput | None:
    """Measure the throughput of one predict worker. table: tokenized rows."""
    spec = compute_spec(job.compute, None, target)
    if target.pools and target.on_cluster:
        throughput: Throughput | None = import_ray_engine().find_throughput(
            job.tasks, spec, target.pools.predict, table, stall_seconds(job.compute)
        )
        return throughput
    return PredictUnit(job.tasks, spec).find_throughput(table)
