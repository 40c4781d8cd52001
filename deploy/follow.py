"""The log of a running job, read until the job has ended."""

import time
from dataclasses import replace
from typing import Any

from distilray.deploy.errors import UnreachableError
from distilray.deploy.jobs_api import Cluster, RayJob
from distilray.deploy.result import read_result

_LOG_RATE = 200_000  # characters per second: the API only returns whole logs, so a long log is read less often
_PATIENCE = 3  # seconds for one request; the caller waits out a longer outage between reads, without blocking a thread
_MAX_FAILURES = 5


class Tail:
    """A reader of a job's log that survives broken connections. It polls the cluster and returns the new lines.

    pause: the seconds to wait before the next `read`. result: the figures that the job printed, None until then.
    patience: the seconds without an answer after which `read` raises UnreachableError.
    """

    def __init__(self, cluster: Cluster, job_id: str, interval: float = 2, patience: float = 600):
        self.result: dict[str, Any] | None = None
        self.pause = interval
        self._cluster, self._id, self._interval, self._patience = (
            replace(cluster, patience=_PATIENCE),
            job_id,
            interval,
            patience,
        )
        self._characters_read = 0
        self._last_answer = time.monotonic()
        self._failures = 0

    def read(self) -> tuple[str, RayJob | None]:
        """Return the new lines of the log, without the result line, and the job.

        The job is None until it has ended and all of its log is read. Raises UnreachableError if the cluster does not
        answer, and SubmitError if the cluster no longer knows the job.
        """
        try:
            job = self._cluster.job(self._id)  # before the log, so that the log of an ended job is complete
            self._last_answer = time.monotonic()
        except UnreachableError as error:
            if time.monotonic() - self._last_answer > self._patience:
                raise UnreachableError(f"{error}; {self._id} may still be running") from None
            return "", None
        try:
            log = self._cluster.logs(self._id)
        except UnreachableError as error:  # such as for a growing log that ends inside a character
            self._failures += 1
            give_up = job.ended and self._failures >= _MAX_FAILURES
            return (f"the rest of the log cannot be read: {error}\n", job) if give_up else ("", None)
        self._failures, self.pause = 0, max(self._interval, len(log) / _LOG_RATE)
        end = len(log) if job.ended else log.rfind("\n") + 1
        new, self._characters_read = log[self._characters_read : end], max(self._characters_read, end)
        return self._without_result(new), job if job.ended else None

    def _without_result(self, text: str) -> str:
        """Remove result lines from the text and keep the last result."""
        lines = text.splitlines(keepends=True)
        results = [read_result(line) for line in lines]
        self.result = next((result for result in reversed(results) if result is not None), self.result)
        return "".join(line for line, result in zip(lines, results, strict=True) if result is None)
