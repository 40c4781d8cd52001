"""The commands that call a Ray cluster over HTTP: submit, status, stop."""

import argparse
import json
import sys
import time

from rich.console import Console

from distilray.deploy.follow import Tail
from distilray.deploy.jobs_api import Cluster, RayJob
from distilray.pipeline.cli.exit_codes import INTERRUPTED
from distilray.pipeline.commands.submit import find_cluster
from distilray.pipeline.commands.submit import submit as submit_job
from distilray.pipeline.job.job import load_job


def submit(arguments: argparse.Namespace, _: Console) -> int:
    """Submit a job, or attach to it if it already runs. Print its log and return the exit code of its command."""
    cluster = find_cluster(arguments.address, arguments.verify)
    started = submit_job(load_job(arguments.job, arguments.overrides), cluster, arguments.submission_id)
    _print_status(f"{'attached to' if started.attached else 'submitted'} {started.job_id}")
    if arguments.no_wait:
        return 0
    try:
        job = _follow(cluster, started.job_id)
    except KeyboardInterrupt:
        _print_status(
            f"{started.job_id} is still running; stop it with: distilray stop {started.job_id} --address {cluster.address}"
        )
        return INTERRUPTED
    if job.status != "SUCCEEDED":  # Ray's message about an exit code only repeats the end of the printed log
        _print_status(
            f"{job.id} {job.status}: {job.message if job.driver_exit_code is None else f'exit code {job.exit_code}'}"
        )
    return job.exit_code


def status(arguments: argparse.Namespace, _: Console) -> int:
    """Print the status of a job. The exit code does not depend on the status."""
    job = find_cluster(arguments.address, arguments.verify, patience=10).job(arguments.id)
    fields = {**vars(job), "exit_code": job.exit_code if job.ended else None}
    del fields["driver_exit_code"]
    if arguments.json:
        print(json.dumps(fields, indent=2))
    else:
        print(f"{job.id} {job.status}: {job.message or ''}".rstrip(": "))
    return 0


def stop(arguments: argparse.Namespace, _: Console) -> int:
    """Stop a job and wait until it has ended."""
    job = find_cluster(arguments.address, arguments.verify).stop(arguments.id)
    _print_status(f"{job.id} {job.status}")
    return 0


def _follow(cluster: Cluster, job_id: str) -> RayJob:
    """Print the log of a job until the job ends. Return the ended job."""
    tail = Tail(cluster, job_id)
    while True:
        text, job = tail.read()
        sys.stdout.write(text)
        sys.stdout.flush()
        if job:
            return job
        time.sleep(tail.pause)


def _print_status(text: str) -> None:
    """Print a message about a submission to the standard error."""
    print(f"distilray: {text}", file=sys.stderr, flush=True)
