"""The page of an output: what ran, how fast, what came out and what did not."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import pyarrow as pa

from distilray.model.store import explain
from distilray.operators import schema as s
from distilray.operators.read import ShardError
from distilray.pipeline.bottleneck import Spent, shares
from distilray.pipeline.commit import MANIFEST
from distilray.pipeline.documents import Document, safe_heads, sample_documents, sample_heads
from distilray.pipeline.errors import JobError
from distilray.pipeline.fencing import started
from distilray.pipeline.heads import read_head
from distilray.pipeline.letters import read_letters
from distilray.pipeline.page.facts import Facts, read_facts
from distilray.pipeline.page.html import render
from distilray.pipeline.page.lengths import Lengths, lengths_of
from distilray.pipeline.page.scores import Answers, answers_of
from distilray.pipeline.page.throughput import Throughput, throughput
from distilray.pipeline.sample import sample_rows, spread
from distilray.pipeline.stored import MANIFEST_ADVICE, broken

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
    with broken(f"{uri}/{MANIFEST}", MANIFEST_ADVICE):
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
        throughput=_throughput(facts),
        timing=timing,
        forecast=forecast,
        lengths=lengths,
        problem=problem,
        rows=rows,
        answers=answers,
        sampled=sampled,
        places=places,
        letters=read_letters(facts.output, facts.sums["dead"], facts.listed.keys()),
    )


def _corpus(facts: Facts, rows: int) -> tuple[list[Document], Lengths | None, str | None]:
    """What only the corpus knows, or why it cannot be read: it may be gone by now. Raises as `report_page` does."""
    tasks = facts.job.tasks
    heads = sample_heads(facts.output, facts.committed, tasks, rows)
    some = list(safe_heads(facts.output, spread(facts.committed, _PLACES), [s.ROW], 1))
    try:
        documents = sample_documents(heads, facts.plan, tasks, rows)
        return documents, lengths_of(sample_rows(facts.plan, some, _TEXTS)), None
    except (JobError, ShardError, OSError) as error:
        return [], None, explain(error)


def _throughput(facts: Facts) -> Throughput | None:
    starts = started(facts.output.fs, facts.output.root)
    return throughput(facts.listed, {unit.name: unit.rows for unit in facts.plan.units}, starts)


def _answers(facts: Facts) -> tuple[list[Answers], int, int]:
    """Of each task; the rows whose scores were read, and their units."""
    names = [task.name for task in facts.job.tasks]
    units = spread(facts.committed, _PLACES)
    with ThreadPoolExecutor(_READERS) as pool:
        tables = list(pool.map(lambda unit: read_head(facts.output, unit, names, _ROWS).rows, units))
    if not tables:
        return [], 0, 0
    table, labels = pa.concat_tables(tables), facts.sums["labels"]
    found = [answers_of(task, labels.get(task.name, {}), table[task.name]) for task in facts.job.tasks]
    return found, table.num_rows, len(units)


def _timing(said: Mapping[str, Any]) -> dict[str, Any]:
    """Of the run that finished the job; {} if there is none."""
    if not said or not said["units"]:
        return {}
    spent = Spent(**{field.name: said[field.name] for field in fields(Spent)})
    return {"spent": spent, "shares": shares(spent), "stages": {name: said[name] for name in _STAGES}, **said}


def _forecast(said: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What, predicted and actual, where either is known."""
    predicted, actual = said.get("predicted") or {}, said.get("actual") or {}
    found = [(title, predicted.get(key), actual.get(key)) for key, title in _COMPARED.items()]
    return [row for row in found if row[1:] != (None, None)]
