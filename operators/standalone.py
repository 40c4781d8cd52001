"""Operators for Arrow tables outside a run: they take texts and return the same rows with answers.

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
from distilray.operators.rows.columns import columns_error, inputs_of, null_dead_rows
from distilray.operators.rows.ragged import one_chunk
from distilray.operators.tasks.task import Task, inputs_schema
from distilray.operators.tokenize import TokenizerGroup
from distilray.operators.worker_config import ComputeSpec

_COUNTS = (s.TOKENS, s.WINDOW_TOKENS, s.COMPUTED_TOKENS, s.BACKEND)


class Tokenize:
    """The operator that adds the tokens of the texts, for `Predict`. It runs on CPUs.

    tasks: the tasks, as in a job. text: the column that the tasks read.
    """

    def __init__(self, tasks: Sequence[Task], text: str = "text") -> None:
        """Read the tokenizers. Raises CheckpointError or TaskError."""
        self._inputs = inputs_schema(_require_list(tasks))
        self._text = text
        self._tokenize = tokenize.TokenizeUnit(tasks)
        self._marker = _marker_column(self._tokenize.tokenizer_groups)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the rows with all their columns unchanged, and further columns that begin with an underscore.

        A row whose text is null or not UTF-8 has no tokens. Raises TableError if a column is missing, is duplicated,
        has another type, or has the name of an added column. Raises ColumnSizeError for more text than Arrow's lists
        can hold.
        """
        _check_arrow(table)
        if duplicates := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
            raise TableError(
                f"expected columns of different names, got {', '.join(duplicates)} more than once: rename them"
            )
        if problem := columns_error(table.schema, self._text, self._inputs, (), "the table has"):
            raise TableError(problem)
        if conflicts := [name for name in table.column_names if _is_internal(name)]:
            raise TableError(
                f"expected no column named {', '.join(conflicts)}, because Tokenize adds such columns: rename it"
            )
        values, dead = inputs_of(table, self._text, self._inputs)
        nulls = pa.nulls(table.num_rows, pa.string())
        columns = {
            **dict(zip((s.TEXT, *map(s.input_column, self._inputs.names)), null_dead_rows(values, dead), strict=True)),
            **dict(zip(s.DEATH, (pc.if_else(pc.is_null(dead[0]), nulls, "read"), *dead, nulls), strict=True)),
            self._marker: nulls,
        }
        for name, column in columns.items():
            table = table.append_column(name, column)
        return call_bisecting(self._tokenize.tokenized, table, "tokenize")


class Predict:
    """The operator that replaces the tokens by the answers. It runs on a GPU if there is one, else on CPUs.

    tasks: the same tasks as for `Tokenize`. dtype, attention, tokens_per_pack, threads: as in `compute` of a job.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        dtype: DtypeName = "auto",
        attention: AttentionName = "auto",
        tokens_per_pack: int | None = None,
        threads: int | None = None,
    ) -> None:
        """Load the models. Raises CheckpointError, TaskError or BackendError."""
        self._predict = predict.PredictUnit(
            _require_list(tasks), ComputeSpec(dtype, attention, tokens_per_pack, threads)
        )
        passes = self._predict.passes
        check_passes(passes)
        pairs = zip(tasks, passes.configs, strict=True)
        self._answers = pa.schema([field for task, config in pairs for field in task.output_schema(config)])
        names = [*self._answers.names, s.REASON, s.MESSAGE]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise TaskError(f"two columns would be called {', '.join(duplicates)}: give the tasks other names")
        self._marker = _marker_column(passes.tokenizer_groups)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Return the rows that `Tokenize` got, in order, with the column of each task, `reason` and `message`.

        `reason` and `message` state why a row has no answers; else they are null. Raises TableError for a table that
        does not come from a `Tokenize` of the same tasks.
        """
        _check_arrow(table)
        if self._marker not in table.column_names:
            raise TableError(
                "expected a table that Tokenize returned for the same tasks, "
                f"got columns {', '.join(table.column_names)}: call Tokenize first"
            )
        own = [name for name in table.column_names if not _is_internal(name)]
        if conflicts := sorted({*self._answers.names, s.REASON, s.MESSAGE} & set(own)):
            raise TableError(
                f"expected no column named {', '.join(conflicts)}, because the answers have this name: rename it or the task"
            )
        result = call_bisecting(self._predict.answered, table, "predict")
        alive = pc.is_null(one_chunk(result[s.DEAD_REASON]))
        for field in self._answers:
            answers = pc.if_else(alive, one_chunk(result[field.name]), pa.scalar(None, field.type))
            result = result.set_column(result.column_names.index(field.name), field.name, answers)
        result = result.append_column(s.REASON, result[s.DEAD_REASON]).append_column(s.MESSAGE, result[s.DEAD_MESSAGE])
        # select keeps the metadata of the fields
        return result.select([*own, *self._answers.names, s.REASON, s.MESSAGE])


def _require_list(tasks: Sequence[Task]) -> Sequence[Task]:
    if isinstance(tasks, Task) or not tasks:
        actual = type(tasks).__name__ if tasks else "an empty list"
        raise TaskError(f"expected a list of one or more tasks, got {actual}: write [task]")
    return tasks


def _marker_column(groups: Sequence[TokenizerGroup]) -> str:
    """Return the name of the column that marks tokens of these tokenizers and input columns."""
    content = [(group.tokenizer.description, group.tokenizer.specials, sorted(group.columns)) for group in groups]
    return s.input_column(hashlib.sha256(json.dumps(content).encode()).hexdigest())


def _check_arrow(table: pa.Table) -> None:
    if not isinstance(table, pa.Table):
        raise TableError(
            f'expected a pyarrow.Table, got {type(table).__name__}: call map_batches with batch_format="pyarrow"'
        )


def _is_internal(name: str) -> bool:
    return name.startswith(s.INTERNAL) or name in {*s.DEATH, *_COUNTS}
