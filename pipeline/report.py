"""What a person sees: how far the run is, then a short summary."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table
from rich.text import Text

from distilray.model.store import explain
from distilray.operators import schema as s
from distilray.operators.read import ShardError, WatchedFile
from distilray.operators.task import Task
from distilray.operators.tasks import QuestionAnswering, TokenClassification
from distilray.pipeline.commit import Output, open_output
from distilray.pipeline.errors import JobError
from distilray.pipeline.job import Job
from distilray.pipeline.progress import Mode, watching
from distilray.pipeline.run import Result, execute
from distilray.pipeline.sample import sample_rows, spread

_COLOURS = ("green", "cyan", "magenta", "yellow", "blue", "red")
_SNIPPET = 220  # characters
_SAMPLES = 5


def run(job: Job, *, quiet: bool = False, progress: Mode = "auto") -> Result:
    """Answers every row of the job's corpus once, or continues an earlier run of the same job.

    Shows its progress and a summary, unless `quiet`; progress: a live view, lines, JSON lines (and no other summary) or
    none, by itself what suits the terminal. Raises JobError, CheckpointError or BackendError before any work starts if the
    job cannot run, IncompleteError if rows got lost; after any exception, running again resumes.
    """
    console = Console(highlight=False, quiet=quiet)
    with watching(console, "none" if quiet else progress) as watch:
        result = execute(job, watch.start, watch.add)
    if progress == "json" and not quiet:
        console.out(json.dumps({"event": "result", **figures(result)}), highlight=False)
    elif not quiet:
        console.print(summary(result))
        for line in samples(result):
            console.print(line)
        console.print(where_to_look(job), soft_wrap=True)
    return result


_OF_OUTPUT = ("fingerprint", "shards", "padding", "truncated", "labels", "backends")
_COUNTED = ("units", "rows", "dead", "tokens", "computed_tokens")


def figures(result: Result) -> dict[str, Any]:
    """The figures of the whole output as its manifest has them, and what this run did, as plain data of a few lines."""
    computed, timing = asdict(result.computed), result.account["timing"]
    return {
        "sink": result.job.sink.uri,
        **{name: result.manifest[name] for name in (*_OF_OUTPUT, *_COUNTED)},
        "this_run": {"seconds": result.seconds, **{name: computed[name] for name in _COUNTED}},
        "bottleneck": timing["bottleneck"],
        "advice": timing["advice"],
    }


def summary(result: Result) -> Table:
    """The figures of the whole output, and the speed of this run."""
    manifest = result.manifest
    computed = result.computed
    speed = f"{computed.tokens / result.seconds:,.0f} tokens/s" if computed.units else "nothing left to compute"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row(
        "rows", f"{manifest['rows']:,} answered in {manifest['units']:,} units of {manifest['shards']:,} shards"
    )
    table.add_row("tokens", f"{manifest['tokens']:,}; this run {computed.tokens:,} in {result.seconds:.1f} s, {speed}")
    for name, words in _account(result) if computed.units else ():
        table.add_row(name, words)
    table.add_row("backend", "; ".join(manifest["backends"]))
    table.add_row("padding", f"{manifest['padding']:,} of {manifest['computed_tokens']:,} computed tokens")
    for name, counts in manifest["labels"].items():
        table.add_row(name, Text(one_line(_counts(counts))))
    table.add_row("dead letters", _counts(manifest["dead"]))
    for name, rows in manifest["truncated"].items():
        if rows:
            table.add_row("truncated", f"{name}: {rows:,} rows were cut, as the task asks for")
    return table


def _account(result: Result) -> Iterator[tuple[str, str]]:
    """What this run took, beside what was predicted of it."""
    timing, forecast = result.account["timing"], result.account["forecast"]
    predicted, actual = forecast["predicted"] or {}, forecast["actual"]
    yield "bottleneck", timing["bottleneck"]
    yield "advice", timing["advice"]
    for title, key, form in (
        ("computed", "computed_tokens", ",.0f"),
        ("device-hours", "device_hours", ",.3g"),
        ("hours", "hours", ",.3g"),
        ("cost", "cost", ",.2f"),
    ):
        if (value := actual[key]) is not None:
            before = predicted.get(key)
            said = _unpredicted(predicted) if before is None else f"{before:{form}} predicted"
            yield title, f"{value:{form}}{' tokens' if key == 'computed_tokens' else ''}; {said}"


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "none"


def _unpredicted(predicted: Mapping[str, Any]) -> str:
    """Why there is no figure."""
    if not predicted:
        return "no forecast in this plan"
    if device := predicted["device"]:
        return f"not predicted, since the rate and tokens_per_pack of the plan are for {device}: neither was used here"
    return "not predicted, since no device was calibrated"


def samples(result: Result) -> Iterator[Text]:
    """A few answered rows: a passage of each with its entities in colour, and the answers of other tasks."""
    labels = sorted({n for c in result.manifest["labels"].values() for n in c})
    colours = {label: _COLOURS[i % len(_COLOURS)] for i, label in enumerate(labels)}
    try:
        output, units = open_output(result.job.sink), spread(result.plan, _SAMPLES)
        answered = {unit: _answers(output, unit.name, unit.first_row, result.job) for unit in units}
        units = [unit for unit in units if answered[unit] is not None]  # a dead row may be one that kills who reads it
        tables = sample_rows(result.plan, units, rows=1)
    except (JobError, ShardError, OSError) as error:  # the corpus may be gone by now; the answers are there
        yield Text(f"no sample rows: {one_line(explain(error))}", style="dim")
        return
    for unit, table in zip(units, tables, strict=True):
        text, answers = table[s.TEXT][0].as_py() if table.num_rows else None, answered[unit]
        if text and answers is not None:
            address = f"{'/'.join(unit.uri.split('/')[-2:])} row {unit.first_row}"
            yield Text.assemble((f"{address}: ", "dim"), _sample(text, answers, colours))


def _answers(output: Output, unit: str, row: int, job: Job) -> dict[str, Any] | None:
    """What the tasks say of a unit's first row; None if it is dead."""
    path = f"{output.root}/data/{unit}.parquet"
    with output.fs.open(path, "rb") as file:
        parquet = pq.ParquetFile(pa.PythonFile(WatchedFile(file, output.fs.size(path), path), mode="r"))
        if not parquet.metadata.num_rows:
            return None
        columns = [s.ROW, *(task.name for task in job.tasks)]
        answers: dict[str, Any] = parquet.read_row_group(0, columns=columns).slice(0, 1).to_pylist()[0]
    return answers if answers.pop(s.ROW) == row else None


