"""The commands that take a corpus in another format or a checkpoint: to-parquet, inspect, convert."""

import argparse

from rich.console import Console

from distilray.model.checkpoint.checkpoint import Checkpoint
from distilray.model.checkpoint.convert import convert as convert_checkpoint
from distilray.model.inspect import inspect as inspect_checkpoint
from distilray.operators.tasks.options import location
from distilray.pipeline.cli.exit_codes import USER_ERROR
from distilray.pipeline.commands.to_parquet import to_parquet as convert_corpus
from distilray.pipeline.errors import JobError
from distilray.pipeline.job.job import parse_sink, parse_source
from distilray.pipeline.job.overrides import overridden
from distilray.pipeline.terminal.tables import model_table


def to_parquet(arguments: argparse.Namespace, console: Console) -> None:
    """Write JSON lines, CSV, plain text or Arrow files as Parquet shards."""
    overrides = arguments.overrides
    overridden({"source": {}, "sink": {}}, overrides, r"(source|sink)\.storage_options\b", "storage_options")
    source, sink = parse_source(arguments.source, overrides), parse_sink(arguments.out, overrides)
    done = convert_corpus(source, sink, arguments.columns, arguments.format)
    line = f"{done.files} shards, {done.rows:,} rows in {sink.uri}; {done.new} shards are new"
    console.print(line, markup=False, soft_wrap=True)


def inspect(arguments: argparse.Namespace, console: Console) -> int:
    """Show what a checkpoint is. The exit code is 2 if it has problems."""
    report = inspect_checkpoint(Checkpoint(_location(arguments.model)))
    console.print(model_table(report))
    return USER_ERROR if report.problems else 0


def convert(arguments: argparse.Namespace, _: Console) -> None:
    """Write a checkpoint of any format as safetensors."""
    convert_checkpoint(Checkpoint(_location(arguments.model)), _location(arguments.out), {})


def _location(uri: str) -> str:
    try:
        return location(uri)
    except ValueError as error:
        raise JobError(str(error)) from None
