"""The whole flow: check, plan, compute what is missing, count, say success."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa

from distilray.operators.passes import Passes, check_passes, open_passes
from distilray.operators.read import Read, Unit
from distilray.operators.schema import RESERVED, data_schema
from distilray.operators.task import Task, open_checkpoints, schema_of
from distilray.operators.work import Work
from distilray.operators.write import Commit, Stats, Write
from distilray.pipeline import local
from distilray.pipeline.bottleneck import Clock, Spent, advice, bottleneck
from distilray.pipeline.budget import check_dead
from distilray.pipeline.commit import open_output
from distilray.pipeline.errors import JobError
from distilray.pipeline.fencing import Fence, take_over, versions
from distilray.pipeline.forecast import HOUR, cost
from distilray.pipeline.inputs import check_corpus
from distilray.pipeline.job import Job
from distilray.pipeline.metrics import Meters
from distilray.pipeline.parity import ParityError, parity_problem, share
from distilray.pipeline.plan import Plan
from distilray.pipeline.planning import (
    Site,
    compute_spec,
    find_site,
    fitted,
    guard_of,
    make_plan,
    ray_engine,
    settle_safely,
    stall_of,
)
from distilray.pipeline.pools import Actors
from distilray.pipeline.shards import survey

log = logging.getLogger(__name__)

Watch = Callable[[Commit], None]


@dataclass(frozen=True)
class Start:
    """What a run has before it. rows, units: all that are planned, a dead shard as one row; done: of them, by earlier runs;
    actors: tells what those of each stage are at, nothing of the local engine."""

    rows: int
    units: int
    done: Stats
    actors: Callable[[], Mapping[str, Actors]]


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


def execute(job: Job, on_start: Callable[[Start], None] | None = None, on_unit: Watch | None = None) -> Result:
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
        account = _account(job, plan, Stats(), Clock().spent(), None, 0.0)
        return Result(job, plan, manifest, Stats(), time.monotonic() - started, account)
    fence = take_over(output.fs, output.root)
    done = output.committed()  # after it took over: what an older run still commits is not missed
    todo = [unit for unit in plan.units if unit.name not in done]
    if todo:
        output.revoke()
    before = output.count([unit for unit in plan.units if unit.name in done], done) if todo else Stats()
    if before.units:
        warn_of_versions(fence)
    planned = plan.rows + plan.dead_shards
    check_dead(before, planned, job.max_dead)
    computed, clock, begun = Stats(), Clock(), time.monotonic()
    site = find_site(job.compute, plan.forecast) if todo else None
    plan = fitted(plan, site) if site else plan
    if site and on_start:
        on_start(Start(planned, len(plan.units), before, actors_of(site)))
    for commit in engine(job, plan, checked, todo, site, fingerprint, before.units) if site else ():
        computed += commit.stats
        fence.check()
        clock.add(commit.timing)
        if on_unit:
            on_unit(commit)
        check_dead(before + computed, planned, job.max_dead)
    account = _account(job, plan, computed, clock.spent(), site, time.monotonic() - begun)
    about = {"fingerprint": fingerprint, "job": job.description(), **versions_of(fence), "passes": checked.shared}
    fence.check(now=True)
    manifest = output.finish(plan, about | account, partial(fence.check, now=True), job.compute.parity, job.max_dead)
    return Result(job, plan, manifest, computed, time.monotonic() - started, account)


def versions_of(fence: Fence) -> dict[str, Any]:
    """What the answers were made with, for the manifest: by this run, and by earlier ones that differed."""
    return {"versions": versions(), "other_versions": list(fence.others)}


def warn_of_versions(fence: Fence) -> None:
    """If some units were, or may have been, made with others."""
    ours = versions()
    for others in fence.others:
        said = ", ".join(
            f"{name} {others.get(name)} (now {ours.get(name)})" for name in ours if others.get(name) != ours[name]
        )
        log.warning("an earlier run of this output had %s: answers of both will lie side by side", said)


def _first_plan(job: Job, passes: Passes) -> Plan:
    """The plan of a new sink."""
    corpus = survey(job.source, job.inputs)  # before a cluster is started: a wrong path is told at once
    _check_partitions(job, corpus.read)
    site = find_site(job.compute)
    return settle_safely(job, make_plan(job, corpus, site), passes, site)


def _check_limits(job: Job, plan: Plan, manifest: Mapping[str, Any]) -> None:
    """A finished output may have been finished under others than this job's. Raises DeadLettersError, ParityError."""
    found = Stats(rows=manifest["rows"], dead=manifest["dead"], parity=manifest["parity"].get("tasks", {}))
    check_dead(found, plan.rows + plan.dead_shards, job.max_dead)
    if (parity := job.compute.parity) and (problem := parity_problem(found, plan, parity)):
        raise ParityError(problem)


