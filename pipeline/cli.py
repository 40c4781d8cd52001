"""distilray run, preview, plan, evaluate: a job. distilray verify, report, retry: an output. distilray inspect, convert: a checkpoint."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from distilray import __version__
from distilray.model.checkpoint import Checkpoint
from distilray.model.convert import convert
from distilray.model.inspect import inspect
from distilray.operators.options import location
from distilray.pipeline.budget import DeadLettersError
from distilray.pipeline.count import IncompleteError
from distilray.pipeline.errors import STOP_ERRORS, USER_ERRORS, FencedError, JobError
from distilray.pipeline.evaluate import evaluate
from distilray.pipeline.job import load_job
from distilray.pipeline.outlook import look_ahead
from distilray.pipeline.page import preview_page, report_page
from distilray.pipeline.parity import ParityError
from distilray.pipeline.preview import Preview, preview
from distilray.pipeline.report import progress, run
from distilray.pipeline.retry import retry
from distilray.pipeline.tables import evaluation_table, model_table, plan_table, retried_table, verdict_table
from distilray.pipeline.terminal import dead_rows, highlighted
from distilray.pipeline.verify import verify

_PASSAGE = 300  # characters
UNFINISHED = 1
USER_ERROR = 2
INTERRUPTED = 130
_AGAIN = "what is committed is kept; run the same command again to go on"

_RESUMED = ("run", "retry")
_JOB_COMMANDS = (
    ("run", "answer every row of a corpus, or continue where an earlier run stopped"),
    ("preview", "answer the first rows of a corpus here and now, show them, and write nothing"),
    ("plan", "say what a first run would do, take and cost, from the footers, a sample and the rate of the device"),
    ("evaluate", "compare the answers with the gold columns that the tasks name; write nothing"),
)
_OUTPUT_COMMANDS = (
    (
        "verify",
        "check an output, every object of it, against its plan; exit code 1 and what to do if anything is wrong",
    ),
    (
        "report",
        "write one HTML page of an output: what ran, how fast, what came out, what is dead, and sample documents",
    ),
    ("retry", "answer the dead letters of an output again, and nothing else"),
)
_SETTABLE = {
    "verify": "set a key of sink.storage_options, such as sink.storage_options.endpoint_url=http://localhost:8333; may be repeated",
    "report": "set a key of any storage_options, such as source.storage_options.anon=true; may be repeated",
    "retry": "override a key of compute or of any storage_options, such as compute.dtype=float32; may be repeated",
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="distilray", description="DistilBERT over text corpora of any size.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, text in _JOB_COMMANDS:
        command = commands.add_parser(name, help=text, description=f"{name}: {text}.")
        command.add_argument("job", help="the job as a YAML file")
        command.add_argument(
            "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
            help="override a key of the job, such as compute.engine=local or tasks.0.threshold=0.9; may be repeated",
        )  # fmt: skip
        if name == "preview":
            command.add_argument("--rows", type=int, default=20, help="how many rows (default: %(default)s)")
            command.add_argument("--html", metavar="FILE", help="write a page instead of showing them in the terminal")
        if name in ("plan", "evaluate"):
            command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    for name, text in _OUTPUT_COMMANDS:
        command = commands.add_parser(name, help=text, description=f"{name}: {text}.")
        command.add_argument("out", help="the sink of a job: a folder, or a URI such as s3://bucket/answers/")
        command.add_argument(
            "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
            help=_SETTABLE[name],
        )  # fmt: skip
        if name == "report":
            command.add_argument("--to", metavar="FILE", default="report.html", help="the page (default: %(default)s)")
            command.add_argument("--rows", type=int, default=8, help="sample documents (default: %(default)s)")
        if name == "verify":
            command.add_argument("--quick", action="store_true", help="read only the columns shard and row")
            command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    text = "say what a checkpoint is, and what is wrong with it"
    command = commands.add_parser("inspect", help=text, description=f"inspect: {text}.")
    command.add_argument("model", help="a folder, a URI such as s3://models/ner/, or hf://org/name@revision")
    text = "write a checkpoint of any format as safetensors that Transformers loads"
    command = commands.add_parser("convert", help=text, description=f"convert: {text}.")
    command.add_argument("model", help="a folder, a URI such as s3://models/ner/, or hf://org/name@revision")
    command.add_argument("out", help="the folder or URI to write to; nothing in it is overwritten")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 stopped in the middle (run it again), 2 cannot be done as asked, 130 interrupted."""
    arguments = parser().parse_args(argv)
    try:
        return _do(arguments)
    except USER_ERRORS as error:
        print(f"distilray: {error}", file=sys.stderr)
        return USER_ERROR
    except (IncompleteError, DeadLettersError, ParityError, FencedError) as error:
        print(f"distilray: {error}", file=sys.stderr)
        return UNFINISHED
    except STOP_ERRORS as error:
        print(f"distilray: {error}" + (f"; {_AGAIN}" if arguments.command in _RESUMED else ""), file=sys.stderr)
        return UNFINISHED
    except KeyboardInterrupt:
        print(
            f"distilray: stopped; {_AGAIN}" if arguments.command in _RESUMED else "distilray: stopped", file=sys.stderr
        )
        return INTERRUPTED
    except Exception as error:
        if arguments.command in _RESUMED:
            error.add_note(f"distilray: {_AGAIN}")
        raise


