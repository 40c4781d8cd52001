"""Whether a corpus is still what was planned: rows of two states of it would be mixed, or new ones not answered."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain
from distilray.operators.errors import ShardError
from distilray.operators.read import Read
from distilray.operators.rows.unit import Unit
from distilray.pipeline.corpus.listing import list_shards
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.plan import Plan

_AT_ONCE = 16  # questions to a store


def check_corpus(job: Job, plan: Plan, *, finished: bool) -> None:
    """Raises JobError if a shard changed, is gone or is new; of a finished output only if one is new: it needs no other."""
    try:
        listed = {shard.uri: shard.version for shard in list_shards(job.source)}
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
    if finished:
        return
    if changed := [uri for uri, version in planned.items() if listed.get(uri) != version]:
        now = f"has {listed[changed[0]]}" if changed[0] in listed else "is gone"
        raise JobError(
            f"{len(changed)} of {plan.shards} shards changed since the plan in {job.sink.uri} was made: {changed[0]} had "
            f"ETag or size {planned[changed[0]]}, now it {now}; put it back, or choose another sink"
        )


def check_shards(read: Read, units: Sequence[Unit]) -> None:
    """Raises JobError if a shard of these units changed, is gone or cannot be reached, StoreError; asks for no other."""
    shards = {unit.uri: unit for unit in units}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        changed = [problem for problem in pool.map(lambda unit: _change(read, unit), shards.values()) if problem]
    if changed:
        raise JobError(f"{len(changed)} of {len(shards)} shards that have dead letters: {changed[0]}; put it back")


def _change(read: Read, unit: Unit) -> str | None:
    """What became of the unit's shard since it was planned."""
    try:
        read.found(unit)
    except ShardError as error:
        return str(error)
    except StoreError:
        raise
    except Exception as error:  # every store has its own exceptions; all of them mean "cannot be read"
        raise JobError(f"cannot read shard {unit.uri}: {explain(error)}") from error
    return None
