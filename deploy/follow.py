"""The log of a job as it grows, until the job is at its real end."""

import time
from dataclasses import replace
from typing import Any

from distilray.deploy.errors import UnreachableError
from distilray.deploy.jobs_api import Cluster, RayJob
from distilray.deploy.result import read_result

_RATE = 200_000  # characters a second: the API gives a log as a whole only, so a long one is asked for less often
_PATIENCE = 3  # seconds for one answer: what takes longer is waited for between two reads, which a triggerer can do
_LAST_TRIES = 5


class Tail:
    """Asks a cluster again and again, so that a connection that breaks, or a proxy that closes it, loses nothing.

    pause: seconds to wait before the next `read`; result: the figures that the job printed, None until then;
    patience: seconds without an answer after which `read` raises UnreachableError.
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
        self._seen = 0
        self._heard = time.monotonic()
        self._failed = 0

    def read(self) -> tuple[str, RayJob | None]:
        """New lines of the log, without that of the result, and the job once it has ended and all of its log is read.

        Raises UnreachableError, SubmitError if the cluster knows the job no more.
        """
        try:
            job = self._cluster.job(self._id)  # before the log: what is logged until the end is in it
            self._heard = time.monotonic()
        except UnreachableError as error:
            if time.monotonic() - self._heard > self._patience:
                raise UnreachableError(f"{error}; {self._id} may run on") from None
            return "", None
        try:
            log = self._cluster.logs(self._id)
        except UnreachableError as error:  # such as the half of a character, while it is being written
            self._failed += 1
            given_up = job.ended and self._failed >= _LAST_TRIES
            return (f"the rest of the log cannot be read: {error}\n", job) if given_up else ("", None)
        self._failed, self.pause = 0, max(self._interval, len(log) / _RATE)
        end = len(log) if job.ended else log.rfind("\n") + 1
        new, self._seen = log[self._seen : end], max(self._seen, end)
        return self._shown(new), job if job.ended else None

    def _shown(self, text: str) -> str:
        lines = text.splitlines(keepends=True)
        found = [read_result(line) for line in lines]
        self.result = next((each for each in reversed(found) if each is not None), self.result)
        return "".join(line for line, each in zip(lines, found, strict=True) if each is None)
