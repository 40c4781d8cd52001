"""The commands that take a job: run, preview, plan, evaluate, and schema.

They read the job first. The public functions of `pipeline` are imported after that, when they are called, so that an error
in a job costs no import of torch or Ray.
"""

import argparse
import json
from typing import TYPE_CHECKING

from rich.console import Console

from distilray import pipeline
from distilray.deploy.result import result_line
from distilray.pipeline.cli.show import show, write_page
from distilray.pipeline.job.job import load_job
from distilray.pipeline.job.json_schema import job_schema
from distilray.pipeline.report.preview_page import preview_page
from distilray.pipeline.terminal.summary import figures
from distilray.pipeline.terminal.tables import evaluation_table, plan_table
from distilray.pipeline.terminal.text import dead_rows, highlighted

if TYPE_CHECKING:
    from distilray.pipeline import Preview

_PASSAGE = 300  # characters


def run(arguments: argparse.Namespace, _: Console) -> None:
    """Answer every row of a corpus, or continue where an earlier run stopped."""
    job = load_job(arguments.job, arguments.overrides)
    result = pipeline.run(job, progress=arguments.progress)
    if arguments.result_line:
        print(result_line(figures(result)))


def preview(arguments: argparse.Namespace, console: Console) -> None:
    """Answer the first rows, and show them in the terminal or on a page."""
    job = load_job(arguments.job, arguments.overrides)
    answered = pipeline.preview(job, arguments.rows)
    if arguments.html:
        write_page(console, arguments.html, preview_page(answered))
    else:
        _print_preview(console, answered)


def plan(arguments: argparse.Namespace, console: Console) -> None:
    """Show what a first run would do, take and cost."""
    job = load_job(arguments.job, arguments.overrides)
    dry_run = pipeline.plan(job)
    show(console, arguments, dry_run.description(job.compute.price), plan_table(job, dry_run))


def evaluate(arguments: argparse.Namespace, console: Console) -> None:
    """Show losses and metrics of the tasks that name a gold column."""
    job = load_job(arguments.job, arguments.overrides)
    by_task = pipeline.evaluate(job)
    show(console, arguments, by_task, *(evaluation_table(name, each) for name, each in by_task.items()))


def schema(_: argparse.Namespace, __: Console) -> None:
    """Print the JSON schema of a job."""
    print(json.dumps(job_schema(), indent=2))


def _print_preview(console: Console, answered: "Preview") -> None:
    """Print the documents, then the dead rows, then the figures."""
    for line in (*highlighted(answered.documents, _PASSAGE), *dead_rows(answered.dead)):
        console.print(line)
    counts = f"{len(answered.documents):,} answered, {len(answered.dead):,} dead"
    effort = f"{answered.tokens:,} tokens, {answered.seconds:.1f} s"
    console.print(f"{answered.scope}: {counts}, {effort}, on {answered.backend}; nothing was written", markup=False)
