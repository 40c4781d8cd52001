"""The functions that users call."""

import json

from rich.console import Console

from distilray.pipeline.commands.run import Result, execute
from distilray.pipeline.job.job import Job
from distilray.pipeline.terminal.modes import Mode
from distilray.pipeline.terminal.progress import show_progress
from distilray.pipeline.terminal.summary import figures, query_hint, samples, summary


def run(job: Job, *, quiet: bool = False, progress: Mode = "auto") -> Result:
    """Answers every row of the job's corpus once, or continues an earlier run of the same job.

    Shows its progress and a summary, unless `quiet`; progress: a live view, lines, JSON lines (and no other summary) or
    none, by itself what suits the terminal. Raises JobError, CheckpointError or BackendError before any work starts if the
    job cannot run, IncompleteError if rows got lost; after any exception, running again resumes.
    """
    console = Console(highlight=False, quiet=quiet)
    with show_progress(console, "none" if quiet else progress) as watch:
        result = execute(job, watch.start, watch.add)
    if progress == "json" and not quiet:
        console.out(json.dumps({"event": "result", **figures(result)}), highlight=False)
    elif not quiet:
        console.print(summary(result))
        for line in samples(result):
            console.print(line)
        console.print(query_hint(job), soft_wrap=True)
    return result
