"""The command `distilray retry`: another attempt at the dead letters of committed units, and at no other rows."""

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
from distilray.pipeline.planning.corpus_changes import check_shards
from distilray.pipeline.planning.make_plan import drop_foreign_calibration
from distilray.pipeline.sink.fencing import take_over
from distilray.pipeline.sink.output import Output, open_output
from distilray.pipeline.sink.reconcile import UnitCounts
from distilray.pipeline.sink.versions import versions_summary, warn_of_other_versions

_SETTABLE = r"compute\.|max_dead$|(source|sink|tasks\.\d+)\.storage_options\b"
_SETTABLE_TEXT = "keys of compute and of storage_options, and max_dead"
_READERS = 8


@dataclass(frozen=True)
class Retried:
    """The result of a retry.

    before, after: the dead letters of all committed units by reason. tried: the number of rows that were retried.
    units: the number of their units. answered: how many of these rows have an answer now. shards: the number of shards
    that are dead as a whole. A retry does not read them.
    """

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
    """Retry the dead letters of the output at `uri`, with the job that is stored in the output.

    overrides: keys of compute and of storage_options, and max_dead, each as `a.b=value`. on_start: called once if there
    are dead letters to retry. on_unit: called with the retried rows of each unit. on_end: called with the result,
    before the rows are counted. A row that fails again stays a dead letter.

    Raises JobError, TaskError, CheckpointError or BackendError before anything is changed. A GPU is checked later, by
    the workers, which also raise BackendError. Raises IncompleteError if units are missing, FencedError if another run
    has taken over, and the other errors of `execute`.
    """
    output = open_output(parse_sink(uri, overrides))
    stored = output.require_stored_plan()
    description = output.job_description(stored)
    description = {**description, "sink": {**description["sink"], "uri": uri}}
    where = f"the job of {uri}"
    job = parse_job(override_keys(_deep_copy(description), overrides, _SETTABLE, _SETTABLE_TEXT), where)
    checked = check_tasks(job.tasks)
    fingerprint = parse_job(description, where).fingerprint(checked.digests)
    plan = output.load_plan(job, fingerprint)
    if plan is None:
        raise JobError(f"the plan in {uri} was removed while the retry started: restore a copy of it")
    fence = take_over(output.fs, output.root)
    sizes = output.committed_sizes()
    committed = [unit for unit in plan.units if unit.name in sizes]
    counts = output.reconcile_dead_letters(committed, sizes)
    units = _units_to_retry(output, committed, counts)
    last_manifest = output.last_manifest()
    retried_rows = sum(len(unit.only_rows or ()) for unit in units)
    dead, answered = Counter(counts.stats.dead), 0
    if units:
        check_shards(plan.read, units)
        target = find_target(job.compute, plan.forecast)
        check_backend(job, target)
        output.remove_success()
        warn_of_other_versions(fence.other_versions)
        dead.subtract(_dead_reasons(units, counts))
        if on_start:
            on_start(RunStart(retried_rows, len(units), Stats(), actor_counts(target)))
        others = len(committed) - len(units)
        usable_plan = drop_foreign_calibration(plan, target)
        for commit in compute_units(job, usable_plan, checked, units, target, fingerprint, others, MergeRetried):
            fence.check()
            dead.update(commit.stats.dead)
            answered += commit.stats.rows
            if on_unit:
                on_unit(commit)
    dead_shards = sum(unit.error is not None for unit in committed)
    result = Retried(counts.stats.dead, +dead, retried_rows, len(units), answered, dead_shards)
    if on_end:
        on_end(result)
    fence.check(now=True)
    if units or output.manifest_if_success() is None:
        new_description: dict[str, Any] = {
            "fingerprint": fingerprint,
            "job": {**output.job_description(stored), "max_dead": job.max_dead},
            **versions_summary(fence.other_versions),
        }
        new_description |= {"passes": checked.tasks_by_pass, "retried": {"rows": retried_rows, "answered": answered}}
        new_description |= {name: value for name, value in last_manifest.items() if name in ("timing", "forecast")}
        output.finish(plan, new_description, partial(fence.check, now=True), job.compute.parity, job.max_dead)
    return result


def _deep_copy(description: Mapping[str, Any]) -> dict[str, Any]:
    """Copy plain data completely, so that overrides change only the copy."""
    copy: dict[str, Any] = json.loads(json.dumps(description))
    return copy


def _units_to_retry(output: Output, units: Sequence[Unit], counts: UnitCounts) -> list[Unit]:
    """Return the units that have dead letters, each restricted to these rows. Dead shards are left out."""
    dead = [unit for unit in units if unit.name in counts.dead and counts.dead[unit.name].stats.dead and not unit.error]
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda unit: _only_dead_rows(output, unit), dead))


def _only_dead_rows(output: Output, unit: Unit) -> Unit:
    """Return the unit restricted to the rows of its dead letters."""
    data = output.fs.cat_file(f"{output.root}/dead/{unit.name}.parquet")
    rows = pq.read_table(io.BytesIO(data), columns=[s.ROW])[s.ROW].to_pylist()
    return replace(unit, only_rows=tuple(sorted(rows)))


def _dead_reasons(units: Sequence[Unit], counts: UnitCounts) -> Counter[str]:
    """Sum up the dead letters of the units by reason."""
    reasons: Counter[str] = Counter()
    for unit in units:
        reasons.update(counts.dead[unit.name].stats.dead)
    return reasons
