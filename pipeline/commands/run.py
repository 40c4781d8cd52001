"""The command `distilray run`, and the main flow of the project.

A run checks the job, loads or makes the plan, takes over the sink, computes the units that are missing, counts all
units, and finishes the output.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from distilray.operators.objects.stats import Stats
from distilray.operators.read import Read
from distilray.operators.rows.schema import RESERVED, data_schema
from distilray.operators.write import Commit
from distilray.pipeline.commands.account import account_for
from distilray.pipeline.commands.compute import actor_counts, compute_units
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.engines.actor_pools import ActorCounts
from distilray.pipeline.engines.bottleneck import StageTimes
from distilray.pipeline.errors import JobError, ParityError
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.checked_tasks import CheckedTasks, check_tasks
from distilray.pipeline.planning.compute_target import find_target
from distilray.pipeline.planning.corpus_changes import check_corpus
from distilray.pipeline.planning.make_plan import drop_foreign_calibration, forecast_plan_safely, make_plan
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.sink.fencing import take_over
from distilray.pipeline.sink.max_dead import check_max_dead
from distilray.pipeline.sink.output import Output, open_output
from distilray.pipeline.sink.parity_check import parity_problem
from distilray.pipeline.sink.versions import versions_summary, warn_of_other_versions

OnCommit = Callable[[Commit], None]


@dataclass(frozen=True)
class RunStart:
    """The work of a run, before it computes its first unit.

    rows, units: all rows and units of the plan. A dead shard counts as one row. done: the sum over the units that
    earlier runs committed. actors: a function that returns the present counts of actors by stage, which are empty for
    the local engine.
    """

    rows: int
    units: int
    done: Stats
    actors: Callable[[], Mapping[str, ActorCounts]]


@dataclass(frozen=True)
class Result:
    """A finished run.

    manifest: the manifest of the output, as in the sink. computed: the sum over the units that this run computed.
    seconds: the time that this run took. account: the times of this run by stage, and its forecast. The manifest
    contains the account of the run that finished the output.
    """

    job: Job
    plan: Plan
    manifest: dict[str, Any]
    computed: Stats
    seconds: float
    account: dict[str, Any]


def execute(job: Job, on_start: Callable[[RunStart], None] | None = None, on_unit: OnCommit | None = None) -> Result:
    """Answer every row of the job's corpus once, or resume an earlier run of the same job.

    on_start: called once if units are missing. on_unit: called with each commit.

    Raises JobError, TaskError, CheckpointError or BackendError before any work if the job cannot run. Raises
    IncompleteError if rows were lost, DeadLettersError if there are too many dead letters, ParityError if the answers
    differ too much from their reference, and FencedError if a newer run owns the sink. Raises StoreError or
    StalledError if the store or the cluster fails for too long.
    """
    started = time.monotonic()

    # check the job
    checked = check_tasks(job.tasks)
    fingerprint = job.fingerprint(checked.digests)
    output = open_output(job.sink)

    # load the plan of an earlier run, or make it
    plan, resumed = _load_or_make_plan(job, checked, fingerprint, output)
    manifest = output.finished_manifest(plan)
    if resumed:
        check_corpus(job, plan, finished=manifest is not None)
    if manifest is not None:
        return _finished_result(job, plan, manifest, started)

    # take over the sink, and find what is missing
    fence = take_over(output.fs, output.root)
    sizes = output.committed_sizes()  # listed after the takeover, so that it has the last commits of an older run
    missing = [unit for unit in plan.units if unit.name not in sizes]
    if missing:
        output.remove_success()
    committed_stats = _count_committed(output, plan, sizes) if missing else Stats()
    if committed_stats.units:
        warn_of_other_versions(fence.other_versions)
    planned_rows = _planned_rows(plan)
    check_max_dead(committed_stats, planned_rows, job.max_dead)

    # compute the missing units
    computed, stage_times, computing_since = Stats(), StageTimes(), time.monotonic()
    target = find_target(job.compute, plan.forecast) if missing else None
    if target:
        plan = drop_foreign_calibration(plan, target)
        if on_start:
            on_start(RunStart(planned_rows, len(plan.units), committed_stats, actor_counts(target)))
        for commit in compute_units(job, plan, checked, missing, target, fingerprint, committed_stats.units):
            computed += commit.stats
            fence.check()
            stage_times.add(commit.timing)
            if on_unit:
                on_unit(commit)
            check_max_dead(committed_stats + computed, planned_rows, job.max_dead)

    # count all units, and finish the output
    account = account_for(job, plan, computed, stage_times.spent(), target, time.monotonic() - computing_since)
    description = {
        "fingerprint": fingerprint,
        "job": job.description(),
        **versions_summary(fence.other_versions),
        "passes": checked.tasks_by_pass,
    }
    check_ownership = partial(fence.check, now=True)
    check_ownership()
    manifest = output.finish(plan, description | account, check_ownership, job.compute.parity, job.max_dead)
    return Result(job, plan, manifest, computed, time.monotonic() - started, account)


def _load_or_make_plan(job: Job, checked: CheckedTasks, fingerprint: str, output: Output) -> tuple[Plan, bool]:
    """Return the plan of the output, and whether an earlier run wrote it. In a new sink, make the plan and write it."""
    plan = output.load_plan(job, fingerprint)
    if plan is not None:
        return plan, True
    plan = _make_plan(job, checked)
    schema = data_schema(plan.read.columns, checked.answers)
    if not output.save_plan(plan, fingerprint, job, schema):  # another run wrote its plan first: use its units
        plan = output.load_plan(job, fingerprint) or plan
    return plan, False


def _make_plan(job: Job, checked: CheckedTasks) -> Plan:
    """Make the plan of a new sink."""
    corpus = survey(job.source, job.inputs)  # before a cluster starts, so that a wrong path fails at once
    _check_partitions(job, corpus.read)
    target = find_target(job.compute)
    return forecast_plan_safely(job, make_plan(job, corpus, target), checked.passes, target)


def _check_partitions(job: Job, read: Read) -> None:
    """Raise JobError if a hive key of the corpus has the name of a column of the output."""
    if taken := {*RESERVED, *job.answer_columns} & set(read.partitions.names):
        raise JobError(
            "source: the paths of the shards have hive keys with the names of output columns: "
            f"{', '.join(sorted(taken))}; rename the keys, or the columns of the tasks"
        )


def _finished_result(job: Job, plan: Plan, manifest: dict[str, Any], started: float) -> Result:
    """Return the result of a run on a finished output.

    The output may have been finished under other limits than those of this job. Raises DeadLettersError or ParityError
    if it exceeds them.
    """
    stats = Stats(rows=manifest["rows"], dead=manifest["dead"], parity=manifest["parity"].get("tasks", {}))
    check_max_dead(stats, _planned_rows(plan), job.max_dead)
    if (parity := job.compute.parity) and (problem := parity_problem(stats, plan, parity)):
        raise ParityError(problem)
    account = account_for(job, plan, Stats(), StageTimes().spent(), None, 0.0)
    return Result(job, plan, manifest, Stats(), time.monotonic() - started, account)


def _count_committed(output: Output, plan: Plan, sizes: Mapping[str, int]) -> Stats:
    """Count the committed units. sizes: the sizes of their data objects. Raises IncompleteError for a wrong object."""
    return output.count_units([unit for unit in plan.units if unit.name in sizes], sizes)


def _planned_rows(plan: Plan) -> int:
    """Return the rows that the run answers or rejects. A dead shard counts as one row."""
    return plan.rows + plan.dead_shards
