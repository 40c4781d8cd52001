"""The command `distilray preview`: answers of the first rows of a corpus, computed in this process and not written."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain
from distilray.operators.errors import ShardError
from distilray.operators.predict import PredictUnit
from distilray.operators.rows import schema as s
from distilray.operators.tokenize import TokenizeUnit
from distilray.pipeline.commands.compute import worker_config
from distilray.pipeline.corpus.survey import survey
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Job
from distilray.pipeline.planning.checked_tasks import check_tasks
from distilray.pipeline.planning.compute_target import find_target
from distilray.pipeline.planning.make_plan import make_plan
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.render.answers import Document, render_documents
from distilray.pipeline.sink.dead_letter_summary import DeadLetter, dead_letters_of

_MAX_SHARDS = 16  # a preview reads the footers of at most so many shards


@dataclass(frozen=True)
class Preview:
    """The first rows of a corpus, as answers or dead letters.

    asked: the number of rows to preview. shards: the number of shards that were read. tokens: the tokens of the texts.
    seconds: the time that the preview took, including the loading of models.
    """

    job: Job
    documents: list[Document]
    dead: list[DeadLetter]
    asked: int
    shards: int
    tokens: int
    seconds: float
    backend: str

    @property
    def scope(self) -> str:
        """The rows of this preview in words."""
        rows = len(self.documents) + len(self.dead)
        if rows == self.asked:
            return f"The first {rows:,} rows"
        if self.shards < _MAX_SHARDS:
            return f"All {rows:,} rows"
        return f"The {rows:,} rows of the first {self.shards} shards, which have no more"


def preview(job: Job, rows: int = 20) -> Preview:
    """Answer the first `rows` rows of the job's corpus in this process, on a GPU if there is one. Nothing is written.

    Raises JobError if `rows` is less than 1 or the corpus has no rows. Also raises all errors that a run raises before
    it starts.
    """
    if rows < 1:
        raise JobError(f"--rows: expected 1 or more, got {rows}")
    started = time.monotonic()
    check_tasks(job.tasks)
    local_job = job.model_copy(update={"compute": job.compute.model_copy(update={"engine": "local", "parity": None})})
    target = find_target(local_job.compute)
    plan = make_plan(local_job, survey(job.source, job.inputs, _MAX_SHARDS), target)
    config = worker_config(local_job, plan, target)
    # a name of its own, because a preview must neither read nor leave marks of the job's runs
    isolation = replace(config.isolation, run=f"{config.isolation.run}-preview")
    source_rows = _first_rows(plan, rows)
    predict = PredictUnit(job.tasks, config.compute, isolation)
    predicted = predict(TokenizeUnit(job.tasks, isolation)(source_rows))
    has_answer = pc.is_null(predicted[s.DEAD_REASON])
    return Preview(
        job,
        list(render_documents(predicted.filter(has_answer), source_rows.filter(has_answer), job.tasks)),
        _dead_letters(predicted.filter(pc.invert(has_answer)), source_rows.filter(pc.invert(has_answer))),
        rows,
        plan.shards,
        pc.sum(predicted[s.TOKENS]).as_py() or 0,
        time.monotonic() - started,
        predict.backend,
    )


def _first_rows(plan: Plan, rows: int) -> pa.Table:
    """Read the first rows of a corpus.

    Raises JobError if there are none, and StoreError, ShardError or JobError if they cannot be read.
    """
    tables = list(_read_parts(plan, rows))
    if not sum(table.num_rows for table in tables):
        if plan.shards < _MAX_SHARDS:
            raise JobError("the corpus has no rows to preview: correct source.uri")
        raise JobError(
            f"the first {plan.shards} shards of the corpus have no rows to preview, and a preview reads no more "
            "shards: choose a shard that has rows with --set source.uri=..."
        )
    return pa.concat_tables(tables).combine_chunks()


def _read_parts(plan: Plan, rows: int) -> Iterator[pa.Table]:
    """Yield the first `rows` rows, one row group at a time."""
    for unit in plan.units:
        try:
            for part in [unit] if unit.error else plan.read.parts(unit):
                if rows <= 0:
                    return
                table = plan.read.head(part, rows)
                rows -= table.num_rows
                yield table
        except (ShardError, StoreError):
            raise
        except Exception as error:  # stores raise exceptions of many types
            raise JobError(f"cannot read shard {unit.uri}: {explain(error)}") from error


def _dead_letters(dead: pa.Table, source_rows: pa.Table) -> list[DeadLetter]:
    """Convert rows without an answer to dead letters. source_rows: the same rows, with their texts."""
    columns = [dead[name] for name in (s.SHARD, s.ROW, s.DEAD_STAGE, s.DEAD_REASON, s.DEAD_MESSAGE)]
    return dead_letters_of(pa.table([*columns, source_rows[s.TEXT]], schema=s.DEAD))
