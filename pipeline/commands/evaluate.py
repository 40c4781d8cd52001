"""The command `distilray evaluate`: the loss and the metrics of a job's answers on a corpus with gold columns."""

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
from distilray.pipeline.planning.make_plan import make_plan
from distilray.pipeline.planning.plan import Plan


def evaluate(job: Job) -> dict[str, Any]:
    """Compute the loss and the metrics of every task that names its gold column. Nothing is written.

    Returns {task name: {"corpus": {judged, without_gold, dead, unread_shards}, "loss": ..., and the metrics of the
    task, overall and by label}}. Raises JobError or CheckpointError if the job cannot be evaluated, and MetricError for
    gold that does not fit its task.
    """
    tasks = [task for task in job.tasks if isinstance(task, EvaluatedTask) and task.gold]
    if not tasks:
        raise JobError("no task has a gold column: set tasks.0.gold to the column with the right answers")
    check_tasks(tasks)
    gold_columns = list(dict.fromkeys(task.gold or "" for task in tasks))
    source = job.source.model_copy(update={"keep": gold_columns})
    evaluated_job = job.model_copy(update={"tasks": tasks, "source": source})
    corpus = survey(evaluated_job.source, evaluated_job.inputs)
    target = find_target(evaluated_job.compute)
    plan = make_plan(evaluated_job, corpus, target)
    if not plan.rows:
        raise JobError(f"no rows to evaluate in {', '.join(job.source.uris)}{_unreadable_shards(plan)}")
    counts: dict[str, Any] = reduce(merge, _count_units(evaluated_job, plan, target), {})
    for task_counts in counts.values():
        task_counts["corpus"]["unread_shards"] = plan.dead_shards
    return {task.name: _metrics(task, counts[task.name]) for task in tasks}


def _unreadable_shards(plan: Plan) -> str:
    """Return how many shards could not be read, and why the first of them could not."""
    errors = [f"{unit.uri}: {unit.error[1]}" for unit in plan.units if unit.error]
    return f"; {len(errors)} shards could not be read, such as {errors[0]}" if errors else ""


def _count_units(job: Job, plan: Plan, target: ComputeTarget) -> Iterator[Counts]:
    units = [unit for unit in plan.units if unit.error is None]
    config = worker_config(job, plan, target)
    if target.pools is None:
        return local.evaluate_units(config, units)
    engine = import_ray_engine()
    counts: Iterator[Counts] = engine.evaluate_units(config, units, target.pools, stall_seconds(job.compute))
    return counts


def _metrics(task: EvaluatedTask, counts: dict[str, Any]) -> dict[str, Any]:
    if not counts["corpus"]["judged"]:
        raise JobError(
            f"{task.name}: expected a row that has gold and is not a dead letter, got {counts['corpus']}; check the "
            "gold column"
        )
    return {"corpus": counts["corpus"], **task.figures(counts["figures"])}
