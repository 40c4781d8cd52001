"""Whether a corpus is still what was planned: rows of two states of it would be mixed, or new ones not answered."""

from collections.abc import Mapping, Sequence

from distilray.model.store import StoreError
from distilray.operators.read import Unit
from distilray.pipeline.errors import JobError
from distilray.pipeline.job import Job
from distilray.pipeline.listing import list_shards
from distilray.pipeline.plan import Plan


def check_corpus(job: Job, plan: Plan, *, finished: bool) -> None:
    """Raises JobError if a shard changed, is gone or is new; of a finished output only if one is new: it needs no other."""
    try:
        listed = _listed(job)
    except (JobError, StoreError):
        if finished:
            return
        raise
    planned = {**{unit.uri: unit.version for unit in plan.units}, **dict(plan.empty)}
    if len(listed) > plan.shards:
        new = sorted(listed.keys() - planned.keys())
        raise JobError(
            f"the corpus has {len(listed)} shards, the plan in {job.sink.uri} {plan.shards}; new is {', '.join(new[:3])}: "
            "give new shards a sink of their own"
        )
    if not finished:
        _check_versions(job, plan, planned, listed)


def check_shards(job: Job, plan: Plan, units: Sequence[Unit]) -> None:
    """Raises JobError if a shard of these units changed or is gone."""
    _check_versions(job, plan, {unit.uri: unit.version for unit in units}, _listed(job))


def _listed(job: Job) -> dict[str, str]:
    return {shard.uri: shard.version for shard in list_shards(job.source)}


def _check_versions(job: Job, plan: Plan, planned: Mapping[str, str], listed: Mapping[str, str]) -> None:
    if changed := [uri for uri, version in planned.items() if listed.get(uri) != version]:
        now = f"has {listed[changed[0]]}" if changed[0] in listed else "is gone"
        raise JobError(
            f"{len(changed)} of {plan.shards} shards changed since the plan in {job.sink.uri} was made: {changed[0]} had "
            f"ETag or size {planned[changed[0]]}, now it {now}; put it back, or choose another sink"
        )