def _sample(text: str, answers: Mapping[str, Any], colours: Mapping[str, str]) -> Text:
    """The text with its entities if there are any, and then every other answer, shortened."""
    entities: list[dict[str, Any]] = next((answer for answer in answers.values() if _are_entities(answer)), [])
    line = _marked(text, entities, colours)
    for name, answer in answers.items():
        if answer is not entities:
            line.append(f"\n    {name}: ", style="dim")
            line.append(one_line(str(answer))[:_SNIPPET])
    return line


def _are_entities(answer: Any) -> bool:
    """Whether a task's answer is a list of labelled spans."""
    return (
        isinstance(answer, list)
        and bool(answer)
        and isinstance(answer[0], dict)
        and {"start", "label"} <= answer[0].keys()
    )


def _marked(text: str, entities: list[dict[str, Any]], colours: Mapping[str, str]) -> Text:
    """The passage with most entities, on one line."""
    starts = np.array([entity["start"] for entity in entities], dtype=np.int64)
    within = np.searchsorted(starts, starts + _SNIPPET * 3 // 4) - np.arange(len(starts))
    first = int(starts[within.argmax()]) if len(starts) else 0
    begin = text.rfind(" ", 0, max(first - 20, 0)) + 1
    marked = Text()
    at, stop = begin, begin + _SNIPPET
    for entity in entities:
        if at <= entity["start"] and entity["end"] <= stop:
            marked.append(one_line(text[at : entity["start"]]))
            colour = colours[entity["label"]]
            marked.append("[", style=colour)
            marked.append(one_line(entity["text"]), style=f"bold {colour}")
            marked.append(f" {entity['label']}]", style=colour)
            at = entity["end"]
    marked.append(one_line(text[at:stop]))
    return marked


def one_line(text: str) -> str:
    """Without line ends and without control characters: strangers' text must not command the terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text)


def where_to_look(job: Job) -> Text:
    """Where the output lies and a query for it."""
    data = f"{job.sink.uri.rstrip('/')}/data/*.parquet"
    return Text(f'output        {data}\nquery         duckdb -c "{_query(job.tasks[0], data)}"')


def _query(task: Task, data: str) -> str:
    """A first look at the answers of a task."""
    name = task.name
    match task:
        case TokenClassification() | QuestionAnswering():
            label = "label" if isinstance(task, TokenClassification) else "question"
            spans = f"SELECT unnest({name}) AS e FROM '{data}'"  # noqa: S608  a hint for a person
            return f"SELECT e.{label}, e.text, count(*) AS n FROM ({spans}) GROUP BY ALL ORDER BY n DESC LIMIT 10"  # noqa: S608
        case _:
            return f"SELECT shard, row, {name} FROM '{data}' LIMIT 10"  # noqa: S608
