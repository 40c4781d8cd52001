"""The commands and options of the command line, with their help texts."""

import argparse
from typing import TypeAlias

from distilray import __version__
from distilray.pipeline.corpus.file_names import ENDINGS
from distilray.pipeline.terminal.modes import MODES

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_MODEL = "a folder, a URI such as s3://models/ner/, or hf://org/name@revision"
_STORAGE = "sink.storage_options.endpoint_url=http://localhost:8333"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line. `command` of its result is the name of the command."""
    top = argparse.ArgumentParser(prog="distilray", description="Run DistilBERT over text corpora of any size.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)
    _add_job_commands(commands)
    _add_cluster_commands(commands)
    _add_output_commands(commands)
    _add_corpus_commands(commands)
    _add_checkpoint_commands(commands)
    return top


def _add_job_commands(commands: Commands) -> None:
    run = _add_job_command(commands, "run", "answer every row of a corpus, or resume an earlier run")
    _add_progress(run)
    run.add_argument(
        "--result-line", action="store_true",
        help="end with a line that has the prefix distilray-result and the figures of the output as JSON",
    )  # fmt: skip
    preview = _add_job_command(
        commands,
        "preview",
        "answer the first rows of a corpus in this process and show the answers; write nothing to the sink",
    )
    preview.add_argument("--rows", type=int, default=20, help="number of rows (default: %(default)s)")
    preview.add_argument(
        "--html", metavar="FILE", help="write an HTML page to FILE instead of showing the answers on the terminal"
    )
    plan = _add_job_command(
        commands,
        "plan",
        "forecast the work, time and cost of a first run, based on the footers of the shards, a sample of the rows "
        "and the rate of the device; write nothing to the sink",
    )
    _add_json(plan)
    evaluate = _add_job_command(
        commands,
        "evaluate",
        "compare the answers with the correct answers in the gold columns of the tasks; write nothing",
    )
    _add_json(evaluate)
    submit = _add_job_command(
        commands,
        "submit",
        "run a job on a Ray cluster, or attach to the job if the cluster already runs it; return the exit code of the run",
    )
    _add_cluster(submit)
    submit.add_argument("--no-wait", action="store_true", help="return as soon as the job is submitted")
    submit.add_argument(
        "--submission-id", metavar="ID",
        help="use ID instead of an id made from the job and the code; later attempts get the suffix -try2, -try3, ...",
    )  # fmt: skip
    _add_command(commands, "schema", "print the JSON schema of job files, for editors")


def _add_cluster_commands(commands: Commands) -> None:
    for name, text in (
        ("status", "show the status of a submitted job"),
        ("stop", "stop a submitted job; committed units are kept"),
    ):
        command = _add_command(commands, name, text)
        command.add_argument("id", metavar="ID", help="the id that submit printed")
        _add_cluster(command)
        if name == "status":
            _add_json(command)


def _add_output_commands(commands: Commands) -> None:
    verify = _add_output_command(
        commands,
        "verify",
        "check every object of an output against its plan; if there are problems, show what to do and return exit code 1",
        f"set a key of sink.storage_options, such as {_STORAGE}",
    )
    verify.add_argument("--quick", action="store_true", help="read only the columns shard and row")
    _add_json(verify)
    report = _add_output_command(
        commands,
        "report",
        "write an HTML page about an output: what ran, throughput, answers, dead letters and sample documents",
        "set a key of any storage_options, such as source.storage_options.anon=true",
    )
    report.add_argument(
        "--to", metavar="FILE", default="report.html", help="the file to write the page to (default: %(default)s)"
    )
    report.add_argument("--rows", type=int, default=8, help="number of sample documents (default: %(default)s)")
    retry = _add_output_command(
        commands,
        "retry",
        "process the dead letters of an output again, and no other rows",
        "override a key of compute or of any storage_options, such as compute.dtype=float32",
    )
    _add_progress(retry)


def _add_corpus_commands(commands: Commands) -> None:
    text = "convert JSON lines, CSV, plain text or Arrow files to the Parquet shards of a corpus"
    command = _add_command(commands, "to-parquet", text)
    command.add_argument("source", help="a folder, a glob or a file")
    command.add_argument(
        "out", help="the folder or URI to write the shards to, one for each file; existing shards are kept"
    )
    command.add_argument(
        "--columns", nargs="+", default=[], metavar="NAME[:TYPE]",
        help="the columns to read from JSON lines and CSV files, such as text year:int64 choices:list<string>; a column "
        "without a type is read as string",
    )  # fmt: skip
    command.add_argument("--format", choices=list(ENDINGS), help="format of the files, if their names do not show it")
    _add_set(command, "set a key of source.storage_options or sink.storage_options")


def _add_checkpoint_commands(commands: Commands) -> None:
    text = "show the properties and problems of a checkpoint; return exit code 2 if it has problems"
    _add_command(commands, "inspect", text).add_argument("model", help=_MODEL)
    text = "convert a checkpoint of any supported format to safetensors that Transformers loads"
    convert = _add_command(commands, "convert", text)
    convert.add_argument("model", help=_MODEL)
    convert.add_argument("out", help="the folder or URI to write to; it must be new or empty")


def _add_command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command. text: its help, which starts with a lower-case verb and has no period."""
    return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")


def _add_job_command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    command = _add_command(commands, name, text)
    command.add_argument("job", help="the job file: YAML, or JSON if its name ends in .json")
    _add_set(command, "override a key of the job, such as compute.engine=local or tasks.0.threshold=0.9")
    return command


def _add_output_command(commands: Commands, name: str, text: str, settable: str) -> argparse.ArgumentParser:
    """Add a command that reads an output. settable: the help of `--set`."""
    command = _add_command(commands, name, text)
    command.add_argument("out", help="the sink of a job: a folder, or a URI such as s3://bucket/answers/")
    _add_set(command, settable)
    return command


def _add_set(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=f"{text}; may be repeated"
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the result as JSON")


def _add_progress(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--progress", choices=MODES, default="auto",
        help="how to show progress. live: a view that is redrawn; lines: plain lines; json: JSON lines and no other output; "
        "none: the summary only; auto: live on a terminal, else lines (default: %(default)s)",
    )  # fmt: skip


def _add_cluster(command: argparse.ArgumentParser) -> None:
    text = "URL of the cluster's dashboard, such as http://head:8265 (default: RAY_API_SERVER_ADDRESS or RAY_ADDRESS)"
    command.add_argument("--address", metavar="URL", help=text)
    text = "how to check the certificate of an https address: true, false, or a file of certificate authorities"
    command.add_argument("--verify", default="true", metavar="HOW", help=f"{text} (default: %(default)s)")
