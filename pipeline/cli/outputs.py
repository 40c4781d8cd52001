"""The commands that take an output: verify, report, retry."""

import argparse
import json
from typing import TYPE_CHECKING

from rich.console import Console

from distilray import pipeline
from distilray.pipeline.cli.exit_codes import UNFINISHED
from distilray.pipeline.cli.show import show, write_page
from distilray.pipeline.report.output_page import report_page
from distilray.pipeline.terminal.progress import watching
from distilray.pipeline.terminal.tables import retried_table, verdict_table

if TYPE_CHECKING:
    from distilray.pipeline import Retried


def verify(arguments: argparse.Namespace, console: Console) -> int:
    """Check an output against its plan. The exit code is 1 if anything is wrong."""
    verdict = pipeline.verify(arguments.out, arguments.overrides, checksums=not arguments.quick)
    show(console, arguments, verdict.description(), verdict_table(verdict))
    return 0 if verdict.ok else UNFINISHED


def report(arguments: argparse.Namespace, console: Console) -> None:
    """Write the HTML page of an output."""
    write_page(console, arguments.to, report_page(arguments.out, arguments.overrides, arguments.rows))


def retry(arguments: argparse.Namespace, console: Console) -> None:
    """Answer dead letters again. The result is shown even if too many rows are dead for success."""
    done: list[Retried] = []
    try:
        with watching(console, arguments.progress) as watch:
            pipeline.retry(arguments.out, arguments.overrides, watch.start, watch.add, done.append)
    finally:
        for each in done:
            if arguments.progress == "json":
                console.out(json.dumps({"event": "result", "sink": arguments.out, **vars(each)}), highlight=False)
            else:
                console.print(retried_table(each))
