"""A client of Ray's Jobs API over HTTP."""

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from distilray.deploy.errors import SubmitError, UnreachableError
from distilray.model.storage.redact import holds_secret, redacted

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_INTERRUPTED = 130
_TIMEOUT = (10, 60)  # seconds to connect, and to wait for the next byte
_MAX_QUOTED = 500  # characters of a server's answer in an error message
_FINAL_SSL_ERRORS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")  # a retry does not help
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayJob:
    """A job as its cluster reports it.

    status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED. driver_exit_code: the exit code of the job's command. It is
    None while the command runs, and if the command was stopped or never started. start_time, end_time: milliseconds
    since 1970.
    """

    id: str
    status: str
    message: str | None = None
    driver_exit_code: int | None = None
    entrypoint: str = ""
    start_time: int | None = None
    end_time: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether the job has ended, with or without success."""
        return self.status in _ENDED

    @property
    def exit_code(self) -> int:
        """The exit code of the command as in a shell: 130 if stopped, 1 if it failed before the command started."""
        if self.status == "STOPPED":
            return _INTERRUPTED
        if self.driver_exit_code is None:
            return 0 if self.status == "SUCCEEDED" else 1
        return self.driver_exit_code if self.driver_exit_code >= 0 else 128 - self.driver_exit_code


class _BearerAuth(requests.auth.AuthBase):
    """The token as an Authorization header. Passed to requests as `auth`, it takes precedence over a .netrc file."""

    def __init__(self, token: str):
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


@dataclass(frozen=True)
class Cluster:
    """The dashboard of a Ray cluster.

    verify: whether the certificate is checked, or a file of certificate authorities. patience: the seconds for which a
    request is retried after errors of the connection and of the server. Each method raises UnreachableError if these
    errors last longer, and SubmitError for every other error.
    """

    address: str
    token: str | None = field(default=None, repr=False)
    verify: bool | str = True
    patience: float = 60

    def __post_init__(self) -> None:
        if holds_secret(self.address) or "@" in self.address:
            raise SubmitError(
                "expected an address without a user and a password, got one with them; give a token instead"
            )
        if self.token is not None:
            object.__setattr__(self, "token", self.token.strip())  # a file or a secret may end with a line feed
            if not re.fullmatch("[!-~]+", self.token):
                raise SubmitError(
                    "the token is empty or has characters that an HTTP header cannot have (its text is not shown): "
                    "correct RAY_AUTH_TOKEN, the file of the token, or the password of the Airflow connection"
                )
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SubmitError(
                f"expected the address of a Ray dashboard, such as http://head:8265, got {self.address!r}"
            )
        object.__setattr__(self, "address", self.address.rstrip("/"))

    def jobs(self) -> list[RayJob]:
        """Return all jobs that were submitted to the cluster."""
        return [_parse_job(data) for data in self._json("GET", "/api/jobs/") if data.get("submission_id")]

    def job(self, job_id: str) -> RayJob:
        """Return one job."""
        return _parse_job(self._json("GET", f"/api/jobs/{quote(job_id, safe='')}"))

    def logs(self, job_id: str) -> str:
        """Return everything that the job has printed so far."""
        text: str = self._json("GET", f"/api/jobs/{quote(job_id, safe='')}/logs")["logs"]
        return text

    def stop(self, job_id: str) -> RayJob:
        """Stop a job and wait until it has ended. Ray sends SIGTERM, and SIGKILL some seconds later."""
        while not (job := self.job(job_id)).ended:
            # repeated in every round, because a pending job ignores the request
            self._json("POST", f"/api/jobs/{quote(job_id, safe='')}/stop")
            time.sleep(1)
        return job

    def submit(self, job_id: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
        """Submit a job. Return False if a job with this id exists."""
        body = {"submission_id": job_id, "entrypoint": entrypoint, "runtime_env": runtime_env, "metadata": metadata}
        response = self._request("POST", "/api/jobs/", json=body)
        if response.status_code >= 400 and "already exists" in response.text:
            return False
        self._require_ok(response)
        return True

    def has_package(self, name: str) -> bool:
        """Return whether the cluster has a package. Ray then keeps the package for at least some minutes."""
        response = self._request("GET", f"/api/packages/gcs/{name}")
        return response.status_code != 404 and bool(self._require_ok(response))

    def put_package(self, name: str, data: bytes) -> None:
        """Upload a package."""
        self._require_ok(self._request("PUT", f"/api/packages/gcs/{name}", data=data))

    def _json(self, method: str, path: str) -> Any:
        """Send a request and return the JSON of the answer."""
        response = self._require_ok(self._request(method, path))
        try:
            return response.json()
        except ValueError:
            raise SubmitError(
                f"{self.address}{path}: expected JSON of Ray's Jobs API, got {response.text[:_MAX_QUOTED]!r}; give the "
                "address of a Ray dashboard"
            ) from None

    def _require_ok(self, response: requests.Response) -> requests.Response:
        """Return the response if its status is 200. Raises SubmitError for any other status."""
        code, text = response.status_code, response.text[-_MAX_QUOTED:].strip()
        if code in (401, 403):
            requirement = f"it requires {'another' if self.token else 'a'} token"
            raise SubmitError(
                f"{self.address} rejected the request (HTTP {code}): {requirement} "
                f"(set RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or the password of the Airflow connection); {text}"
            )
        if code != 200:
            raise SubmitError(f"{self.address} answered HTTP {code}: {text}")
        return response

    def _request(self, method: str, path: str, **content: Any) -> requests.Response:
        """Send a request and return the response.

        The request is retried for `patience` seconds after errors of the connection and of the server. A Ray head node
        that has just started answers 500 "No available agent" for a while.
        """
        end, pause = time.monotonic() + self.patience, 0.5
        while True:
            try:
                response = requests.request(
                    method,
                    self.address + path,
                    auth=_BearerAuth(self.token) if self.token else None,
                    verify=self.verify,
                    timeout=_TIMEOUT,
                    allow_redirects=False,  # a login page is not an answer
                    **content,
                )
                if response.status_code < 500 or "already exists" in response.text:
                    return response
                problem = f"HTTP {response.status_code}: {response.text[-_MAX_QUOTED:].strip()}"
            except requests.exceptions.SSLError as error:
                problem = redacted(str(error))  # retried, because a load balancer may be restarting
                if any(final in problem for final in _FINAL_SSL_ERRORS):
                    raise SubmitError(f"{self.address}: {problem}") from None
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem = redacted(str(error))
            except (OSError, requests.RequestException) as error:  # such as a missing file of certificates
                raise SubmitError(f"{self.address}: {redacted(str(error))}") from None
            if time.monotonic() + pause > end:
                raise UnreachableError(f"{self.address} does not answer {method} {path}: {problem}")
            if pause == 1:  # the second failure: not a short interruption
                _log.warning("waiting up to %.0f s for %s: %s", self.patience, self.address, problem)
            time.sleep(pause)
            pause = min(2 * pause, 5)


def _parse_job(data: Mapping[str, Any]) -> RayJob:
    """Return a job from the data of the Jobs API."""
    names = ("status", "message", "driver_exit_code", "entrypoint", "start_time", "end_time")
    values: dict[str, Any] = {name: data.get(name) for name in names}
    return RayJob(data["submission_id"], metadata=data.get("metadata") or {}, **values)
