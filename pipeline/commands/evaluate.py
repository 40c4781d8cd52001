"""How right a job's answers are, on a corpus that has them."""

from collections.abc import Iterator
from functools import reduce
from typing import Any

from distilray.model.metrics.counts import merge
from distilray.operators.evaluate import Counts
from distilray.operators.tasks.task import EvaluatedTask
from distilray.pipeline.commands.compute import worker_config
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.engines import local
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.checked_tasks import check_tasks
from distilray.pipeline.planning.compute_target import ComputeTarget, find_target, import_ray_engine, stall_seconds
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.planning.planner import make_plan


def evaluate(job: Job) -> dict[str, Any]:
    """Loss and metrics of every task that names its gold column, overall and by label; nothing is written.

    {task name: {"corpus": {judged, without_gold, dead, unread_shards}, "loss": ..., and the task's metrics}}. Raises JobError or
    CheckpointError if the job cannot be evaluated, MetricError for gold that does not fit its task.
    """
    tasks = [task for task in job.tasks if isinstance(task, EvaluatedTask) and task.gold]
    if not tasks:
        raise JobError("no task has a gold column: say tasks.0.gold=<the column with the right answers>")
    check_tasks(tasks)
    gold = list(dict.fromkeys(task.gold or "" for task in tasks))
    judged = job.model_copy(update={"tasks": tasks, "source": job.source.model_copy(update={"keep": gold})})
    corpus = survey(judged.source, judged.inputs)
    target = find_target(judged.compute)
    plan = make_plan(judged, corpus, target)
    if not plan.rows:
        raise JobError(f"no rows to judge in {', '.join(job.source.uris)}{_unread(plan)}")
    counts: dict[str, Any] = reduce(merge, _counts(judged, plan, target), {})
    for each in counts.values():
        each["corpus"]["unread_shards"] = plan.dead_shards
    return {task.name: _figures(task, counts[task.name]) for task in tasks}


def _unread(plan: Plan) -> str:
    """The shards that could not be read, and why the first could not."""
    errors = [f"{unit.uri}: {unit.error[1]}" for unit in plan.units if unit.error]
    return f"; {len(errors)} shards could not be read, such as {errors[0]}" if errors else ""


def _counts(job: Job, plan: Plan, target: ComputeTarget) -> Iterator[Counts]:
    units = [unit for unit in plan.units if unit.error is None]
    work = worker_config(job, plan, target)
    if target.pools is None:
        return local.judge_units(work, units)
    stream: Iterator[Counts] = import_ray_engine().judge_units(work, units, target.pools, stall_seconds(job.compute))
    return stream


def _figures(task: EvaluatedTask, counts: dict[str, Any]) -> dict[str, Any]:
    if not counts["corpus"]["judged"]:
        raise JobError(f"{task.name}: no row could be judged: {counts['corpus']}")
    return {"corpus": counts["corpus"], **task.figures(counts["figures"])}
