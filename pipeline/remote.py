"""distilray submit, status, stop: a job on a Ray cluster that is reached over HTTP."""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from distilray.deploy.errors import SubmitError
from distilray.deploy.follow import Tail
from distilray.deploy.jobs_api import Cluster, RayJob
from distilray.deploy.submission import prepare, start
from distilray.pipeline.job import Job, load_job

_INTERRUPTED = 130
_ADDRESS = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


def add_cluster(command: argparse.ArgumentParser) -> None:
    """The options that say which cluster."""
    text = "of the cluster's dashboard, such as http://head:8265; else RAY_API_SERVER_ADDRESS or RAY_ADDRESS"
    command.add_argument("--address", metavar="URL", help=text)
    text = "true, false, or a file of certificate authorities: how the certificate of an https address is checked"
    command.add_argument("--verify", default="true", metavar="HOW", help=text)


def submit(arguments: argparse.Namespace) -> int:
    """Sends a job, or attaches to it; the exit code of its command. The log goes to the standard output."""
    cluster = _cluster(arguments)
    submission = prepare(plain(load_job(arguments.job, arguments.overrides)), submission_id=arguments.submission_id)
    started = start(cluster, submission)
    _say(f"{'attached to' if started.attached else 'submitted'} {started.job_id}")
    if arguments.no_wait:
        return 0
    try:
        job = _follow(cluster, started.job_id)
    except KeyboardInterrupt:
        _say(f"{started.job_id} runs on; distilray stop {started.job_id} --address {cluster.address} ends it")
        return _INTERRUPTED
    if job.status != "SUCCEEDED":  # Ray's message quotes the log's end, which was shown, if there is an exit code
        _say(f"{job.id} {job.status}: {job.message if job.driver_exit_code is None else f'exit code {job.exit_code}'}")
    return job.exit_code


def status(arguments: argparse.Namespace) -> int:
    """Tells of a job; 0 whatever its status is."""
    job = _cluster(arguments, patience=10).job(arguments.id)
    said = {**vars(job), "exit_code": job.exit_code if job.ended else None}
    del said["driver_exit_code"]
    if arguments.json:
        print(json.dumps(said, indent=2))
    else:
        print(f"{job.id} {job.status}: {job.message or ''}".rstrip(": "))
    return 0


def stop(arguments: argparse.Namespace) -> int:
    """Returns when the job has ended."""
    job = _cluster(arguments).stop(arguments.id)
    _say(f"{job.id} {job.status}")
    return 0


def _follow(cluster: Cluster, job_id: str) -> RayJob:
    tail = Tail(cluster, job_id)
    while True:
        text, job = tail.read()
        sys.stdout.write(text)
        sys.stdout.flush()
        if job:
            return job
        time.sleep(tail.pause)


def plain(job: Job) -> dict[str, Any]:
    """A job as data that gives the same job again: its paths are absolute, and only `gold` is left
    out, which a run does not read."""
    data = job.description()
    data["source"]["storage_options"] = job.source.storage_options
    data["sink"]["storage_options"] = job.sink.storage_options
    for part, task in zip(data["tasks"], job.tasks, strict=True):
        part["storage_options"] = task.storage_options
    return data


def _cluster(arguments: argparse.Namespace, patience: float = 60) -> Cluster:
    found = [os.environ[name] for name in _ADDRESS if os.environ.get(name, "").startswith(("http://", "https://"))]
    address = arguments.address or next(iter(found), None)
    if not address:
        raise SubmitError(f"which cluster? expected --address http://HEAD:8265, or the like in {' or '.join(_ADDRESS)}")
    verify = {"true": True, "false": False}.get(arguments.verify, arguments.verify)
    return Cluster(address, _token(), verify, patience)


def _token() -> str | None:
    """Where Ray's own clients find it, the last being where Ray puts the one it makes."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    given, made = os.environ.get("RAY_AUTH_TOKEN_PATH"), Path.home() / ".ray/auth_token"
    if not given and not made.exists():
        return None
    try:
        return Path(given or made).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SubmitError(f"the token in {given or made}: {type(error).__name__}") from None


def _say(text: str) -> None:
    print(f"distilray: {text}", file=sys.stderr, flush=True)
