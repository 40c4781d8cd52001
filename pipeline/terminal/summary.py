"""What a person sees: how far the run is, then a short summary."""

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
from distilray.pipeline.terminal.text import highlighted, plainly

if TYPE_CHECKING:  # commands that only show results import no torch
    from distilray.pipeline.commands.run import Result

_SNIPPET = 220  # characters
_SAMPLES = 5


_OF_OUTPUT = ("fingerprint", "shards", "padding", "truncated", "labels", "backends")
_COUNTED = ("units", "rows", "dead", "tokens", "computed_tokens")


def figures(result: "Result") -> dict[str, Any]:
    """The figures of the whole output as its manifest has them, and what this run did, as plain data of a few lines."""
    computed, timing = asdict(result.computed), result.account["timing"]
    return {
        "sink": result.job.sink.uri,
        **{name: result.manifest[name] for name in (*_OF_OUTPUT, *_COUNTED)},
        "this_run": {"seconds": result.seconds, **{name: computed[name] for name in _COUNTED}},
        "bottleneck": timing["bottleneck"],
        "advice": timing["advice"],
    }


def summary(result: "Result") -> Table:
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
        table.add_row(name, plainly(words))
    table.add_row("backend", plainly("; ".join(manifest["backends"])))
    table.add_row("padding", f"{manifest['padding']:,} of {manifest['computed_tokens']:,} computed tokens")
    for name, counts in manifest["labels"].items():
        table.add_row(name, plainly(_counts(counts)))
    table.add_row("dead letters", plainly(_counts(manifest["dead"])))
    for name, rows in manifest["truncated"].items():
        if rows:
            table.add_row("truncated", f"{name}: {rows:,} rows were cut, as the task asks for")
    return table


def _account(result: "Result") -> Iterator[tuple[str, str]]:
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


def samples(result: "Result") -> Iterator[Text]:
    """A few answered rows: a passage of each with its entities in colour, and the answers of other tasks."""
    job, plan = result.job, result.plan
    try:
        heads = sample_answers(open_output(job.sink), plan.units, job.tasks, _SAMPLES)
        found = sample_documents(heads, plan, job.tasks, _SAMPLES)
    except (JobError, ShardError, OSError) as error:  # the corpus may be gone by now; the answers are there
        yield Text(f"no sample rows: {escape_line(explain(error))}", style="dim")
        return
    yield from highlighted(found, _SNIPPET)


def where_to_look(job: Job) -> Text:
    """Where the output lies and a query for it."""
    data = f"{job.sink.uri.rstrip('/')}/data/*.parquet"
    return Text(f'output        {data}\nquery         duckdb -c "{job.tasks[0].query(data)}"')