def _do(arguments: argparse.Namespace) -> int:
    console = Console(highlight=False)
    match arguments.command:
        case "run":
            run(load_job(arguments.job, arguments.overrides))
        case "plan":
            job = load_job(arguments.job, arguments.overrides)
            outlook = look_ahead(job)
            _show(console, arguments, outlook.description(job.compute.price), plan_table(job, outlook))
        case "preview":
            found = preview(load_job(arguments.job, arguments.overrides), arguments.rows)
            if arguments.html:
                _write(console, arguments.html, preview_page(found))
            else:
                _print(console, found)
        case "evaluate":
            figures = evaluate(load_job(arguments.job, arguments.overrides))
            _show(console, arguments, figures, *(evaluation_table(name, each) for name, each in figures.items()))
        case "verify":
            verdict = verify(arguments.out, arguments.overrides, checksums=not arguments.quick)
            _show(console, arguments, verdict.description(), verdict_table(verdict))
            return 0 if verdict.ok else UNFINISHED
        case "report":
            _write(console, arguments.to, report_page(arguments.out, arguments.overrides, arguments.rows))
        case "retry":
            with progress(console) as (_, on_unit):
                retry(arguments.out, arguments.overrides, on_unit, lambda done: console.print(retried_table(done)))
        case "inspect":
            report = inspect(Checkpoint(_location(arguments.model)))
            console.print(model_table(report))
            return USER_ERROR if report.problems else 0
        case "convert":
            convert(Checkpoint(_location(arguments.model)), _location(arguments.out), {})
    return 0


def _show(console: Console, arguments: argparse.Namespace, said: dict[str, Any], *tables: Table) -> None:
    """Plain data if the user asked for JSON, else tables."""
    if arguments.json:
        print(json.dumps(said, indent=2))
        return
    for table in tables:
        console.print(table)


def _print(console: Console, found: Preview) -> None:
    """Documents, then dead rows."""
    for line in (*highlighted(found.documents, _PASSAGE), *dead_rows(found.dead)):
        console.print(line)
    figures = (
        f"{len(found.documents):,} answered, {len(found.dead):,} dead, {found.tokens:,} tokens, {found.seconds:.1f} s"
    )
    console.print(f"{found.scope}: {figures}, on {found.backend}; nothing was written", markup=False)


def _write(console: Console, file: str, page: str) -> None:
    """The page to a file of this machine."""
    try:
        Path(file).write_text(page, encoding="utf-8")
    except OSError as error:
        raise JobError(f"cannot write {file}: {error.strerror}") from None
    console.print(f"wrote {file}, {len(page.encode()):,} bytes", markup=False, soft_wrap=True)


def _location(uri: str) -> str:
    try:
        return location(uri)
    except ValueError as error:
        raise JobError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
