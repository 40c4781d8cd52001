"""The computation of the units of a plan, on either engine."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from distilray.operators.rows.unit import Unit
from distilray.operators.worker_config import WorkerConfig
from distilray.operators.write import Commit, Write
from distilray.pipeline.engines import local
from distilray.pipeline.engines.actor_pools import ActorCounts
from distilray.pipeline.engines.prometheus import PrometheusMetrics
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.checked_tasks import CheckedTasks
from distilray.pipeline.planning.compute_target import (
    ComputeTarget,
    compute_spec,
    import_ray_engine,
    isolation_of,
    stall_seconds,
)
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.sink.parity_check import sampled_share


def worker_config(job: Job, plan: Plan, target: ComputeTarget) -> WorkerConfig:
    """Return the configuration of the workers of either engine."""
    spec = replace(
        compute_spec(job.compute, plan.tokens_per_pack, target), parity=sampled_share(job.compute.parity, plan)
    )
    return WorkerConfig(plan.read, job.tasks, spec, isolation_of(job, target))


def compute_units(
    job: Job,
    plan: Plan,
    checked: CheckedTasks,
    units: Sequence[Unit],
    target: ComputeTarget,
    fingerprint: str,
    committed_units: int,
    write_type: type[Write] = Write,
) -> Iterator[Commit]:
    """Answer and commit units of a plan. Yields each commit. A run on Ray counts each commit in its Prometheus metrics.

    checked: the tasks of the job. units: the units to compute. fingerprint: the fingerprint of the plan.
    committed_units: the number of committed units of the plan that are not in `units`. write_type: the operator that
    commits a unit.
    """
    config = worker_config(job, plan, target)
    if any(
        unit.only_rows is not None for unit in units
    ):  # a retry: all of its rows failed before, so many may fail again
        config = replace(config, isolation=replace(config.isolation, max_failed_rows=None))
    sink = job.sink
    write = write_type(sink.uri, job.tasks, plan.read.columns, checked.answers, sink.dead_text, sink.storage_options)
    if target.pools is None:
        return local.run_units(config, write, units)
    engine = import_ray_engine()
    job_tags = {"fingerprint": fingerprint, "tasks": ",".join(task.name for task in job.tasks)}
    metrics = PrometheusMetrics(engine.metrics, job_tags, planned=len(plan.units), committed=committed_units)
    stall = stall_seconds(job.compute)
    return metrics.count_commits(engine.run_units(config, write, units, target.pools, stall, metrics.set_gauges))


def actor_counts(target: ComputeTarget) -> Callable[[], Mapping[str, ActorCounts]]:
    """Return a function that returns the present counts of actors by stage. They are empty for the local engine."""
    return (lambda: dict(import_ray_engine().ActorMonitor.stages)) if target.pools else dict
