"""`distilray preview`: the first rows of a corpus answered here and now, and nothing written."""

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
from distilray.pipeline.planning.plan import Plan
from distilray.pipeline.planning.planner import make_plan
from distilray.pipeline.render.answers import Document, documents
from distilray.pipeline.sink.dead_letters import DeadLetter, dead_letters_of

_SHARDS = 16  # whose footers are read


@dataclass(frozen=True)
class Preview:
    """The first rows of a corpus, answered or dead. asked: rows that were wanted; shards: that were looked at;
    tokens: of the texts; seconds: with the loading of models."""

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
        """Which rows these are."""
        rows = len(self.documents) + len(self.dead)
        if rows == self.asked:
            return f"The first {rows:,} rows"
        if self.shards < _SHARDS:
            return f"All {rows:,} rows"
        return f"The {rows:,} rows of the first {self.shards} shards, which have no more"


def preview(job: Job, rows: int = 20) -> Preview:
    """Answers the first `rows` rows of the job's corpus in this process, on a GPU if there is one, and writes nothing.

    Raises what a run of the job raises before it starts, and JobError if no row is asked for or found.
    """
    if rows < 1:
        raise JobError(f"--rows: expected 1 or more, got {rows}")
    begun = time.monotonic()
    check_tasks(job.tasks)
    here = job.model_copy(update={"compute": job.compute.model_copy(update={"engine": "local", "parity": None})})
    target = find_target(here.compute)
    plan = make_plan(here, survey(job.source, job.inputs, _SHARDS), target)
    work = worker_config(here, plan, target)
    isolation = replace(work.isolation, run=f"{work.isolation.run}-preview")  # the marks of the run are for the run
    read = _first(plan, rows)
    predict = PredictUnit(job.tasks, work.compute, isolation)
    answered = predict(TokenizeUnit(job.tasks, isolation)(read))
    alive = pc.is_null(answered[s.DEAD_REASON])
    return Preview(
        job,
        list(documents(answered.filter(alive), read.filter(alive), job.tasks)),
        _dead(answered.filter(pc.invert(alive)), read.filter(pc.invert(alive))),
        rows,
        plan.shards,
        pc.sum(answered[s.TOKENS]).as_py() or 0,
        time.monotonic() - begun,
        predict.backend,
    )


def _first(plan: Plan, rows: int) -> pa.Table:
    """The first rows of a corpus. Raises JobError if there are none, or if they cannot be read, StoreError, ShardError."""
    tables = list(_heads(plan, rows))
    if not sum(table.num_rows for table in tables):
        if plan.shards < _SHARDS:
            raise JobError("the corpus has no rows to preview")
        raise JobError(
            f"the first {plan.shards} shards of the corpus have no rows to preview, and a preview looks at no more: "
            "name one that has some, --set source.uri=..."
        )
    return pa.concat_tables(tables).combine_chunks()


def _heads(plan: Plan, rows: int) -> Iterator[pa.Table]:
    """Row group by row group."""
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
        except Exception as error:  # every store has its own exceptions; all of them mean "cannot be read"
            raise JobError(f"cannot read shard {unit.uri}: {explain(error)}") from error


def _dead(answered: pa.Table, read: pa.Table) -> list[DeadLetter]:
    """Rows without an answer, with their texts if they have one."""
    said = [answered[name] for name in (s.SHARD, s.ROW, s.DEAD_STAGE, s.DEAD_REASON, s.DEAD_MESSAGE)]
    return dead_letters_of(pa.table([*said, read[s.TEXT]], schema=s.DEAD))
