"""distilray run, plan, evaluate, submit: a job. distilray verify, retry: an output. distilray status, stop: a submitted
job. distilray inspect, convert: a checkpoint. distilray to-parquet: a corpus. distilray schema: of a job's file."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from distilray import __version__
from distilray.deploy.errors import SubmitError, UnreachableError
from distilray.deploy.result import result_line
from distilray.model.checkpoint import Checkpoint
from distilray.model.convert import convert
from distilray.model.inspect import inspect
from distilray.operators.options import location
from distilray.pipeline.budget import DeadLettersError
from distilray.pipeline.count import IncompleteError
from distilray.pipeline.errors import STOP_ERRORS, USER_ERRORS, FencedError, JobError
from distilray.pipeline.evaluate import evaluate
from distilray.pipeline.formats import ENDINGS
from distilray.pipeline.job import load_job, parse_sink, parse_source
from distilray.pipeline.job_schema import job_schema
from distilray.pipeline.outlook import look_ahead
from distilray.pipeline.overrides import overridden
from distilray.pipeline.parity import ParityError
from distilray.pipeline.progress import MODES, watching
from distilray.pipeline.remote import add_cluster, status, stop, submit
from distilray.pipeline.report import figures, run
from distilray.pipeline.retry import Retried, retry
from distilray.pipeline.tables import evaluation_table, model_table, plan_table, retried_table, verdict_table
from distilray.pipeline.to_parquet import to_parquet
from distilray.pipeline.verify import verify

UNFINISHED = 1
USER_ERROR = 2
INTERRUPTED = 130
_AGAIN = "what is committed is kept; run the same command again to go on"

_RESUMED = ("run", "retry")
_JOB_COMMANDS = (
    ("run", "answer every row of a corpus, or continue where an earlier run stopped"),
    ("plan", "say what a first run would do, take and cost, from the footers, a sample and the rate of the device"),
    ("evaluate", "compare the answers with the gold columns that the tasks name; write nothing"),
    ("submit", "run it on a Ray cluster, or attach to it if it runs there already; exit code of the run"),
)
_SUBMITTED_COMMANDS = (
    ("status", "say how a submitted job is"),
    ("stop", "end a submitted job; what it has committed is kept"),
)
_OUTPUT_COMMANDS = (
    (
        "verify",
        "check an output, every object of it, against its plan; exit code 1 and what to do if anything is wrong",
    ),
    ("retry", "answer the dead letters of an output again, and nothing else"),
)
_SETTABLE = {
    "verify": "set a key of sink.storage_options, such as sink.storage_options.endpoint_url=http://localhost:8333; may be repeated",
    "retry": "override a key of compute or of any storage_options, such as compute.dtype=float32; may be repeated",
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="distilray", description="DistilBERT over text corpora of any size.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, text in _JOB_COMMANDS:
        command = commands.add_parser(name, help=text, description=f"{name}: {text}.")
        command.add_argument("job", help="the job as a YAML file, or a JSON file if it ends in .json")
        command.add_argument(
            "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
            help="override a key of the job, such as compute.engine=local or tasks.0.threshold=0.9; may be repeated",
        )  # fmt: skip
        if name in ("plan", "evaluate"):
            command.add_argument("--json", action="store_true", help="print JSON instead of a table")
        if name == "run":
            _add_progress(command)
            command.add_argument(
                "--result-line", action="store_true",
                help="end with one line of JSON, marked distilray-result: the figures of the output",
            )  # fmt: skip
        if name == "submit":
            add_cluster(command)
            command.add_argument("--no-wait", action="store_true", help="return as soon as it is submitted")
            command.add_argument(
                "--submission-id", metavar="ID",
                help="instead of one made from the job and the code; further attempts have -try2, -try3, ... at its end",
            )  # fmt: skip
    for name, text in _SUBMITTED_COMMANDS:
        command = commands.add_parser(name, help=text, description=f"{name}: {text}.")
        command.add_argument("id", metavar="ID", help="what submit has printed")
        add_cluster(command)
        if name == "status":
            command.add_argument("--json", action="store_true", help="print JSON instead of a line")
    for name, text in _OUTPUT_COMMANDS:
        command = commands.add_parser(name, help=text, description=f"{name}: {text}.")
        command.add_argument("out", help="the sink of a job: a folder, or a URI such as s3://bucket/answers/")
        command.add_argument(
            "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
            help=_SETTABLE[name],
        )  # fmt: skip
        if name == "verify":
            command.add_argument("--quick", action="store_true", help="read only the columns shard and row")
            command.add_argument("--json", action="store_true", help="print JSON instead of a table")
        if name == "retry":
            _add_progress(command)
    text = "write JSON lines, CSV, plain text or Arrow files as the Parquet shards of a corpus"
    command = commands.add_parser("to-parquet", help=text, description=f"to-parquet: {text}.")
    command.add_argument("source", help="a folder, a glob or a file")
    command.add_argument("out", help="the folder or URI that gets a shard for each file; what is there already is kept")
    command.add_argument(
        "--columns", nargs="+", default=[], metavar="NAME[:TYPE]",
        help="what JSON lines and CSV hold, as strings or as said, such as text year:int64 choices:list<string>",
    )  # fmt: skip
    command.add_argument("--format", choices=list(ENDINGS), help="the format, if the files' names do not tell it")
    command.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
        help="set a key of source.storage_options or sink.storage_options; may be repeated",
    )  # fmt: skip
    text = "print the JSON schema of a job's file, for editors"
    commands.add_parser("schema", help=text, description=f"schema: {text}.")
    text = "say what a checkpoint is, and what is wrong with it"
    command = commands.add_parser("inspect", help=text, description=f"inspect: {text}.")
    command.add_argument("model", help="a folder, a URI such as s3://models/ner/, or hf://org/name@revision")
    text = "write a checkpoint of any format as safetensors that Transformers loads"
    command = commands.add_parser("convert", help=text, description=f"convert: {text}.")
    command.add_argument("model", help="a folder, a URI such as s3://models/ner/, or hf://org/name@revision")
    command.add_argument("out", help="the folder or URI to write to; nothing in it is overwritten")
    return top


def _add_progress(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--progress", choices=MODES, default="auto",
        help="how to show it: a live view, plain lines, JSON lines (nothing else is printed then) or not at all; "
        "auto: live on a terminal, else lines",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 stopped in the middle (run it again), 2 cannot be done as asked, 130 interrupted."""
    arguments = parser().parse_args(argv)
    try:
        return _do(arguments)
    except (*USER_ERRORS, SubmitError) as error:
        print(f"distilray: {error}", file=sys.stderr)
        return USER_ERROR
    except (IncompleteError, DeadLettersError, ParityError, FencedError, UnreachableError) as error:
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
            result = run(load_job(arguments.job, arguments.overrides), progress=arguments.progress)
            if arguments.result_line:
                print(result_line(figures(result)))
        case "submit" | "status" | "stop":
            return {"submit": submit, "status": status, "stop": stop}[arguments.command](arguments)
        case "plan":
            job = load_job(arguments.job, arguments.overrides)
            outlook = look_ahead(job)
            _show(console, arguments, outlook.description(job.compute.price), plan_table(job, outlook))
        case "evaluate":
            found = evaluate(load_job(arguments.job, arguments.overrides))
            _show(console, arguments, found, *(evaluation_table(name, each) for name, each in found.items()))
        case "verify":
            verdict = verify(arguments.out, arguments.overrides, checksums=not arguments.quick)
            _show(console, arguments, verdict.description(), verdict_table(verdict))
            return 0 if verdict.ok else UNFINISHED
        case "retry":
            _retry(console, arguments)
        case "to-parquet":
            given = arguments.overrides
            overridden({"source": {}, "sink": {}}, given, r"(source|sink)\.storage_options\b", "storage_options")
            source, sink = parse_source(arguments.source, given), parse_sink(arguments.out, given)
            done = to_parquet(source, sink, arguments.columns, arguments.format)
            console.print(f"{done.files} shards, {done.rows:,} rows in {sink.uri}; {done.new} shards are new")
        case "schema":
            print(json.dumps(job_schema(), indent=2))
        case "inspect":
            report = inspect(Checkpoint(_location(arguments.model)))
            console.print(model_table(report))
            return USER_ERROR if report.problems else 0
        case "convert":
            convert(Checkpoint(_location(arguments.model)), _location(arguments.out), {})
    return 0


def _retry(console: Console, arguments: argparse.Namespace) -> None:
    """Says what became of the rows, even if there are too many dead ones for success."""
    done: list[Retried] = []
    try:
        with watching(console, arguments.progress) as watch:
            retry(arguments.out, arguments.overrides, watch.start, watch.add, done.append)
    finally:
        for each in done:
            if arguments.progress == "json":
                console.out(json.dumps({"event": "result", "sink": arguments.out, **vars(each)}), highlight=False)
            else:
                console.print(retried_table(each))


def _show(console: Console, arguments: argparse.Namespace, said: dict[str, Any], *tables: Table) -> None:
    """Plain data if the user asked for JSON, else tables."""
    if arguments.json:
        print(json.dumps(said, indent=2))
        return
    for table in tables:
        console.print(table)


def _location(uri: str) -> str:
    try:
        return location(uri)
    except ValueError as error:
        raise JobError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
