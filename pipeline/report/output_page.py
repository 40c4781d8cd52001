"""The HTML report of an output: what ran, throughput, answers and dead letters."""

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
from distilray.pipeline.report.answer_summary import AnswerSummary, summarize_answers
from distilray.pipeline.report.facts import OutputFacts, read_facts
from distilray.pipeline.report.html import render
from distilray.pipeline.report.lengths import Lengths, lengths_of
from distilray.pipeline.report.throughput import RowRates, row_rates
from distilray.pipeline.sink.dead_letter_summary import read_dead_letters
from distilray.pipeline.sink.fencing import start_times
from distilray.pipeline.sink.first_rows import read_first_rows
from distilray.pipeline.sink.output import MANIFEST
from distilray.pipeline.sink.plan_file import MANIFEST_ADVICE, as_job_error

_UNITS, _ROWS_PER_UNIT, _TEXTS_PER_UNIT = 16, 2048, 128  # at most, in the samples
_READERS = 4  # threads
_STAGES = ("read", "tokenize", "predict", "write")
_COMPARED_KEYS = {
    "tokens": "tokens of the texts",
    "computed_tokens": "computed tokens",
    "devices": "devices",
    "rate": "tokens per second per device",
    "device_hours": "device-hours",
    "hours": "hours",
    "cost": "cost",
}


def report_page(uri: str, overrides: Sequence[str] = (), rows: int = 8) -> str:
    """Return the HTML report of the output at `uri`, a folder or a URI.

    Nothing is written, and no model is loaded. overrides: keys of storage_options, as `a.b=value`. rows: the number of
    sample documents, whose texts are read from the corpus. Raises JobError if there is no output, StoreError if its
    store fails, and IncompleteError if an object differs from what was committed.
    """
    if rows < 0:
        raise JobError(f"--rows: expected 0 or more, got {rows}")
    facts = read_facts(uri, overrides)
    documents, lengths, problem = _corpus(facts, rows)
    with as_job_error(f"{uri}/{MANIFEST}", MANIFEST_ADVICE):
        timing = _timing(facts.manifest.get("timing", {}))
        forecast = _forecast(facts.manifest.get("forecast", {}))
    answers, sampled_rows, sampled_units = _answers(facts)
    return render(
        "report.html.j2",
        facts.job,
        documents,
        uri=uri,
        facts=facts,
        sums=facts.sums,
        throughput=_row_rates(facts),
        timing=timing,
        forecast=forecast,
        lengths=lengths,
        problem=problem,
        rows=rows,
        answers=answers,
        sampled_rows=sampled_rows,
        sampled_units=sampled_units,
        dead_letters=read_dead_letters(facts.output, facts.sums["dead"], facts.listed.keys()),
    )


def _corpus(facts: OutputFacts, rows: int) -> tuple[list[Document], Lengths | None, str | None]:
    """Return the sample documents and the lengths from the corpus, or the reason why the corpus cannot be read.

    Raises JobError, StoreError or IncompleteError as `report_page` does.
    """
    tasks = facts.job.tasks
    sampled_answers = sample_answers(facts.output, facts.committed, tasks, rows)
    sampled_units = list(safe_first_rows(facts.output, spread_units(facts.committed, _UNITS), [s.ROW], 1))
    try:
        documents = sample_documents(sampled_answers, facts.plan, tasks, rows)
        return documents, lengths_of(sample_rows(facts.plan, sampled_units, _TEXTS_PER_UNIT)), None
    except (JobError, ShardError, OSError) as error:
        return [], None, explain(error)


def _row_rates(facts: OutputFacts) -> RowRates | None:
    starts = start_times(facts.output.fs, facts.output.root)
    return row_rates(facts.listed, {unit.name: unit.rows for unit in facts.plan.units}, starts)


def _answers(facts: OutputFacts) -> tuple[list[AnswerSummary], int, int]:
    """Return the summary of each task, the number of sampled rows and the number of units they come from."""
    names = [task.name for task in facts.job.tasks]
    units = spread_units(facts.committed, _UNITS)
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda unit: read_first_rows(facts.output, unit, names, _ROWS_PER_UNIT).rows, units))
    if not tables:
        return [], 0, 0
    table, labels = pa.concat_tables(tables), facts.sums["labels"]
    summaries = [summarize_answers(task, labels.get(task.name, {}), table[task.name]) for task in facts.job.tasks]
    return summaries, table.num_rows, len(units)


def _timing(timing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest's timing with the shares of the workers' time, or {} if no run has finished the job."""
    if not timing or not timing["units"]:
        return {}
    spent = TimeSpent(**{field.name: timing[field.name] for field in fields(TimeSpent)})
    return {"spent": spent, "shares": shares(spent), "stages": {name: timing[name] for name in _STAGES}, **timing}


def _forecast(forecast: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the title, the predicted and the actual value of each figure of which at least one value is known."""
    predicted, actual = forecast.get("predicted") or {}, forecast.get("actual") or {}
    figures = [(title, predicted.get(key), actual.get(key)) for key, title in _COMPARED_KEYS.items()]
    return [row for row in figures if row[1:] != (None, None)]
