"""The command `distilray submit`: the submission of a job to a Ray cluster over HTTP."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distilray.deploy.errors import SubmitError
from distilray.deploy.jobs_api import Cluster
from distilray.deploy.submission import Started, prepare, start
from distilray.pipeline.job.job import Job

_ADDRESS = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
_PATIENCE = 60.0  # seconds to wait for an unreachable cluster


def submit(job: Job, cluster: Cluster, submission_id: str | None = None) -> Started:
    """Submit a job, or attach to it if it already runs on the cluster. Raises SubmitError or UnreachableError."""
    return start(cluster, prepare(job_data(job), submission_id=submission_id))


def job_data(job: Job) -> dict[str, Any]:
    """Return a job as plain data that parses to the same job.

    All paths are absolute, and storage options are included. `gold` is left out, because a run does not read it.
    """
    data = job.description()
    data["source"]["storage_options"] = job.source.storage_options
    data["sink"]["storage_options"] = job.sink.storage_options
    for part, task in zip(data["tasks"], job.tasks, strict=True):
        part["storage_options"] = task.storage_options
    return data


def find_cluster(address: str | None, verify: str, patience: float = _PATIENCE) -> Cluster:
    """Return the cluster at `address`, or else at the HTTP address in the environment.

    verify: true, false, or a file of certificate authorities. patience: the seconds to wait for an unreachable cluster.
    Raises SubmitError if no address is given, or if the token cannot be read.
    """
    address = address or next(_addresses_in_environment(), None)
    if not address:
        raise SubmitError(
            f"no cluster is given: expected --address http://HEAD:8265, or such an address in {' or '.join(_ADDRESS)}"
        )
    return Cluster(address, _token(), {"true": True, "false": False}.get(verify, verify), patience)


def _addresses_in_environment() -> Iterator[str]:
    for name in _ADDRESS:
        if (value := os.environ.get(name, "")).startswith(("http://", "https://")):
            yield value


def _token() -> str | None:
    """Return the token for the cluster, or None if there is none.

    The places are those of Ray's own clients: RAY_AUTH_TOKEN, the file RAY_AUTH_TOKEN_PATH, and ~/.ray/auth_token. If
    Ray generates a token, it writes the token to the last place.
    """
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    configured, default = os.environ.get("RAY_AUTH_TOKEN_PATH"), Path.home() / ".ray/auth_token"
    if not configured and not default.exists():
        return None
    path = Path(configured or default)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SubmitError(f"cannot read the token in {path}: {type(error).__name__}") from None
