"""Functions that call the operators: they take texts and return a table of answers."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from distilray.model.tokenizer.tokenizer import Tokenizer
from distilray.operators.errors import TaskError
from distilray.operators.predict import PredictUnit
from distilray.operators.read import Read
from distilray.operators.rows import schema as s
from distilray.operators.rows.unit import Unit
from distilray.operators.tasks.task import Task, open_checkpoints
from distilray.operators.tokenize import TokenizeUnit
from distilray.operators.worker_config import ComputeSpec
from tests.support import write_shard


def rows(texts: Sequence[str | None], **inputs: list) -> pa.Table:
    """Return the table that `read` makes of texts and the other columns that tasks read. No row is dead."""
    kinds = {
        name: s.TEXTS if isinstance(next(iter(column), None), list) else pa.string() for name, column in inputs.items()
    }
    columns = {s.input_column(name): pa.array(column, kinds[name]) for name, column in inputs.items()}
    dead = dict.fromkeys(s.DEATH, pa.nulls(len(texts), pa.string()))
    return pa.table({s.TEXT: pa.array(texts, pa.string()), **columns, **dead})


def answers(tasks: Task | Sequence[Task], texts: Sequence[str | None], **inputs: list) -> pa.Table:
    """Return the answers of tasks to texts, computed in float32."""
    tasks = [tasks] if isinstance(tasks, Task) else tasks
    return PredictUnit(tasks, ComputeSpec(dtype="float32"))(TokenizeUnit(tasks)(rows(texts, **inputs)))


def assert_same_entities(actual: pa.ChunkedArray, expected: pa.ChunkedArray) -> None:
    """Assert equality except for the last digits of scores, which depend on the other rows of the batch."""
    entities, expected_entities = (
        [entity for row in column.to_pylist() for entity in row] for column in (actual, expected)
    )
    assert [len(row) for row in actual.to_pylist()] == [len(row) for row in expected.to_pylist()]
    assert [entity.pop("score") for entity in entities] == pytest.approx(
        [entity.pop("score") for entity in expected_entities], abs=1e-4
    )
    assert entities == expected_entities


def reasons(table: pa.Table) -> list[str | None]:
    """Return the reason of each dead row, and None for the others."""
    return table[s.DEAD_REASON].to_pylist()


def read_answers(folder: Path, task: Task, texts: Sequence[str | None], **inputs: list) -> pa.Table:
    """Write texts and inputs to a shard, read it and return the answers. Rows that `read` rejects are included."""
    path = write_shard(folder / "shard.parquet", list(texts), **inputs)
    kinds = {"text": pa.string(), "texts": s.TEXTS}
    schema = pa.schema([(name, kinds[kind]) for name, kind in task.columns.items()])
    unit = Unit("unit", str(path), str(path.stat().st_size), (0, 1), 0, 0, len(texts))
    table = Read("text", schema, pa.schema([]), pa.schema([]))(unit)
    return PredictUnit([task], ComputeSpec(dtype="float32"))(TokenizeUnit([task])(table))


def assert_rejected(task: Task, message: str) -> None:
    """Assert that the task does not fit its checkpoint. message: a regular expression that the error matches."""
    (checkpoint,) = open_checkpoints([task])
    with pytest.raises(TaskError, match=message):
        task.check(checkpoint.config, Tokenizer(checkpoint, task.special_tokens))
