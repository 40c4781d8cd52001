"""The commands that read an output: verify, report, retry."""

import argparse
import json
from typing import TYPE_CHECKING

from rich.console import Console

from distilray import pipeline
from distilray.pipeline.cli.exit_codes import UNFINISHED
from distilray.pipeline.cli.show import show, write_page
from distilray.pipeline.report.output_page import report_page
from distilray.pipeline.terminal.progress import show_progress
from distilray.pipeline.terminal.tables import retried_table, verdict_table

if TYPE_CHECKING:
    from distilray.pipeline import Retried


def verify(arguments: argparse.Namespace, console: Console) -> int:
    """Check an output against its plan. The exit code is 1 if the check finds a problem."""
    verdict = pipeline.verify(arguments.out, arguments.overrides, checksums=not arguments.quick)
    show(console, arguments, verdict.description(), verdict_table(verdict))
    return 0 if verdict.ok else UNFINISHED


def report(arguments: argparse.Namespace, console: Console) -> None:
    """Write the HTML report of an output to a file."""
    write_page(console, arguments.to, report_page(arguments.out, arguments.overrides, arguments.rows))


def retry(arguments: argparse.Namespace, console: Console) -> None:
    """Retry dead letters. The result is shown even if the number of dead letters exceeds the limit."""
    results: list[Retried] = []
    try:
        with show_progress(console, arguments.progress) as progress:
            pipeline.retry(arguments.out, arguments.overrides, progress.start, progress.add, results.append)
    finally:
        for retried in results:
            if arguments.progress == "json":
                console.out(json.dumps({"event": "result", "sink": arguments.out, **vars(retried)}), highlight=False)
            else:
                console.print(retried_table(retried))
