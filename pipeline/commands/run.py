"""The whole flow: check, plan, compute what is missing, count, say success."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from distilray.operators.encoder_passes import EncoderPasses
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
from distilray.pipeline.planning.checked_tasks import check_tasks
from distilray.pipeline.planning.compute_target import find_target
from distilray.pipeline.planning.drift import check_corpus
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.planning.planner import calibrate_plan_safely, drop_foreign_calibration, make_plan
from distilray.pipeline.sink.fencing import take_over
from distilray.pipeline.sink.max_dead import check_max_dead
from distilray.pipeline.sink.output import open_output
from distilray.pipeline.sink.parity_check import parity_problem
from distilray.pipeline.sink.versions import versions_summary, warn_of_other_versions

log = logging.getLogger(__name__)

OnCommit = Callable[[Commit], None]


@dataclass(frozen=True)
class RunStart:
    """What a run has before it. rows, units: all that are planned, a dead shard as one row; done: of them, by earlier runs;
    actors: tells what those of each stage are at, nothing of the local engine."""

    rows: int
    units: int
    done: Stats
    actors: Callable[[], Mapping[str, ActorCounts]]


@dataclass(frozen=True)
class Result:
    """A finished run. manifest: also in the sink; computed: what this run did; seconds: how long it took; account: where
    the time of this run went and what was predicted of it, which is in the manifest of the run that finishes a job."""

    job: Job
    plan: Plan
    manifest: dict[str, Any]
    computed: Stats
    seconds: float
    account: dict[str, Any]


def execute(job: Job, on_start: Callable[[RunStart], None] | None = None, on_unit: OnCommit | None = None) -> Result:
    """Answers every row of the job's corpus once, or continues an earlier run of the same job.

    on_start is called if there is something left to compute, on_unit with each commit. Raises JobError, CheckpointError or
    BackendError before any work starts, if the job cannot run; IncompleteError if rows got lost, DeadLettersError if too many
    died, ParityError if the answers are too far from their reference, FencedError if a newer run has taken over, StoreError or
    StalledError if the store or the cluster fails for too long.
    """
    started = time.monotonic()
    checked = check_tasks(job.tasks)
    fingerprint = job.fingerprint(checked.digests)
    output = open_output(job.sink)
    plan = output.load_plan(job, fingerprint)
    resumed = plan is not None
    if plan is None:
        plan = _first_plan(job, checked.passes)
        schema = data_schema(plan.read.columns, checked.answers)
        if not output.save_plan(plan, fingerprint, job, schema):  # another run was first: its units are the units
            plan = output.load_plan(job, fingerprint) or plan
    manifest = output.finished(plan)
    if resumed:
        check_corpus(job, plan, finished=manifest is not None)
    if manifest is not None:
        _check_limits(job, plan, manifest)
        account = account_for(job, plan, Stats(), StageTimes().spent(), None, 0.0)
        return Result(job, plan, manifest, Stats(), time.monotonic() - started, account)
    fence = take_over(output.fs, output.root)
    done = output.committed()  # after it took over: what an older run still commits is not missed
    todo = [unit for unit in plan.units if unit.name not in done]
    if todo:
        output.remove_success()
    before = output.count_units([unit for unit in plan.units if unit.name in done], done) if todo else Stats()
    if before.units:
        warn_of_other_versions(fence.other_versions)
    planned = plan.rows + plan.dead_shards
    check_max_dead(before, planned, job.max_dead)
    computed, clock, begun = Stats(), StageTimes(), time.monotonic()
    target = find_target(job.compute, plan.forecast) if todo else None
    plan = drop_foreign_calibration(plan, target) if target else plan
    if target and on_start:
        on_start(RunStart(planned, len(plan.units), before, actor_counts(target)))
    for commit in compute_units(job, plan, checked, todo, target, fingerprint, before.units) if target else ():
        computed += commit.stats
        fence.check()
        clock.add(commit.timing)
        if on_unit:
            on_unit(commit)
        check_max_dead(before + computed, planned, job.max_dead)
    account = account_for(job, plan, computed, clock.spent(), target, time.monotonic() - begun)
    about = {
        "fingerprint": fingerprint,
        "job": job.description(),
        **versions_summary(fence.other_versions),
        "passes": checked.tasks_by_pass,
    }
    fence.check(now=True)
    manifest = output.finish(plan, about | account, partial(fence.check, now=True), job.compute.parity, job.max_dead)
    return Result(job, plan, manifest, computed, time.monotonic() - started, account)


def _first_plan(job: Job, passes: EncoderPasses) -> Plan:
    """The plan of a new sink."""
    corpus = survey(job.source, job.inputs)  # before a cluster is started: a wrong path is told at once
    _check_partitions(job, corpus.read)
    target = find_target(job.compute)
    return calibrate_plan_safely(job, make_plan(job, corpus, target), passes, target)


def _check_limits(job: Job, plan: Plan, manifest: Mapping[str, Any]) -> None:
    """A finished output may have been finished under others than this job's. Raises DeadLettersError, ParityError."""
    found = Stats(rows=manifest["rows"], dead=manifest["dead"], parity=manifest["parity"].get("tasks", {}))
    check_max_dead(found, plan.rows + plan.dead_shards, job.max_dead)
    if (parity := job.compute.parity) and (problem := parity_problem(found, plan, parity)):
        raise ParityError(problem)


def _check_partitions(job: Job, read: Read) -> None:
    """JobError if hive keys of the corpus clash with the output's columns."""
    if taken := {*RESERVED, *job.answer_columns} & set(read.partitions.names):
        raise JobError(f"source: the shards' paths have keys that the output needs itself: {', '.join(sorted(taken))}")
