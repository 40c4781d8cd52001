"""Dead letters tried again: the rows of committed units that have no answer yet, and no others."""

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow.parquet as pq

from distilray.operators.merge_retried import MergeRetried
from distilray.operators.objects.stats import Stats
from distilray.operators.rows import schema as s
from distilray.operators.rows.unit import Unit
from distilray.pipeline.commands.compute import actor_counts, compute_units
from distilray.pipeline.commands.run import OnCommit, RunStart
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import parse_job, parse_sink
from distilray.pipeline.job.overrides import override_keys
from distilray.pipeline.planning.checked_tasks import check_tasks
from distilray.pipeline.planning.compute_target import check_backend, find_target
from distilray.pipeline.planning.drift import check_shards
from distilray.pipeline.planning.planner import drop_foreign_calibration
from distilray.pipeline.sink.fencing import take_over
from distilray.pipeline.sink.output import Output, open_output
from distilray.pipeline.sink.reconcile import UnitCounts
from distilray.pipeline.sink.versions import versions_summary, warn_of_other_versions

_SETTABLE = r"compute\.|max_dead$|(source|sink|tasks\.\d+)\.storage_options\b"
_READERS = 8


@dataclass(frozen=True)
class Retried:
    """before, after: dead letters by reason, of all committed units; tried, units: rows that were tried again, and their
    units; answered: of them; shards: dead as a whole, which no retry can mend."""

    before: Mapping[str, int]
    after: Mapping[str, int]
    tried: int
    units: int
    answered: int
    shards: int


def retry(
    uri: str,
    overrides: Sequence[str] = (),
    on_start: Callable[[RunStart], None] | None = None,
    on_unit: OnCommit | None = None,
    on_end: Callable[[Retried], None] | None = None,
) -> Retried:
    """Answers the dead letters of the output at `uri` again, with the job that is stored there.

    overrides: keys of compute or of storage_options, as `a.b=value`. on_start is called if there are any, on_unit with what
    became of those of each unit, on_end with the result before rows are counted. What still dies stays a dead letter. Raises
    as `execute` does: JobError, CheckpointError or BackendError before anything is changed (a GPU's is told by its workers),
    IncompleteError if units are missing, FencedError if another run has taken over.
    """
    output = open_output(parse_sink(uri, overrides))
    stored = output.require_plan()
    said = output.job_description(stored)
    said = {**said, "sink": {**said["sink"], "uri": uri}}
    where = f"the job of {uri}"
    job = parse_job(
        override_keys(_copied(said), overrides, _SETTABLE, "keys of compute and of storage_options, and max_dead"), where
    )
    checked = check_tasks(job.tasks)
    fingerprint = parse_job(said, where).fingerprint(checked.digests)
    plan = output.load_plan(job, fingerprint)
    if plan is None:
        raise JobError(f"the plan in {uri} is gone")
    fence = take_over(output.fs, output.root)
    sizes = output.committed()
    committed = [unit for unit in plan.units if unit.name in sizes]
    found = output.reconcile_dead_letters(committed, sizes)
    todo = _dead_rows(output, committed, found)
    former = output.last_manifest()
    tried = sum(len(unit.only_rows or ()) for unit in todo)
    dead, answered = Counter(found.stats.dead), 0
    if todo:
        check_shards(plan.read, todo)
        target = find_target(job.compute, plan.forecast)
        check_backend(job, target)
        output.remove_success()
        warn_of_other_versions(fence.other_versions)
        dead.subtract(_reasons(todo, found))
        if on_start:
            on_start(RunStart(tried, len(todo), Stats(), actor_counts(target)))
        done = len(committed) - len(todo)
        for commit in compute_units(
            job, drop_foreign_calibration(plan, target), checked, todo, target, fingerprint, done, MergeRetried
        ):
            fence.check()
            dead.update(commit.stats.dead)
            answered += commit.stats.rows
            if on_unit:
                on_unit(commit)
    shards = sum(unit.error is not None for unit in committed)
    result = Retried(found.stats.dead, +dead, tried, len(todo), answered, shards)
    if on_end:
        on_end(result)
    fence.check(now=True)
    if todo or output.manifest() is None:
        about: dict[str, Any] = {
            "fingerprint": fingerprint,
            "job": {**output.job_description(stored), "max_dead": job.max_dead},
            **versions_summary(fence.other_versions),
        }
        about |= {"passes": checked.tasks_by_pass, "retried": {"rows": tried, "answered": answered}}
        about |= {name: value for name, value in former.items() if name in ("timing", "forecast")}
        output.finish(plan, about, partial(fence.check, now=True), job.compute.parity, job.max_dead)
    return result


def _copied(said: Mapping[str, Any]) -> dict[str, Any]:
    """Without what it shares, so that overrides stay in the copy."""
    copied: dict[str, Any] = json.loads(json.dumps(said))
    return copied


def _dead_rows(output: Output, units: Sequence[Unit], found: UnitCounts) -> list[Unit]:
    """The units that have dead letters with a row number, each with these picked."""
    dead = [unit for unit in units if unit.name in found.dead and found.dead[unit.name].stats.dead and not unit.error]
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda unit: _picked(output, unit), dead))


def _picked(output: Output, unit: Unit) -> Unit:
    data = output.fs.cat_file(f"{output.root}/dead/{unit.name}.parquet")
    rows = pq.read_table(io.BytesIO(data), columns=[s.ROW])[s.ROW].to_pylist()
    return replace(unit, only_rows=tuple(sorted(rows)))


def _reasons(units: Sequence[Unit], found: UnitCounts) -> Counter[str]:
    """Why the units' rows were dead."""
    reasons: Counter[str] = Counter()
    for unit in units:
        reasons.update(found.dead[unit.name].stats.dead)
    return reasons
