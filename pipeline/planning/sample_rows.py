"""Rows from places spread over a corpus."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain
from distilray.operators.errors import ShardError
from distilray.operators.rows.unit import Unit
from distilray.pipeline.errors import JobError
from distilray.pipeline.planning.plan import Plan

_READERS = 4


def spread_units(units: Sequence[Unit], most: int) -> list[Unit]:
    """So many of the units whose shards can be read, spread evenly over them."""
    alive = [unit for unit in units if unit.error is None]
    picks = np.unique(np.linspace(0, max(len(alive) - 1, 0), min(most, len(alive))).round().astype(int))
    return [alive[i] for i in picks]


def sample_rows(plan: Plan, units: Sequence[Unit], rows: int) -> list[pa.Table]:
    """The first `rows` rows of each unit, or fewer if their row group has no more.

    Raises StoreError or JobError if the store fails, ShardError for a shard that has changed.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda unit: _head(plan, unit, rows), units))


def _head(plan: Plan, unit: Unit, rows: int) -> pa.Table:
    try:
        return plan.read.head(unit, rows)
    except (ShardError, StoreError):
        raise
    except Exception as error:  # every store has its own exceptions; all of them mean "cannot be read"
        raise JobError(f"cannot read shard {unit.uri}: {explain(error)}") from error
