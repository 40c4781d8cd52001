"""A job on its way to a cluster: what is sent, under which id, and which attempt of it runs."""

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
from distilray.deploy.package import Package, own_code, packed
from distilray.model.storage.redact import holds_secret
from distilray.model.storage.safe_yaml import NOT_YAML, parse_yaml

Command = Literal["run", "verify"]
_FILE = "job.yaml"
_SECRET = re.compile(
    r"(?i)(^|[-_])(key|sas|auth|pwd)([-_]|$)|(access|account|api)[-_]?key|secret|token|passw|passphrase|credential|signature|"
    r"cookie|authorization|connection_?string"
)
_NO_SECRETS = ("anon", "cloud", "google_default")  # words that gcsfs takes as a token
_ELSEWHERE = (
    "whoever sees the cluster would see it; give the cluster's nodes credentials of their own (a role, or AWS_... and the like "
    "in their environment)"
)
_RACES = 20


@dataclass(frozen=True)
class Submission:
    """What is sent. id: the same for the same job and code; digest: of both."""

    id: str
    digest: str
    entrypoint: str
    sink: str
    code: Package
    job: Package

    @property
    def runtime_env(self) -> dict[str, Any]:
        """The code is importable and the job's file lies in the working folder."""
        return {"py_modules": [self.code.uri], "working_dir": self.job.uri}


@dataclass(frozen=True)
class Started:
    """An attempt of a submission. attached: it ran already."""

    job_id: str
    attached: bool


def prepare(job: str | Mapping[str, Any], command: Command = "run", submission_id: str | None = None) -> Submission:
    """A job, as YAML or as plain data, made ready to `run` it or to `verify` its output.

    Raises SubmitError for secrets, for paths that are not absolute, and for what is no job at all; all else is checked
    on the cluster.
    """
    raw = _read(job)
    sink = _checked(raw)
    arguments = ["run", _FILE, "--result-line"]
    if command == "verify":
        options = raw["sink"].get("storage_options") or {}
        arguments = ["verify", sink, *([f"--set=sink.storage_options={json.dumps(options)}"] if options else [])]
    entrypoint = shlex.join(["python", "-m", "distilray", *arguments])
    # the job as it was checked: a comment may hold anything
    code, file = own_code(), packed({_FILE: yaml.safe_dump(raw).encode()})
    digest = hashlib.sha256("\0".join([entrypoint, code.name, file.name]).encode()).hexdigest()
    slug = re.sub("[^a-z0-9]+", "-", sink.rstrip("/").rpartition("/")[2].lower()).strip("-")[:40]
    name = submission_id or "-".join(
        filter(None, ["distilray", slug, command if command != "run" else "", digest[:12]])
    )
    return Submission(name, digest, entrypoint, sink, code, file)


def sink_of(job: str | Mapping[str, Any]) -> str:
    """Where a job puts its answers. Raises SubmitError as `prepare` does."""
    return _checked(_read(job))


def start(cluster: Cluster, submission: Submission) -> Started:
    """The attempt that runs already, or a new one: ID, ID-try2, ID-try3, ...

    Two that start one submission at the same time get the same attempt. Raises SubmitError if something else runs under
    its id.
    """
    for _ in range(_RACES):
        number, last = _last_attempt(cluster.jobs(), submission.id)
        if last and not last.ended:
            if last.metadata.get("digest") != submission.digest:
                raise SubmitError(
                    f"{last.id} runs on {cluster.address} and is another job, or other code; choose another id"
                )
            return Started(last.id, attached=True)
        for package in (submission.code, submission.job):
            if not cluster.has_package(package.name):
                cluster.put_package(package.name, package.data)
        name = submission.id if number == 0 else f"{submission.id}-try{number + 1}"
        about = {"digest": submission.digest, "sink": submission.sink}
        if cluster.submit(name, submission.entrypoint, submission.runtime_env, about):
            return Started(name, attached=False)
    raise SubmitError(f"{cluster.address} says that {name} exists, and does not list it")


def _last_attempt(jobs: list[RayJob], name: str) -> tuple[int, RayJob | None]:
    """0 and None if there was none."""
    found = [
        (int(match[1] or 1), job)
        for job in jobs
        if (match := re.fullmatch(rf"{re.escape(name)}(?:-try(\d+))?", job.id))
    ]
    return max(found, key=lambda each: each[0], default=(0, None))


def _read(job: str | Mapping[str, Any]) -> dict[str, Any]:
    """As plain data."""
    try:
        raw = parse_yaml(job if isinstance(job, str) else yaml.safe_dump(dict(job)))
    except NOT_YAML as error:  # its text would quote the line
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "a value is no plain data"
        raise SubmitError(
            f"the job is no YAML: {where}, {getattr(error, 'problem', None) or type(error).__name__}"
        ) from None
    if not isinstance(raw, dict):
        raise SubmitError(f"the job: expected keys source, tasks, sink, compute; got {type(raw).__name__}")
    return raw


def _checked(raw: dict[str, Any]) -> str:
    """The sink's address, if nothing in the job is secret and every path means the same on the cluster."""
    try:
        given, sink = raw["source"]["uri"], raw["sink"]["uri"]
        places = [*(given if isinstance(given, list) else [given]), *(task["model"] for task in raw["tasks"]), sink]
    except (KeyError, TypeError):
        raise SubmitError("the job: expected source.uri, tasks with a model each, and sink.uri") from None
    for place in places:
        if not isinstance(place, str) or not ("://" in place or place.startswith("/")):
            raise SubmitError(f"{place!r}: expected a URI or an absolute path: the cluster has another working folder")
    for path, value in _leaves(raw):
        if isinstance(value, str) and "://" in value and holds_secret(value):
            raise SubmitError(f"{path} has a password, a token or a signature: {_ELSEWHERE}")
        options = path.partition("storage_options.")[2]
        user = options and isinstance(value, str) and "@" in value  # such as a proxy's
        if user or (any(map(_SECRET.search, options.split("."))) and not _harmless(value)):
            raise SubmitError(f"{path} is a secret: {_ELSEWHERE}")
    return str(sink)


def _harmless(value: Any) -> bool:
    return value is None or isinstance(value, bool) or value in _NO_SECRETS


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value and its place, as `source.storage_options.key`."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if items is None:
        yield path, node
        return
    for key, value in items:
        yield from _leaves(value, f"{path}.{key}" if path else str(key))
