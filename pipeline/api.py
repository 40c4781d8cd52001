"""The function `run` of the Python API. It adds progress and a summary to `execute`."""

import json

from rich.console import Console

from distilray.pipeline.commands.run import Result, execute
from distilray.pipeline.job.job import Job
from distilray.pipeline.terminal.modes import Mode
from distilray.pipeline.terminal.progress import show_progress
from distilray.pipeline.terminal.summary import figures, query_hint, samples, summary


def run(job: Job, *, quiet: bool = False, progress: Mode = "auto") -> Result:
    """Answer every row of the job's corpus once, or resume an earlier run of the same job.

    quiet: whether to print nothing. Otherwise `run` prints the progress and a summary. progress: how to show the
    progress. "auto": live on a terminal, lines elsewhere. "live": a live view. "lines": plain lines. "json": JSON
    lines, which also replace the summary. "none": no progress. After any exception, the same call resumes the run.

    Raises JobError, TaskError, CheckpointError or BackendError before any work if the job cannot run, and
    IncompleteError if rows were lost. Raises the other errors of `execute` if a limit of the job is exceeded, or if the
    run must stop.
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
