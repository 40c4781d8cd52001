"""The submission of a job to a cluster: the packages that are sent, the id, and the attempts."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from distilray.deploy.errors import SubmitError
from distilray.deploy.jobs_api import Cluster, RayJob
from distilray.deploy.package import Package, code_package, make_package
from distilray.model.storage.redact import holds_secret
from distilray.model.storage.safe_yaml import NOT_YAML, parse_yaml

Command = Literal["run", "verify"]
_FILE = "job.yaml"
_SECRET = re.compile(
    r"(?i)(^|[-_])(key|sas|auth|pwd)([-_]|$)|(access|account|api)[-_]?key|secret|token|passw|passphrase|credential|signature|"
    r"cookie|authorization|connection_?string"
)
_PUBLIC_TOKENS = ("anon", "cloud", "google_default")  # values of gcsfs's `token` that are not secret
_CREDENTIALS_ADVICE = (
    "everyone with access to the cluster could read it; give the cluster's nodes their own credentials (a role, or "
    "variables such as AWS_... in their environment)"
)
_MAX_RACES = 20  # how often other clients may take the same id before this one gives up


@dataclass(frozen=True)
class Submission:
    """The data that is sent to a cluster.

    id: the name of the first attempt; the same job and code have the same id. digest: the hash of job and code. sink:
    the address of the output.
    """

    id: str
    digest: str
    entrypoint: str
    sink: str
    code: Package
    job: Package

    @property
    def runtime_env(self) -> dict[str, Any]:
        """Ray's runtime environment: it makes the code importable and the job file part of the working folder."""
        return {"py_modules": [self.code.uri], "working_dir": self.job.uri}


@dataclass(frozen=True)
class Started:
    """An attempt of a submission. attached: whether it was running before."""

    job_id: str
    attached: bool


def prepare(job: str | Mapping[str, Any], command: Command = "run", submission_id: str | None = None) -> Submission:
    """Prepare a submission that runs a job or verifies its output.

    job: the job as YAML or as plain data. Raises SubmitError if `job` holds a secret or a path that is not absolute, or
    if it is not a job. Everything else is checked on the cluster.
    """
    raw = _parse(job)
    sink = _check_job(raw)
    arguments = ["run", _FILE, "--result-line"]
    if command == "verify":
        options = raw["sink"].get("storage_options") or {}
        arguments = ["verify", sink, *([f"--set=sink.storage_options={json.dumps(options)}"] if options else [])]
    entrypoint = shlex.join(["python", "-m", "distilray", *arguments])
    # the file is written from the parsed job, because comments in the original may hold secrets
    code, file = code_package(), make_package({_FILE: yaml.safe_dump(raw).encode()})
    digest = hashlib.sha256("\0".join([entrypoint, code.name, file.name]).encode()).hexdigest()
    slug = re.sub("[^a-z0-9]+", "-", sink.rstrip("/").rpartition("/")[2].lower()).strip("-")[:40]
    name = submission_id or "-".join(
        filter(None, ["distilray", slug, command if command != "run" else "", digest[:12]])
    )
    return Submission(name, digest, entrypoint, sink, code, file)


def sink_of(job: str | Mapping[str, Any]) -> str:
    """Return the address of a job's sink. Raises SubmitError as `prepare` does."""
    return _check_job(_parse(job))


def start(cluster: Cluster, submission: Submission) -> Started:
    """Attach to the attempt that is running, or start a new one.

    Attempts have the ids ID, ID-try2, ID-try3, and so on. Clients that start a submission at the same time get the same
    attempt. Raises SubmitError if another job or other code runs under the id.
    """
    for _ in range(_MAX_RACES):
        number, last = _last_attempt(cluster.jobs(), submission.id)
        if last and not last.ended:
            if last.metadata.get("digest") != submission.digest:
                raise SubmitError(
                    f"{last.id} is running on {cluster.address} with another job or other code; choose another id"
                )
            return Started(last.id, attached=True)
        for package in (submission.code, submission.job):
            if not cluster.has_package(package.name):
                cluster.put_package(package.name, package.data)
        name = submission.id if number == 0 else f"{submission.id}-try{number + 1}"
        about = {"digest": submission.digest, "sink": submission.sink}
        if cluster.submit(name, submission.entrypoint, submission.runtime_env, about):
            return Started(name, attached=False)
    raise SubmitError(
        f"{cluster.address} reports that {name} exists but does not list it; submit again or choose another id"
    )


def _last_attempt(jobs: list[RayJob], name: str) -> tuple[int, RayJob | None]:
    """Return the number of the last attempt and its job, or 0 and None if there was no attempt."""
    attempts = [
        (int(match[1] or 1), job)
        for job in jobs
        if (match := re.fullmatch(rf"{re.escape(name)}(?:-try(\d+))?", job.id))
    ]
    return max(attempts, key=lambda attempt: attempt[0], default=(0, None))


def _parse(job: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as plain data. Raises SubmitError if it is not valid YAML or not a mapping."""
    try:
        raw = parse_yaml(job if isinstance(job, str) else yaml.safe_dump(dict(job)))
    except NOT_YAML as error:  # the text of the error may quote a secret
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "a value is not plain data"
        raise SubmitError(
            f"the job is not valid YAML: {where}, {getattr(error, 'problem', None) or type(error).__name__}"
        ) from None
    if not isinstance(raw, dict):
        raise SubmitError(
            f"the job: expected a mapping with the keys source, tasks, sink, compute; got {type(raw).__name__}"
        )
    return raw


def _check_job(raw: dict[str, Any]) -> str:
    """Return the address of the sink.

    Raises SubmitError if the job holds a secret, or an address that has another meaning on the cluster.
    """
    try:
        source, sink = raw["source"]["uri"], raw["sink"]["uri"]
        sources = source if isinstance(source, list) else [source]
        addresses = [*sources, *(task["model"] for task in raw["tasks"]), sink]
    except (KeyError, TypeError):
        raise SubmitError(
            "the job: expected source.uri, tasks with a model each, and sink.uri; one is missing or has a wrong type"
        ) from None
    for address in addresses:
        if not isinstance(address, str) or not ("://" in address or address.startswith("/")):
            raise SubmitError(
                f"{address!r}: expected a URI or an absolute path, because the cluster has another working folder"
            )
    for path, value in _leaves(raw):
        if isinstance(value, str) and "://" in value and holds_secret(value):
            raise SubmitError(f"{path} has a password, a token or a signature: {_CREDENTIALS_ADVICE}")
        options = path.partition("storage_options.")[2]
        has_user = options and isinstance(value, str) and "@" in value  # such as the user in the URL of a proxy
        if has_user or (any(map(_SECRET.search, options.split("."))) and not _is_public(value)):
            raise SubmitError(f"{path} is a secret: {_CREDENTIALS_ADVICE}")
    return str(sink)


def _is_public(value: Any) -> bool:
    """Return whether a value is never a secret."""
    return value is None or isinstance(value, bool) or value in _PUBLIC_TOKENS


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value with its path, such as `source.storage_options.key`."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        yield path, node
        return
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}" if path else str(key))
