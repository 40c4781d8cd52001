"""The units of a plan, computed on either engine."""

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
    """What the workers of either engine must know."""
    spec = compute_spec(job.compute, plan.tokens_per_pack, target)
    return WorkerConfig(
        plan.read, job.tasks, replace(spec, parity=sampled_share(job.compute.parity, plan)), isolation_of(job, target)
    )


def compute_units(
    job: Job,
    plan: Plan,
    checked: CheckedTasks,
    todo: Sequence[Unit],
    target: ComputeTarget,
    fingerprint: str,
    done: int,
    kind: type[Write] = Write,
) -> Iterator[Commit]:
    """Answers the units and commits them by a `kind` of Write; yields each commit, which Ray's metrics have then.

    fingerprint: of the plan; done: units of it that are committed and not among those to do.
    """
    work, columns = worker_config(job, plan, target), plan.read.columns
    if any(unit.only_rows is not None for unit in todo):  # dead letters: that they fail one after another tells nothing
        work = replace(work, isolation=replace(work.isolation, max_failed_rows=None))
    write = kind(job.sink.uri, job.tasks, columns, checked.answers, job.sink.dead_text, job.sink.storage_options)
    if target.pools is None:
        return local.run_units(work, write, todo)
    ray = import_ray_engine()
    tags = {"fingerprint": fingerprint, "tasks": ",".join(task.name for task in job.tasks)}
    meters = PrometheusMetrics(ray.metrics, tags, planned=len(plan.units), done=done)
    return meters.metered(ray.run_units(work, write, todo, target.pools, stall_seconds(job.compute), meters.set_gauges))


def actor_counts(target: ComputeTarget) -> Callable[[], Mapping[str, ActorCounts]]:
    """Tells what the actors of each stage are at."""
    return (lambda: dict(import_ray_engine().ActorMonitor.stages)) if target.pools else dict