def _account(job: Job, plan: Plan, computed: Stats, spent: Spent, site: Site | None, seconds: float) -> dict[str, Any]:
    """Where the time went, what to change, and what was predicted and happened, of what this run computed."""
    tokenizers, writers = (site.pools.tokenize.max, ray_engine().WRITERS) if site and site.pools else (0, 0)
    said = {"bottleneck": bottleneck(spent), "advice": advice(spent, site.devices if site else 0, tokenizers, writers)}
    part = (computed.rows + computed.dead_letters) / max(plan.rows + plan.dead_shards, 1)
    predicted = None
    if plan.forecast and site:
        predicted = replace(plan.forecast.share(part), devices=site.devices).description(job.compute.price)
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


@dataclass(frozen=True)
class Checked:
    """Tasks that can be done. answers: their columns; digests: of their checkpoints; passes: through their encoders;
    shared: the names of the tasks that share each pass."""

    answers: pa.Schema
    digests: list[str]
    passes: Passes
    shared: list[list[str]]


def check_tasks(tasks: Sequence[Task]) -> Checked:
    """Raises CheckpointError or TaskError if a task cannot be done with its checkpoint."""
    checkpoints = open_checkpoints(tasks)
    passes, _ = open_passes(tasks, checkpoints)
    check_passes(passes)
    fields = [field for task, config in zip(tasks, passes.configs, strict=True) for field in schema_of(task, config)]
    names = [[tasks[i].name for i in each.tasks] for each in passes.passes]
    return Checked(pa.schema(fields), [checkpoint.digest() for checkpoint in checkpoints], passes, names)


def work_of(job: Job, plan: Plan, site: Site) -> Work:
    """What the workers of either engine must know."""
    spec = compute_spec(job.compute, plan.tokens_per_pack, site)
    return Work(plan.read, job.tasks, replace(spec, parity=share(job.compute.parity, plan)), guard_of(job, site))


def engine(
    job: Job,
    plan: Plan,
    checked: Checked,
    todo: Sequence[Unit],
    site: Site,
    fingerprint: str,
    done: int,
    kind: type[Write] = Write,
) -> Iterator[Commit]:
    """Answers the units and commits them by a `kind` of Write; yields each commit, which Ray's metrics have then.

    fingerprint: of the plan; done: units of it that are committed and not among those to do.
    """
    work, columns = work_of(job, plan, site), plan.read.columns
    if any(unit.pick is not None for unit in todo):  # dead letters: that they fail one after another tells nothing
        work = replace(work, guard=replace(work.guard, hopeless=None))
    write = kind(job.sink.uri, job.tasks, columns, checked.answers, job.sink.dead_text, job.sink.storage_options)
    if site.pools is None:
        return local.run_units(work, write, todo)
    ray = ray_engine()
    tags = {"fingerprint": fingerprint, "tasks": ",".join(task.name for task in job.tasks)}
    meters = Meters(ray.metrics, tags, planned=len(plan.units), done=done)
    return meters.metered(ray.run_units(work, write, todo, site.pools, stall_of(job.compute), meters.set_gauges))


def actors_of(site: Site) -> Callable[[], Mapping[str, Actors]]:
    """Tells what the actors of each stage are at."""
    return (lambda: dict(ray_engine().Seen.stages)) if site.pools else dict


def _check_partitions(job: Job, read: Read) -> None:
    """JobError if hive keys of the corpus clash with the output's columns."""
    if taken := {*RESERVED, *job.answer_columns} & set(read.partitions.names):
        raise JobError(f"source: the shards' paths have keys that the output needs itself: {', '.join(sorted(taken))}")
