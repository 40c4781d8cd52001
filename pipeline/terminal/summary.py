"""The summary of a finished run: figures, sample rows and a query for the output."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from distilray.model.storage.store import explain
from distilray.operators.errors import ShardError
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import Job
from distilray.pipeline.render.answers import sample_answers, sample_documents
from distilray.pipeline.render.escape import escape_line
from distilray.pipeline.sink.output import open_output
from distilray.pipeline.terminal.text import highlighted, plain_text

if TYPE_CHECKING:  # commands that only show results must not import torch
    from distilray.pipeline.commands.run import Result

_PASSAGE_LENGTH = 220  # characters
_SAMPLES = 5
_OUTPUT_KEYS = ("fingerprint", "shards", "padding", "truncated", "labels", "backends")
_COUNT_KEYS = ("units", "rows", "dead", "tokens", "computed_tokens")


def figures(result: "Result") -> dict[str, Any]:
    """Return the figures of the whole output from its manifest, and the counts of this run, as plain data."""
    computed, timing = asdict(result.computed), result.account["timing"]
    return {
        "sink": result.job.sink.uri,
        **{name: result.manifest[name] for name in (*_OUTPUT_KEYS, *_COUNT_KEYS)},
        "this_run": {"seconds": result.seconds, **{name: computed[name] for name in _COUNT_KEYS}},
        "bottleneck": timing["bottleneck"],
        "advice": timing["advice"],
    }


def summary(result: "Result") -> Table:
    """Return a table of the figures of the whole output and of the speed of this run."""
    manifest = result.manifest
    computed = result.computed
    speed = f"{computed.tokens / result.seconds:,.0f} tokens/s" if computed.units else "nothing left to compute"
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row(
        "rows", f"{manifest['rows']:,} answered in {manifest['units']:,} units of {manifest['shards']:,} shards"
    )
    table.add_row("tokens", f"{manifest['tokens']:,}; this run {computed.tokens:,} in {result.seconds:.1f} s, {speed}")
    for name, text in _account(result) if computed.units else ():
        table.add_row(name, plain_text(text))
    table.add_row("backend", plain_text("; ".join(manifest["backends"])))
    table.add_row("padding", f"{manifest['padding']:,} of {manifest['computed_tokens']:,} computed tokens")
    for name, counts in manifest["labels"].items():
        table.add_row(name, plain_text(_counts(counts)))
    table.add_row("dead letters", plain_text(_counts(manifest["dead"])))
    for name, rows in manifest["truncated"].items():
        if rows:
            table.add_row("truncated", f"{name}: {rows:,} rows were truncated, as the task is configured")
    return table


def _account(result: "Result") -> Iterator[tuple[str, str]]:
    """Yield a title and a text for the bottleneck, the advice, and each figure of this run next to its forecast."""
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
            forecast_value = predicted.get(key)
            comparison = _no_forecast(predicted) if forecast_value is None else f"{forecast_value:{form}} predicted"
            yield title, f"{value:{form}}{' tokens' if key == 'computed_tokens' else ''}; {comparison}"


def _counts(counts: Mapping[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "none"


def _no_forecast(predicted: Mapping[str, Any]) -> str:
    """Return the reason for a missing prediction."""
    if not predicted:
        return "the plan has no forecast"
    if device := predicted["device"]:
        return f"not predicted: the rate and tokens_per_pack of the plan are for {device}; this run used neither"
    return "not predicted: no device was calibrated"


def samples(result: "Result") -> Iterator[Text]:
    """Yield a few answered rows: a passage of each with its spans in colour, and the answers of the other tasks."""
    job, plan = result.job, result.plan
    try:
        answers = sample_answers(open_output(job.sink), plan.units, job.tasks, _SAMPLES)
        documents = sample_documents(answers, plan, job.tasks, _SAMPLES)
    except (JobError, ShardError, OSError) as error:  # the corpus may be gone; the answers are complete
        yield Text(f"no sample rows: {escape_line(explain(error))}", style="dim")
        return
    yield from highlighted(documents, _PASSAGE_LENGTH)


def query_hint(job: Job) -> Text:
    """Return the path of the data objects and a DuckDB query that reads them."""
    data = f"{job.sink.uri.rstrip('/')}/data/*.parquet"
    return Text(f'output        {data}\nquery         duckdb -c "{job.tasks[0].query(data)}"')
