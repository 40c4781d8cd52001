"""The operators for anybody's tables: texts in, the same rows with answers out. Nothing of a run is needed.

>>> Predict(tasks)(Tokenize(tasks, text="body")(table))
"""

import hashlib
import json
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.network.names import AttentionName, DtypeName
from distilray.operators import predict, tokenize
from distilray.operators.encoder_passes import check_passes
from distilray.operators.errors import TableError, TaskError
from distilray.operators.isolation.bisect import call_bisecting
from distilray.operators.rows import schema as s
from distilray.operators.rows.columns import columns_error, inputs_of, living
from distilray.operators.rows.ragged import one_chunk
from distilray.operators.tasks.task import Task, inputs_schema
from distilray.operators.tokenize import Tokenizing
from distilray.operators.worker_config import ComputeSpec

_COUNTS = (s.TOKENS, s.WINDOW_TOKENS, s.COMPUTED_TOKENS, s.BACKEND)


class Tokenize:
    """Adds the tokens of the texts, for `Predict`. Runs on CPUs.

    tasks: as in a job; text: the column that they read.
    """

    def __init__(self, tasks: Sequence[Task], text: str = "text") -> None:
        """Reads the tokenizers; raises CheckpointError or TaskError."""
        self._inputs = inputs_schema(_listed(tasks))
        self._text = text
        self._tokenize = tokenize.TokenizeUnit(tasks)
        self._seal = _seal(self._tokenize.tokenizings)

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows, all columns as they were, and beside them columns that begin with an underscore.

        A row whose text is null or not UTF-8 has no tokens. Raises TableError if a column is missing, there twice, of another
        type, or called like one of those that are added, ColumnSizeError for more text than Arrow's lists can hold.
        """
        _check_arrow(table)
        if twice := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
            raise TableError(f"expected columns of different names, got {', '.join(twice)} more than once: rename them")
        if problem := columns_error(table.schema, self._text, self._inputs, (), "the table has"):
            raise TableError(problem)
        if taken := [name for name in table.column_names if _travels(name)]:
            raise TableError(f"rename column {', '.join(taken)}: tokens travel in columns of such names")
        values, dead = inputs_of(table, self._text, self._inputs)
        nothing = pa.nulls(table.num_rows, pa.string())
        columns = {
            **dict(zip((s.TEXT, *map(s.input_column, self._inputs.names)), living(values, dead), strict=True)),
            **dict(zip(s.DEATH, (pc.if_else(pc.is_null(dead[0]), nothing, "read"), *dead, nothing), strict=True)),
            self._seal: nothing,
        }
        for name, column in columns.items():
            table = table.append_column(name, column)
        return call_bisecting(self._tokenize.tokenized, table, "tokenize")


class Predict:
    """Replaces the tokens by the answers. Runs on the GPU that it finds, else on CPUs.

    tasks: those that `Tokenize` was given; dtype, attention, tokens_per_pack, threads: as in a job's `compute`.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        dtype: DtypeName = "auto",
        attention: AttentionName = "auto",
        tokens_per_pack: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Loads the models; raises CheckpointError, TaskError or BackendError."""
        self._predict = predict.PredictUnit(_listed(tasks), ComputeSpec(dtype, attention, tokens_per_pack, threads))
        passes = self._predict.passes
        check_passes(passes)
        pairs = zip(tasks, passes.configs, strict=True)
        self._answers = pa.schema([field for task, config in pairs for field in task.output_schema(config)])
        names = [*self._answers.names, s.REASON, s.MESSAGE]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise TaskError(f"two columns would be called {', '.join(twice)}: give the tasks other names")
        self._seal = _seal(passes.tokenizings)

    def __call__(self, table: pa.Table) -> pa.Table:
        """The rows that `Tokenize` was given, in order, with each task's column, and `reason` and `message`: null, or why
        the row has no answers. Raises TableError for a table that is not from a `Tokenize` of the same tasks.
        """
        _check_arrow(table)
        if self._seal not in table.column_names:
            raise TableError(
                f"expected a table that Tokenize gave for the same tasks, got columns {', '.join(table.column_names)}"
            )
        own = [name for name in table.column_names if not _travels(name)]
        if taken := sorted({*self._answers.names, s.REASON, s.MESSAGE} & set(own)):
            raise TableError(f"rename column {', '.join(taken)}, or the task: the answers need the name")
        result = call_bisecting(self._predict.answered, table, "predict")
        alive = pc.is_null(one_chunk(result[s.DEAD_REASON]))
        for field in self._answers:
            answers = pc.if_else(alive, one_chunk(result[field.name]), pa.scalar(None, field.type))
            result = result.set_column(result.column_names.index(field.name), field.name, answers)
        result = result.append_column(s.REASON, result[s.DEAD_REASON]).append_column(s.MESSAGE, result[s.DEAD_MESSAGE])
        return result.select([*own, *self._answers.names, s.REASON, s.MESSAGE])  # whose fields are as they were


def _listed(tasks: Sequence[Task]) -> Sequence[Task]:
    if isinstance(tasks, Task) or not tasks:
        raise TaskError("expected a list of one or more tasks")
    return tasks


def _seal(tokenizings: Sequence[Tokenizing]) -> str:
    """A column that only tokens of these tokenizers, and of these columns, have beside them."""
    said = [(each.tokenizer.description, each.tokenizer.specials, sorted(each.columns)) for each in tokenizings]
    return s.input_column(hashlib.sha256(json.dumps(said).encode()).hexdigest())


def _check_arrow(table: pa.Table) -> None:
    if not isinstance(table, pa.Table):
        raise TableError(
            f'expected a pyarrow.Table, got {type(table).__name__}: call map_batches with batch_format="pyarrow"'
        )


def _travels(name: str) -> bool:
    return name.startswith(s.INTERNAL) or name in {*s.DEATH, *_COUNTS}
