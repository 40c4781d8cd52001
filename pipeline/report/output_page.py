"""The page of an output: what ran, how fast, what came out and what did not."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import pyarrow as pa

from distilray.model.storage.store import explain
from distilray.operators.errors import ShardError
from distilray.operators.rows import schema as s
from distilray.pipeline.engines.bottleneck import TimeSpent, shares
from distilray.pipeline.errors import JobError
from distilray.pipeline.planning.sample_rows import sample_rows, spread_units
from distilray.pipeline.render.answers import Document, safe_first_rows, sample_answers, sample_documents
from distilray.pipeline.report.facts import OutputFacts, read_facts
from distilray.pipeline.report.html import render
from distilray.pipeline.report.label_scores import AnswerSummary, summarize_answers
from distilray.pipeline.report.lengths import Lengths, lengths_of
from distilray.pipeline.report.throughput import RowRates, row_rates
from distilray.pipeline.sink.dead_letters import read_dead_letters
from distilray.pipeline.sink.fencing import start_times
from distilray.pipeline.sink.first_rows import read_first_rows
from distilray.pipeline.sink.output import MANIFEST
from distilray.pipeline.sink.plan_file import MANIFEST_ADVICE, as_job_error

_PLACES, _ROWS, _TEXTS, _READERS = 16, 2048, 128, 4  # units, answered rows and texts of each, read at once
_STAGES = ("read", "tokenize", "predict", "write")
_COMPARED = {
    "tokens": "tokens of the texts",
    "computed_tokens": "computed tokens",
    "devices": "devices",
    "rate": "tokens a second and device",
    "device_hours": "device-hours",
    "hours": "hours",
    "cost": "cost",
}


def report_page(uri: str, overrides: Sequence[str] = (), rows: int = 8) -> str:
    """HTML of the output at `uri`, a folder or a URI; `rows`: sample documents, which are read from the corpus.

    Nothing is written, and no model is loaded. overrides: keys of storage_options, as `a.b=value`. Raises JobError if there
    is no output, StoreError if its store fails, IncompleteError for objects that are not as they were committed.
    """
    if rows < 0:
        raise JobError(f"--rows: expected 0 or more, got {rows}")
    facts = read_facts(uri, overrides)
    documents, lengths, problem = _corpus(facts, rows)
    with as_job_error(f"{uri}/{MANIFEST}", MANIFEST_ADVICE):
        timing = _timing(facts.manifest.get("timing", {}))
        forecast = _forecast(facts.manifest.get("forecast", {}))
    answers, sampled, places = _answers(facts)
    return render(
        "report.html.j2",
        facts.job,
        documents,
        uri=uri,
        facts=facts,
        sums=facts.sums,
        row_rates=_throughput(facts),
        timing=timing,
        forecast=forecast,
        lengths=lengths,
        problem=problem,
        rows=rows,
        answers=answers,
        sampled=sampled,
        places=places,
        letters=read_dead_letters(facts.output, facts.sums["dead"], facts.listed.keys()),
    )


def _corpus(facts: OutputFacts, rows: int) -> tuple[list[Document], Lengths | None, str | None]:
    """What only the corpus knows, or why it cannot be read: it may be gone by now. Raises as `report_page` does."""
    tasks = facts.job.tasks
    heads = sample_answers(facts.output, facts.committed, tasks, rows)
    some = list(safe_first_rows(facts.output, spread_units(facts.committed, _PLACES), [s.ROW], 1))
    try:
        documents = sample_documents(heads, facts.plan, tasks, rows)
        return documents, lengths_of(sample_rows(facts.plan, some, _TEXTS)), None
    except (JobError, ShardError, OSError) as error:
        return [], None, explain(error)


def _throughput(facts: OutputFacts) -> RowRates | None:
    starts = start_times(facts.output.fs, facts.output.root)
    return row_rates(facts.listed, {unit.name: unit.rows for unit in facts.plan.units}, starts)


def _answers(facts: OutputFacts) -> tuple[list[AnswerSummary], int, int]:
    """Of each task; the rows whose scores were read, and their units."""
    names = [task.name for task in facts.job.tasks]
    units = spread_units(facts.committed, _PLACES)
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda unit: read_first_rows(facts.output, unit, names, _ROWS).rows, units))
    if not tables:
        return [], 0, 0
    table, labels = pa.concat_tables(tables), facts.sums["labels"]
    found = [summarize_answers(task, labels.get(task.name, {}), table[task.name]) for task in facts.job.tasks]
    return found, table.num_rows, len(units)


def _timing(said: Mapping[str, Any]) -> dict[str, Any]:
    """Of the run that finished the job; {} if there is none."""
    if not said or not said["units"]:
        return {}
    spent = TimeSpent(**{field.name: said[field.name] for field in fields(TimeSpent)})
    return {"spent": spent, "shares": shares(spent), "stages": {name: said[name] for name in _STAGES}, **said}


def _forecast(said: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What, predicted and actual, where either is known."""
    predicted, actual = said.get("predicted") or {}, said.get("actual") or {}
    found = [(title, predicted.get(key), actual.get(key)) for key, title in _COMPARED.items()]
    return [row for row in found if row[1:] != (None, None)]
