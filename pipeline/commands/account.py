"""The account of a run: the time of its stages, its forecast, and its cost."""

from dataclasses import asdict, replace
from typing import Any

from distilray.operators.objects.stats import Stats
from distilray.pipeline.engines.bottleneck import TimeSpent, advice, bottleneck
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.compute_target import ComputeTarget, import_ray_engine
from distilray.pipeline.planning.forecast import HOUR, cost
from distilray.pipeline.planning.plan import Plan


def account_for(
    job: Job, plan: Plan, computed: Stats, spent: TimeSpent, target: ComputeTarget | None, seconds: float
) -> dict[str, Any]:
    """Return the keys `timing` and `forecast` of the manifest, for the units that this run computed.

    `timing` has the bottleneck and the advice. `forecast` has the forecast next to the actual values. computed: the sum
    over these units. spent: the seconds of the stages. target: where the run computed; None if it computed nothing.
    seconds: the wall-clock time of the computation.
    """
    tokenizers, writers = 0, 0
    if target and target.pools:
        tokenizers, writers = target.pools.tokenize.max, import_ray_engine().WRITERS
    timing = {
        **asdict(spent),
        "bottleneck": bottleneck(spent),
        "advice": advice(spent, target.devices if target else 0, tokenizers, writers),
    }
    predicted = None
    if plan.forecast and target:
        share = (computed.rows + computed.dead_letters) / max(plan.rows + plan.dead_shards, 1)
        predicted = replace(plan.forecast.share(share), devices=target.devices).description(job.compute.price)
    device_hours = spent.occupied / HOUR
    actual = {
        "tokens": computed.tokens,
        "computed_tokens": computed.computed_tokens,
        "devices": spent.workers,
        "rate": computed.computed_tokens / spent.predict if spent.predict else None,
        "device_hours": device_hours,
        "hours": seconds / HOUR,
        "cost": cost(device_hours, job.compute.price),
    }
    return {"timing": timing, "forecast": {"predicted": predicted, "actual": actual}}
