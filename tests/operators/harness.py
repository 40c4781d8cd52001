"""The operators as a user of them sees them: texts in, a table of answers out."""

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
    """What `read` gives for these texts and the other columns that tasks read; nobody is dead."""
    kinds = {
        name: s.TEXTS if isinstance(next(iter(column), None), list) else pa.string() for name, column in inputs.items()
    }
    columns = {s.input_column(name): pa.array(column, kinds[name]) for name, column in inputs.items()}
    dead = dict.fromkeys(s.DEATH, pa.nulls(len(texts), pa.string()))
    return pa.table({s.TEXT: pa.array(texts, pa.string()), **columns, **dead})


def answers(tasks: Task | Sequence[Task], texts: Sequence[str | None], **inputs: list) -> pa.Table:
    """The answers, in float32."""
    tasks = [tasks] if isinstance(tasks, Task) else tasks
    return PredictUnit(tasks, ComputeSpec(dtype="float32"))(TokenizeUnit(tasks)(rows(texts, **inputs)))


def assert_same_entities(found: pa.ChunkedArray, expected: pa.ChunkedArray) -> None:
    """But for the last digits of scores, which depend on what else was in the batch."""
    ours, theirs = ([entity for row in column.to_pylist() for entity in row] for column in (found, expected))
    assert [len(row) for row in found.to_pylist()] == [len(row) for row in expected.to_pylist()]
    assert [entity.pop("score") for entity in ours] == pytest.approx(
        [entity.pop("score") for entity in theirs], abs=1e-4
    )
    assert ours == theirs


def reasons(table: pa.Table) -> list[str | None]:
    """Why each row is dead."""
    return table[s.DEAD_REASON].to_pylist()


def read_answers(folder: Path, task: Task, texts: Sequence[str | None], **inputs: list) -> pa.Table:
    """The answers to a shard that holds all this, with the dead letters of reading it."""
    path = write_shard(folder / "shard.parquet", list(texts), **inputs)
    kinds = {"text": pa.string(), "texts": s.TEXTS}
    schema = pa.schema([(name, kinds[kind]) for name, kind in task.columns.items()])
    unit = Unit("unit", str(path), str(path.stat().st_size), (0, 1), 0, 0, len(texts))
    table = Read("text", schema, pa.schema([]), pa.schema([]))(unit)
    return PredictUnit([task], ComputeSpec(dtype="float32"))(TokenizeUnit([task])(table))


def refused(task: Task, says: str) -> None:
    """The task does not fit its checkpoint, and `says` is in the reason (a regular expression)."""
    (checkpoint,) = open_checkpoints([task])
    with pytest.raises(TaskError, match=says):
        task.check(checkpoint.config, Tokenizer(checkpoint, task.special_tokens))
