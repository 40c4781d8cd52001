"""distilray run, plan, evaluate: a job. distilray inspect, convert: a checkpoint."""

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console

from distilray import __version__
from distilray.model.checkpoint import Checkpoint
from distilray.model.convert import convert
from distilray.model.inspect import inspect
from distilray.operators.options import location
from distilray.pipeline.budget import DeadLettersError
from distilray.pipeline.commit import IncompleteError
from distilray.pipeline.errors import STOP_ERRORS, USER_ERRORS, FencedError, JobError
from distilray.pipeline.evaluate import evaluate
from distilray.pipeline.job import load_job
from distilray.pipeline.outlook import look_ahead
from distilray.pipeline.report import run
from distilray.pipeline.tables import evaluation_table, model_table, plan_table

UNFINISHED = 1
USER_ERROR = 2
INTERRUPTED = 130
_AGAIN = "what is committed is kept; run the same command again to go on"

_JOB_COMMANDS = (
    ("run", "answer every row of a corpus, or continue where an earlier run stopped"),
    ("plan", "say what a first run would do, take and cost, from the footers, a sample and the rate of the device"),
    ("evaluate", "compare the answers with the gold columns that the tasks name; write nothing"),
)


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
        if name in ("plan", "evaluate"):
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
    except (IncompleteError, DeadLettersError, FencedError) as error:
        print(f"distilray: {error}", file=sys.stderr)
        return UNFINISHED
    except STOP_ERRORS as error:
        print(f"distilray: {error}" + (f"; {_AGAIN}" if arguments.command == "run" else ""), file=sys.stderr)
        return UNFINISHED
    except KeyboardInterrupt:
        print(f"distilray: stopped; {_AGAIN}" if arguments.command == "run" else "distilray: stopped", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if arguments.command == "run":
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
            if arguments.json:
                print(json.dumps(outlook.description(job.compute.price), indent=2))
            else:
                console.print(plan_table(job, outlook))
        case "evaluate":
            figures = evaluate(load_job(arguments.job, arguments.overrides))
            if arguments.json:
                print(json.dumps(figures, indent=2))
            else:
                for name, each in figures.items():
                    console.print(evaluation_table(name, each))
        case "inspect":
            report = inspect(Checkpoint(_location(arguments.model)))
            console.print(model_table(report))
            return USER_ERROR if report.problems else 0
        case "convert":
            convert(Checkpoint(_location(arguments.model)), _location(arguments.out), {})
    return 0


def _location(uri: str) -> str:
    try:
        return location(uri)
    except ValueError as error:
        raise JobError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
