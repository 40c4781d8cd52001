"""The operators as a user of them sees them: texts in, a table of answers out."""

from collections.abc import Sequence

import pyarrow as pa

from distilray.operators import schema as s
from distilray.operators.predict import Predict
from distilray.operators.task import ComputeSpec, Task
from distilray.operators.tokenize import Tokenize


def rows(texts: Sequence[str | None], **inputs: list) -> pa.Table:
    """What `read` gives for these texts and the other columns that tasks read; nobody is dead."""
    kinds = {
        name: s.TEXTS if isinstance(next(iter(column), None), list) else pa.string() for name, column in inputs.items()
    }
    columns = {s.input_column(name): pa.array(column, kinds[name]) for name, column in inputs.items()}
    dead = dict.fromkeys((s.DEAD_STAGE, s.DEAD_REASON, s.DEAD_MESSAGE), pa.nulls(len(texts), pa.string()))
    return pa.table({s.TEXT: pa.array(texts, pa.string()), **columns, **dead})


def answers(tasks: Task | Sequence[Task], texts: Sequence[str | None], **inputs: list) -> pa.Table:
    """The answers, in float32."""
    tasks = [tasks] if isinstance(tasks, Task) else tasks
    return Predict(tasks, ComputeSpec(dtype="float32"))(Tokenize(tasks)(rows(texts, **inputs)))


def reasons(table: pa.Table) -> list[str | None]:
    """Why each row is dead."""
    return table[s.DEAD_REASON].to_pylist()
