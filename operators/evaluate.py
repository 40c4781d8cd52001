"""The evaluate step, which converts a tokenized unit of a labelled corpus to the counts for losses and metrics."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distilray.operators.evaluation.gold import Gold
from distilray.operators.predict import PredictUnit
from distilray.operators.rows import schema as s
from distilray.operators.rows.ragged import one_chunk
from distilray.operators.tasks.task import EvaluatedTask, Task
from distilray.operators.worker_config import ComputeSpec

Counts = dict[str, Any]


@dataclass
class Evaluate:
    """The evaluate step. It answers a unit and compares the answers with the gold columns of the tasks.

    It returns a table of one row: the counts by name of task, as JSON.
    """

    tasks: Sequence[Task]
    compute: ComputeSpec

    def __post_init__(self) -> None:
        """Load the models. Raises CheckpointError or BackendError."""
        self.predict = PredictUnit(self.tasks, self.compute)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Evaluate a unit. Raises MetricError for gold that does not fit its task."""
        alive = pc.is_null(table[s.DEAD_REASON]).to_numpy()
        columns = {task.name: task.gold for task in self.tasks if isinstance(task, EvaluatedTask) and task.gold}
        gold = {name: _gold(table, column, alive) for name, column in columns.items()}
        answers, _ = self.predict.answers(table, gold)
        counts: Counts = {}
        for task, answer in zip(self.tasks, answers, strict=True):
            dead = np.logical_or.reduce([~alive, *(rejection.rows for rejection in answer.rejections)])
            counts[task.name] = {
                "corpus": {
                    "judged": int((gold[task.name].rows & ~dead).sum()),
                    "without_gold": int((~gold[task.name].rows & ~dead).sum()),
                    "dead": int(dead.sum()),
                },
                "figures": answer.counts,
            }
        return pa.table({"counts": [json.dumps(counts)]})


def counts_of(table: pa.Table) -> list[Counts]:
    """Return the counts in a table that `Evaluate` returned."""
    return [json.loads(counts) for counts in table["counts"].to_pylist()]


def _gold(table: pa.Table, name: str, alive: np.ndarray[Any, np.dtype[np.bool_]]) -> Gold:
    column = one_chunk(table[name])
    characters = pc.fill_null(pc.utf8_length(one_chunk(table[s.TEXT])), 0).to_numpy()
    return Gold(name, column, alive & column.is_valid().to_numpy(zero_copy_only=False), characters)
