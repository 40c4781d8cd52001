"""distilray run job.yaml, distilray plan job.yaml."""

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from distilray import __version__
from distilray.pipeline.commit import IncompleteError
from distilray.pipeline.errors import USER_ERRORS
from distilray.pipeline.job import Job, load_job
from distilray.pipeline.report import run
from distilray.pipeline.run import check_tasks, make_plan
from distilray.pipeline.sample import estimate_tokens
from distilray.pipeline.shards import survey

UNFINISHED = 1
USER_ERROR = 2
INTERRUPTED = 130
_AGAIN = "what is committed is kept; run the same command again to go on"


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="distilray", description="DistilBERT over text corpora of any size.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "answer every row of a corpus, or continue where an earlier run stopped"),
        ("plan", "say what a first run would do, from the footers and a sample; compute nothing"),
    ):
        command = commands.add_parser(name, help=text, description=f"{name}: {text}.")
        command.add_argument("job", help="the job as a YAML file")
        command.add_argument(
            "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE",
            help="override a key of the job, such as compute.engine=local or tasks.0.threshold=0.9; may be repeated",
        )  # fmt: skip
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 stopped in the middle (run it again), 2 the job cannot run as it is, 130 interrupted."""
    arguments = parser().parse_args(argv)
    try:
        job = load_job(arguments.job, arguments.overrides)
        if arguments.command == "plan":
            print_plan(job)
        else:
            run(job)
    except USER_ERRORS as error:
        print(f"distilray: {error}", file=sys.stderr)
        return USER_ERROR
    except IncompleteError as error:
        print(f"distilray: {error}", file=sys.stderr)
        return UNFINISHED
    except KeyboardInterrupt:
        print(f"distilray: stopped; {_AGAIN}", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        error.add_note(f"distilray: {_AGAIN}")
        raise
    return 0


def print_plan(job: Job) -> None:
    """Shards, rows, units and bytes from the footers, tokens from a sample."""
    check_tasks(job.tasks)
    here = job.model_copy(update={"compute": job.compute.model_copy(update={"engine": "local"})})  # start no cluster
    plan = make_plan(here, survey(job.source, job.inputs))
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row(
        "shards", f"{plan.shards:,}" + (f", {plan.dead_shards:,} of them unreadable" if plan.dead_shards else "")
    )
    table.add_row("rows", f"{plan.rows:,}")
    table.add_row("units", f"{len(plan.units):,}")
    table.add_row("bytes", f"{plan.bytes:,}, {plan.text_bytes:,} of text uncompressed")
    table.add_row("tokens", f"about {estimate_tokens(plan, job.tasks):,}")
    Console(highlight=False).print(table)


if __name__ == "__main__":
    sys.exit(main())
