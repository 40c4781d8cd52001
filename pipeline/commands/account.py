"""Where the time of a run went, beside what was predicted."""

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
    """Where the time went, what to change, and what was predicted and happened, of what this run computed."""
    tokenizers, writers = (
        (target.pools.tokenize.max, import_ray_engine().WRITERS) if target and target.pools else (0, 0)
    )
    said = {
        "bottleneck": bottleneck(spent),
        "advice": advice(spent, target.devices if target else 0, tokenizers, writers),
    }
    part = (computed.rows + computed.dead_letters) / max(plan.rows + plan.dead_shards, 1)
    predicted = None
    if plan.forecast and target:
        predicted = replace(plan.forecast.share(part), devices=target.devices).description(job.compute.price)
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
    return {"timing": {**asdict(spent), **said}, "forecast": {"predicted": predicted, "actual": actual}}
