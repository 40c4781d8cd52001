"""The words of the command line."""

import argparse
from typing import TypeAlias

from distilray import __version__
from distilray.pipeline.corpus.file_names import ENDINGS
from distilray.pipeline.terminal.modes import MODES

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_MODEL = "a folder, a URI such as s3://models/ner/, or hf://org/name@revision"
_STORAGE = "sink.storage_options.endpoint_url=http://localhost:8333"


def parser() -> argparse.ArgumentParser:
    """The whole command line; `command` of what it parses is the name of one of them."""
    top = argparse.ArgumentParser(prog="distilray", description="DistilBERT over text corpora of any size.")
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True)
    for add in (_of_jobs, _of_submitted_jobs, _of_outputs, _of_corpora, _of_checkpoints):
        add(commands)
    return top


def _of_jobs(commands: Commands) -> None:
    run = _job(commands, "run", "answer every row of a corpus, or continue where an earlier run stopped")
    _add_progress(run)
    run.add_argument(
        "--result-line", action="store_true",
        help="end with one line of JSON, marked distilray-result: the figures of the output",
    )  # fmt: skip
    preview = _job(commands, "preview", "answer the first rows of a corpus here and now, show them, and write nothing")
    preview.add_argument("--rows", type=int, default=20, help="how many rows (default: %(default)s)")
    preview.add_argument("--html", metavar="FILE", help="write a page instead of showing them in the terminal")
    plan = _job(
        commands,
        "plan",
        "say what a first run would do, take and cost, from the footers, a sample and the rate of the device",
    )
    _add_json(plan)
    judge = _job(commands, "evaluate", "compare the answers with the gold columns that the tasks name; write nothing")
    _add_json(judge)
    submit = _job(
        commands, "submit", "run it on a Ray cluster, or attach to it if it runs there already; exit code of the run"
    )
    _add_cluster(submit)
    submit.add_argument("--no-wait", action="store_true", help="return as soon as it is submitted")
    submit.add_argument(
        "--submission-id", metavar="ID",
        help="instead of one made from the job and the code; further attempts have -try2, -try3, ... at its end",
    )  # fmt: skip
    _command(commands, "schema", "print the JSON schema of a job's file, for editors")


def _of_submitted_jobs(commands: Commands) -> None:
    for name, text in (
        ("status", "say how a submitted job is"),
        ("stop", "end a submitted job; what it has committed is kept"),
    ):
        command = _command(commands, name, text)
        command.add_argument("id", metavar="ID", help="what submit has printed")
        _add_cluster(command)
        if name == "status":
            _add_json(command)


def _of_outputs(commands: Commands) -> None:
    verify = _output(
        commands,
        "verify",
        "check an output, every object of it, against its plan; exit code 1 and what to do if anything is wrong",
        f"set a key of sink.storage_options, such as {_STORAGE}",
    )
    verify.add_argument("--quick", action="store_true", help="read only the columns shard and row")
    _add_json(verify)
    report = _output(
        commands,
        "report",
        "write one HTML page of an output: what ran, how fast, what came out, what is dead, and sample documents",
        "set a key of any storage_options, such as source.storage_options.anon=true",
    )
    report.add_argument("--to", metavar="FILE", default="report.html", help="the page (default: %(default)s)")
    report.add_argument("--rows", type=int, default=8, help="sample documents (default: %(default)s)")
    retry = _output(
        commands,
        "retry",
        "answer the dead letters of an output again, and nothing else",
        "override a key of compute or of any storage_options, such as compute.dtype=float32",
    )
    _add_progress(retry)


def _of_corpora(commands: Commands) -> None:
    text = "write JSON lines, CSV, plain text or Arrow files as the Parquet shards of a corpus"
    command = _command(commands, "to-parquet", text)
    command.add_argument("source", help="a folder, a glob or a file")
    command.add_argument("out", help="the folder or URI that gets a shard for each file; what is there already is kept")
    command.add_argument(
        "--columns", nargs="+", default=[], metavar="NAME[:TYPE]",
        help="what JSON lines and CSV hold, as strings or as said, such as text year:int64 choices:list<string>",
    )  # fmt: skip
    command.add_argument("--format", choices=list(ENDINGS), help="the format, if the files' names do not tell it")
    _add_set(command, "set a key of source.storage_options or sink.storage_options")


def _of_checkpoints(commands: Commands) -> None:
    _command(commands, "inspect", "say what a checkpoint is, and what is wrong with it").add_argument(
        "model", help=_MODEL
    )
    text = "write a checkpoint of any format as safetensors that Transformers loads"
    convert = _command(commands, "convert", text)
    convert.add_argument("model", help=_MODEL)
    convert.add_argument("out", help="the folder or URI to write to; nothing in it is overwritten")


def _command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=text, description=f"{name}: {text}.")


def _job(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    command = _command(commands, name, text)
    command.add_argument("job", help="the job as a YAML file, or a JSON file if it ends in .json")
    _add_set(command, "override a key of the job, such as compute.engine=local or tasks.0.threshold=0.9")
    return command


def _output(commands: Commands, name: str, text: str, settable: str) -> argparse.ArgumentParser:
    command = _command(commands, name, text)
    command.add_argument("out", help="the sink of a job: a folder, or a URI such as s3://bucket/answers/")
    _add_set(command, settable)
    return command


def _add_set(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=f"{text}; may be repeated"
    )


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON, for programs")


def _add_progress(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--progress", choices=MODES, default="auto",
        help="how to show it: a live view, plain lines, JSON lines (nothing else is printed then) or not at all; "
        "auto: live on a terminal, else lines",
    )  # fmt: skip


def _add_cluster(command: argparse.ArgumentParser) -> None:
    text = "of the cluster's dashboard, such as http://head:8265; else RAY_API_SERVER_ADDRESS or RAY_ADDRESS"
    command.add_argument("--address", metavar="URL", help=text)
    text = "true, false, or a file of certificate authorities: how the certificate of an https address is checked"
    command.add_argument("--verify", default="true", metavar="HOW", help=text)
