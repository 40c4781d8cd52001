"""Ray's Jobs API over HTTP."""

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
_TIMEOUT = (10, 60)  # seconds to connect, and between two bytes
_SHOWN = 500  # characters of what a server says
_NO_TRUST = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RayJob:
    """A job as its cluster tells of it. status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED; driver_exit_code: None while
    it runs, and if its command was stopped or never started; times: milliseconds since 1970."""

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
        return self.status in _ENDED

    @property
    def exit_code(self) -> int:
        """Of its command, as a shell gives it; 130 if it was stopped, 1 if it failed before its command began."""
        if self.status == "STOPPED":
            return _INTERRUPTED
        if self.driver_exit_code is None:
            return 0 if self.status == "SUCCEEDED" else 1
        return self.driver_exit_code if self.driver_exit_code >= 0 else 128 - self.driver_exit_code


class _Token(requests.auth.AuthBase):
    """Given to requests as its auth, else a .netrc would win over the header."""

    def __init__(self, token: str):
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


@dataclass(frozen=True)
class Cluster:
    """A cluster's dashboard. verify: whether its certificate is checked, or a file of the authorities that may sign it;
    patience: seconds for which errors of the connection and of the server are tried again.

    Each method raises UnreachableError when patience is at its end, and SubmitError for everything else.
    """

    address: str
    token: str | None = field(default=None, repr=False)
    verify: bool | str = True
    patience: float = 60

    def __post_init__(self) -> None:
        if holds_secret(self.address) or "@" in self.address:
            raise SubmitError("an address must hold no user and no password; give a token instead")
        if self.token is not None:
            object.__setattr__(self, "token", self.token.strip())  # a file's or a secret's last line has its end
            if not re.fullmatch("[!-~]+", self.token):
                raise SubmitError(
                    "the token is empty or has characters that no header can have (its text is not shown)"
                )
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SubmitError(
                f"expected the address of a Ray dashboard, such as http://head:8265, got {self.address!r}"
            )
        object.__setattr__(self, "address", self.address.rstrip("/"))

    def jobs(self) -> list[RayJob]:
        """Everything that was ever submitted to it."""
        return [_job(each) for each in self._json("GET", "/api/jobs/") if each.get("submission_id")]

    def job(self, job_id: str) -> RayJob:
        return _job(self._json("GET", f"/api/jobs/{quote(job_id, safe='')}"))

    def logs(self, job_id: str) -> str:
        """All that the job has printed so far."""
        text: str = self._json("GET", f"/api/jobs/{quote(job_id, safe='')}/logs")["logs"]
        return text

    def stop(self, job_id: str) -> RayJob:
        """Ends a job and waits until it has ended: it gets SIGTERM, and some seconds later SIGKILL."""
        while not (job := self.job(job_id)).ended:
            self._json(
                "POST", f"/api/jobs/{quote(job_id, safe='')}/stop"
            )  # again: one that is pending does not hear it
            time.sleep(1)
        return job

    def submit(self, job_id: str, entrypoint: str, runtime_env: Mapping[str, Any], metadata: Mapping[str, str]) -> bool:
        """False if there is a job with this id."""
        asked = {"submission_id": job_id, "entrypoint": entrypoint, "runtime_env": runtime_env, "metadata": metadata}
        response = self._ask("POST", "/api/jobs/", json=asked)
        if response.status_code >= 400 and "already exists" in response.text:
            return False
        self._checked(response)
        return True

    def has_package(self, name: str) -> bool:
        """A package that is there is kept for some minutes from now on."""
        response = self._ask("GET", f"/api/packages/gcs/{name}")
        return response.status_code != 404 and bool(self._checked(response))

    def put_package(self, name: str, data: bytes) -> None:
        self._checked(self._ask("PUT", f"/api/packages/gcs/{name}", data=data))

    def _json(self, method: str, path: str) -> Any:
        response = self._checked(self._ask(method, path))
        try:
            return response.json()
        except ValueError:
            raise SubmitError(
                f"{self.address}{path}: expected Ray's Jobs API, got {response.text[:_SHOWN]!r}"
            ) from None

    def _checked(self, response: requests.Response) -> requests.Response:
        code, said = response.status_code, response.text[-_SHOWN:].strip()
        if code in (401, 403):
            problem = (
                f"{self.address} turned us away (HTTP {code}): it asks for {'another' if self.token else 'a'} token"
            )
            raise SubmitError(
                f"{problem} (RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, or an Airflow connection's password); {said}"
            )
        if code != 200:
            raise SubmitError(f"{self.address} answered HTTP {code}: {said}")
        return response

    def _ask(self, method: str, path: str, **content: Any) -> requests.Response:
        """What a server that works answers. A head that has just started says 500 "No available agent" for a while."""
        end, pause = time.monotonic() + self.patience, 0.5
        while True:
            try:
                response = requests.request(
                    method,
                    self.address + path,
                    auth=_Token(self.token) if self.token else None,
                    verify=self.verify,
                    timeout=_TIMEOUT,
                    allow_redirects=False,  # a page for logging in is no answer
                    **content,
                )
                if response.status_code < 500 or "already exists" in response.text:
                    return response
                problem = f"HTTP {response.status_code}: {response.text[-_SHOWN:].strip()}"
            except requests.exceptions.SSLError as error:
                problem = redacted(str(error))  # such as of a balancer that restarts: another try is worth it
                if any(final in problem for final in _NO_TRUST):
                    raise SubmitError(f"{self.address}: {problem}") from None
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                problem = redacted(str(error))
            except (OSError, requests.RequestException) as error:  # such as a file of certificates that is not there
                raise SubmitError(f"{self.address}: {redacted(str(error))}") from None
            if time.monotonic() + pause > end:
                raise UnreachableError(f"{self.address} does not answer {method} {path}: {problem}")
            if pause == 1:  # it was no hiccup
                _log.warning("waiting up to %.0f s for %s: %s", self.patience, self.address, problem)
            time.sleep(pause)
            pause = min(2 * pause, 5)


def _job(said: Mapping[str, Any]) -> RayJob:
    names = ("status", "message", "driver_exit_code", "entrypoint", "start_time", "end_time")
    told: dict[str, Any] = {name: said.get(name) for name in names}
    return RayJob(said["submission_id"], metadata=said.get("metadata") or {}, **told)
