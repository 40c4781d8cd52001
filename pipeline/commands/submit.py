"""Submit a job to a Ray cluster that is reached over HTTP."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distilray.deploy.errors import SubmitError
from distilray.deploy.jobs_api import Cluster
from distilray.deploy.submission import Started, prepare, start
from distilray.pipeline.job.job import Job

_ADDRESS = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_PATIENCE = 60.0  # seconds that an unreachable cluster is waited for


def submit(job: Job, cluster: Cluster, submission_id: str | None = None) -> Started:
    """Submit a job, or attach to it if it runs on the cluster already. Raises SubmitError or UnreachableError."""
    return start(cluster, prepare(job_data(job), submission_id=submission_id))


def job_data(job: Job) -> dict[str, Any]:
    """Return a job as plain data that gives the same job again.

    Its paths are absolute. Storage options are included. Only `gold` is left out, because a run does not read it.
    """
    data = job.description()
    data["source"]["storage_options"] = job.source.storage_options
    data["sink"]["storage_options"] = job.sink.storage_options
    for part, task in zip(data["tasks"], job.tasks, strict=True):
        part["storage_options"] = task.storage_options
    return data


def find_cluster(address: str | None, verify: str, patience: float = _PATIENCE) -> Cluster:
    """Return the cluster at `address`, or else at the HTTP address in the environment.

    verify: true, false, or a file of certificate authorities. patience: seconds that an unreachable cluster is waited for.
    Raises SubmitError if no address is given, or if the token cannot be read.
    """
    address = address or next(_addresses_in_environment(), None)
    if not address:
        raise SubmitError(f"which cluster? expected --address http://HEAD:8265, or the like in {' or '.join(_ADDRESS)}")
    return Cluster(address, _token(), {"true": True, "false": False}.get(verify, verify), patience)


def _addresses_in_environment() -> Iterator[str]:
    for name in _ADDRESS:
        if (value := os.environ.get(name, "")).startswith(("http://", "https://")):
            yield value


def _token() -> str | None:
    """Return the token from where Ray's own clients look for it; the last place is where Ray puts a token that it makes."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    given, made = os.environ.get("RAY_AUTH_TOKEN_PATH"), Path.home() / ".ray/auth_token"
    if not given and not made.exists():
        return None
    try:
        return Path(given or made).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SubmitError(f"the token in {given or made}: {type(error).__name__}") from None
