"""The command line: every command is a few lines over the function that does it."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from distilray.deploy.errors import SubmitError, UnreachableError
from distilray.deploy.result import result_line
from distilray.model.checkpoint import Checkpoint
from distilray.model.convert import convert
from distilray.model.inspect import inspect
from distilray.operators.options import location
from distilray.pipeline.arguments import parser
from distilray.pipeline.budget import DeadLettersError
from distilray.pipeline.count import IncompleteError
from distilray.pipeline.errors import STOP_ERRORS, USER_ERRORS, FencedError, JobError
from distilray.pipeline.evaluate import evaluate
from distilray.pipeline.harmless import visible
from distilray.pipeline.job import load_job, parse_sink, parse_source
from distilray.pipeline.job_schema import job_schema
from distilray.pipeline.outlook import look_ahead
from distilray.pipeline.overrides import overridden
from distilray.pipeline.page import preview_page, report_page
from distilray.pipeline.parity import ParityError
from distilray.pipeline.preview import Preview, preview
from distilray.pipeline.progress import watching
from distilray.pipeline.remote import status, stop, submit
from distilray.pipeline.report import figures, run
from distilray.pipeline.retry import Retried, retry
from distilray.pipeline.tables import evaluation_table, model_table, plan_table, retried_table, verdict_table
from distilray.pipeline.terminal import dead_rows, highlighted
from distilray.pipeline.to_parquet import to_parquet
from distilray.pipeline.verify import verify

_PASSAGE = 300  # characters
UNFINISHED = 1
USER_ERROR = 2
INTERRUPTED = 130
_AGAIN = "what is committed is kept; run the same command again to go on"

_RESUMED = ("run", "retry")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 done, 1 stopped in the middle (run it again), 2 cannot be done as asked, 130 interrupted."""
    arguments = parser().parse_args(argv)
    try:
        return _COMMANDS[arguments.command](arguments, Console(highlight=False)) or 0
    except (*USER_ERRORS, SubmitError) as error:
        _complain(str(error))
        return USER_ERROR
    except (IncompleteError, DeadLettersError, ParityError, FencedError, UnreachableError) as error:
        _complain(str(error))
        return UNFINISHED
    except STOP_ERRORS as error:
        _complain(f"{error}" + (f"; {_AGAIN}" if arguments.command in _RESUMED else ""))
        return UNFINISHED
    except KeyboardInterrupt:
        _complain("stopped" + (f"; {_AGAIN}" if arguments.command in _RESUMED else ""))
        return INTERRUPTED
    except Exception as error:
        if arguments.command in _RESUMED:
            error.add_note(f"distilray: {_AGAIN}")
        raise


def _complain(text: str) -> None:
    """An error may quote a stranger's row, column or file name."""
    print(f"distilray: {visible(text)}", file=sys.stderr)


def _run(arguments: argparse.Namespace, _: Console) -> None:
    result = run(load_job(arguments.job, arguments.overrides), progress=arguments.progress)
    if arguments.result_line:
        print(result_line(figures(result)))


def _preview(arguments: argparse.Namespace, console: Console) -> None:
    found = preview(load_job(arguments.job, arguments.overrides), arguments.rows)
    if arguments.html:
        _write(console, arguments.html, preview_page(found))
    else:
        _print(console, found)


def _plan(arguments: argparse.Namespace, console: Console) -> None:
    job = load_job(arguments.job, arguments.overrides)
    outlook = look_ahead(job)
    _show(console, arguments, outlook.description(job.compute.price), plan_table(job, outlook))


def _evaluate(arguments: argparse.Namespace, console: Console) -> None:
    found = evaluate(load_job(arguments.job, arguments.overrides))
    _show(console, arguments, found, *(evaluation_table(name, each) for name, each in found.items()))


def _verify(arguments: argparse.Namespace, console: Console) -> int:
    verdict = verify(arguments.out, arguments.overrides, checksums=not arguments.quick)
    _show(console, arguments, verdict.description(), verdict_table(verdict))
    return 0 if verdict.ok else UNFINISHED


def _report(arguments: argparse.Namespace, console: Console) -> None:
    _write(console, arguments.to, report_page(arguments.out, arguments.overrides, arguments.rows))


def _retry(arguments: argparse.Namespace, console: Console) -> None:
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


def _to_parquet(arguments: argparse.Namespace, console: Console) -> None:
    given = arguments.overrides
    overridden({"source": {}, "sink": {}}, given, r"(source|sink)\.storage_options\b", "storage_options")
    source, sink = parse_source(arguments.source, given), parse_sink(arguments.out, given)
    done = to_parquet(source, sink, arguments.columns, arguments.format)
    said = f"{done.files} shards, {done.rows:,} rows in {sink.uri}; {done.new} shards are new"
    console.print(said, markup=False, soft_wrap=True)


def _schema(_: argparse.Namespace, __: Console) -> None:
    print(json.dumps(job_schema(), indent=2))


def _inspect(arguments: argparse.Namespace, console: Console) -> int:
    report = inspect(Checkpoint(_location(arguments.model)))
    console.print(model_table(report))
    return USER_ERROR if report.problems else 0


def _convert(arguments: argparse.Namespace, _: Console) -> None:
    convert(Checkpoint(_location(arguments.model)), _location(arguments.out), {})


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Console], int | None]] = {
    "run": _run,
    "preview": _preview,
    "plan": _plan,
    "evaluate": _evaluate,
    "submit": lambda arguments, _: submit(arguments),
    "status": lambda arguments, _: status(arguments),
    "stop": lambda arguments, _: stop(arguments),
    "verify": _verify,
    "report": _report,
    "retry": _retry,
    "to-parquet": _to_parquet,
    "schema": _schema,
    "inspect": _inspect,
    "convert": _convert,
}


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
