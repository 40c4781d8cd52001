"""A look at a corpus without computing it: a few rows from places spread over all of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.operators import schema as s
from distilray.operators.read import Unit
from distilray.operators.task import Task
from distilray.operators.tokenize import Tokenize
from distilray.pipeline.plan import Plan


def sample_rows(plan: Plan, units: int, rows: int) -> list[tuple[Unit, pa.Table]]:
    """The first `rows` rows of `units` units, spread evenly; only one row group of each is read."""
    alive = [unit for unit in plan.units if unit.error is None]
    picks = np.unique(np.linspace(0, max(len(alive) - 1, 0), min(units, len(alive))).round().astype(int))
    return [(alive[i], _head(plan, alive[i], rows)) for i in picks]


def _head(plan: Plan, unit: Unit, rows: int) -> pa.Table:
    first = unit.row_groups[0]
    return plan.read(replace(unit, row_groups=(first, first + 1), rows=min(rows, unit.rows)))


def estimate_tokens(plan: Plan, tasks: Sequence[Task]) -> int:
    """Tokens of all texts, from the tokens a row of a sample; 0 for a corpus without text."""
    tokenize = Tokenize(tasks[:1])
    tables = [table for _, table in sample_rows(plan, units=8, rows=32)]
    if not tables:
        return 0
    sample = pa.concat_tables(tables)
    tokens = pc.sum(pc.list_value_length(tokenize(sample)[s.tokens_column(0, s.TEXT)])).as_py() or 0
    return int(plan.rows * tokens / max(sample.num_rows, 1))
