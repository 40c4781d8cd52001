"""The commands that read files of other formats: to-parquet for corpora, inspect and convert for checkpoints."""

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
from distilray.pipeline.job.overrides import override_keys
from distilray.pipeline.terminal.tables import model_table


def to_parquet(arguments: argparse.Namespace, console: Console) -> None:
    """Convert JSON lines, CSV, plain text or Arrow files to Parquet shards."""
    overrides = arguments.overrides
    override_keys({"source": {}, "sink": {}}, overrides, r"(source|sink)\.storage_options\b", "storage_options")
    source, sink = parse_source(arguments.source, overrides), parse_sink(arguments.out, overrides)
    converted = convert_corpus(source, sink, arguments.columns, arguments.format)
    line = f"{converted.files} shards, {converted.rows:,} rows in {sink.uri}; {converted.new} of the shards are new"
    console.print(line, markup=False, soft_wrap=True)


def inspect(arguments: argparse.Namespace, console: Console) -> int:
    """Show the properties and problems of a checkpoint. The exit code is 2 if it has problems."""
    inspected = inspect_checkpoint(Checkpoint(_location(arguments.model)))
    console.print(model_table(inspected))
    return USER_ERROR if inspected.problems else 0


def convert(arguments: argparse.Namespace, _: Console) -> None:
    """Convert a checkpoint of any supported format to safetensors."""
    convert_checkpoint(Checkpoint(_location(arguments.model)), _location(arguments.out), {})


def _location(uri: str) -> str:
    """Check and return the location of a checkpoint. Raises JobError if it is not a valid path or URI."""
    try:
        return location(uri)
    except ValueError as error:
        raise JobError(str(error)) from None
