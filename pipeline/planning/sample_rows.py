"""A sample of rows from units that are spread over a corpus."""

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


def spread_units(units: Sequence[Unit], count: int) -> list[Unit]:
    """Pick at most `count` units, spread evenly over those whose shards can be read."""
    readable = [unit for unit in units if unit.error is None]
    picks = np.unique(np.linspace(0, max(len(readable) - 1, 0), min(count, len(readable))).round().astype(int))
    return [readable[i] for i in picks]


def sample_rows(plan: Plan, units: Sequence[Unit], rows: int) -> list[pa.Table]:
    """Read the first `rows` rows of each unit, or fewer if its first row group has fewer.

    Raises StoreError if the store fails, JobError if a shard cannot be read, ShardError if it has changed.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda unit: _first_rows(plan, unit, rows), units))


def _first_rows(plan: Plan, unit: Unit, rows: int) -> pa.Table:
    try:
        return plan.read.head(unit, rows)
    except (ShardError, StoreError):
        raise
    except Exception as error:  # stores raise exceptions of many types
        raise JobError(f"cannot read shard {unit.uri}: {explain(error)}") from error
