"""The check that a corpus has not changed since it was planned.

Without this check, an output could mix rows of two states of the corpus, or have no answers for new rows.
"""

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

_CONCURRENCY = 16  # requests to a store


def check_corpus(job: Job, plan: Plan, *, finished: bool) -> None:
    """Raise JobError if a shard changed, is missing or is new.

    finished: whether the output is finished. If it is, only a new shard is an error, because no other shard is read.
    """
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
            f"the corpus has {len(listed)} shards, the plan in {job.sink.uri} has {plan.shards}; new shards: "
            f"{', '.join(new[:3])}; compute new shards into another sink"
        )
    if finished:
        return
    if changed := [uri for uri, version in planned.items() if listed.get(uri) != version]:
        current = f"has {listed[changed[0]]}" if changed[0] in listed else "is missing"
        raise JobError(
            f"{len(changed)} of {plan.shards} shards changed since the plan in {job.sink.uri} was made: {changed[0]} "
            f"had ETag or size {planned[changed[0]]}, now it {current}; restore the shards, or choose another sink"
        )


def check_shards(read: Read, units: Sequence[Unit]) -> None:
    """Raise JobError if a shard of these units changed, is missing or cannot be reached. Other shards are not checked.

    Raises StoreError if the store fails.
    """
    shards = {unit.uri: unit for unit in units}
    with ThreadPoolExecutor(_CONCURRENCY) as pool:
        changed = [problem for problem in pool.map(lambda unit: _change(read, unit), shards.values()) if problem]
    if changed:
        raise JobError(
            f"{len(changed)} of {len(shards)} shards with dead letters cannot be retried: {changed[0]}; restore the "
            "shards"
        )


def _change(read: Read, unit: Unit) -> str | None:
    """Return how the shard of a unit has changed since it was planned, or None."""
    try:
        read.locate(unit)
    except ShardError as error:
        return str(error)
    except StoreError:
        raise
    except Exception as error:  # stores raise exceptions of many types
        raise JobError(f"cannot read shard {unit.uri}: {explain(error)}") from error
    return None
