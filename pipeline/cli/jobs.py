"""The commands that take a job: run, preview, plan, evaluate, and schema.

Each command reads the job first, and only then imports the public function of `pipeline` that it calls. A command whose
job has an error therefore imports neither torch nor Ray.
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
from distilray.pipeline.terminal.text import dead_letter_lines, highlighted

if TYPE_CHECKING:
    from distilray.pipeline import Preview

_PASSAGE_LENGTH = 300  # characters


def run(arguments: argparse.Namespace, _: Console) -> None:
    """Answer every row of a corpus, or resume an earlier run."""
    job = load_job(arguments.job, arguments.overrides)
    result = pipeline.run(job, progress=arguments.progress)
    if arguments.result_line:
        print(result_line(figures(result)))


def preview(arguments: argparse.Namespace, console: Console) -> None:
    """Answer the first rows of a corpus and show them in the terminal or on a page."""
    job = load_job(arguments.job, arguments.overrides)
    result = pipeline.preview(job, arguments.rows)
    if arguments.html:
        write_page(console, arguments.html, preview_page(result))
    else:
        _print_preview(console, result)


def plan(arguments: argparse.Namespace, console: Console) -> None:
    """Show the work, time and cost that a first run is expected to need."""
    job = load_job(arguments.job, arguments.overrides)
    dry_run = pipeline.plan(job)
    show(console, arguments, dry_run.description(job.compute.price), plan_table(job, dry_run))


def evaluate(arguments: argparse.Namespace, console: Console) -> None:
    """Show the losses and metrics of the tasks that name a gold column."""
    job = load_job(arguments.job, arguments.overrides)
    metrics = pipeline.evaluate(job)
    show(console, arguments, metrics, *(evaluation_table(task, values) for task, values in metrics.items()))


def schema(_: argparse.Namespace, __: Console) -> None:
    """Print the JSON schema of job files."""
    print(json.dumps(job_schema(), indent=2))


def _print_preview(console: Console, preview: "Preview") -> None:
    """Print the documents, then the dead letters, then one line of counts."""
    for line in (*highlighted(preview.documents, _PASSAGE_LENGTH), *dead_letter_lines(preview.dead)):
        console.print(line)
    counts = f"{len(preview.documents):,} answered, {len(preview.dead):,} dead letters"
    work = f"{preview.tokens:,} tokens, {preview.seconds:.1f} s"
    console.print(f"{preview.scope}: {counts}, {work}, on {preview.backend}; nothing was written", markup=False)
