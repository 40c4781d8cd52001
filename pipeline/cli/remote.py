"""The commands that reach a Ray cluster over HTTP: submit, status, stop."""

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
    """Submit a job, or attach to it. Print its log, and return the exit code of its command."""
    cluster = find_cluster(arguments.address, arguments.verify)
    started = submit_job(load_job(arguments.job, arguments.overrides), cluster, arguments.submission_id)
    _say(f"{'attached to' if started.attached else 'submitted'} {started.job_id}")
    if arguments.no_wait:
        return 0
    try:
        job = _follow(cluster, started.job_id)
    except KeyboardInterrupt:
        _say(f"{started.job_id} runs on; distilray stop {started.job_id} --address {cluster.address} ends it")
        return INTERRUPTED
    if job.status != "SUCCEEDED":  # with an exit code, Ray's message quotes the end of the log, which was printed
        _say(f"{job.id} {job.status}: {job.message if job.driver_exit_code is None else f'exit code {job.exit_code}'}")
    return job.exit_code


def status(arguments: argparse.Namespace, _: Console) -> int:
    """Print the status of a job. The exit code is 0 whatever the status is."""
    job = find_cluster(arguments.address, arguments.verify, patience=10).job(arguments.id)
    shown = {**vars(job), "exit_code": job.exit_code if job.ended else None}
    del shown["driver_exit_code"]
    if arguments.json:
        print(json.dumps(shown, indent=2))
    else:
        print(f"{job.id} {job.status}: {job.message or ''}".rstrip(": "))
    return 0


def stop(arguments: argparse.Namespace, _: Console) -> int:
    """Stop a job, and return when it has ended."""
    job = find_cluster(arguments.address, arguments.verify).stop(arguments.id)
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


def _say(text: str) -> None:
    print(f"distilray: {text}", file=sys.stderr, flush=True)
