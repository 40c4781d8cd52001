"""The sandbox, a separate process. It computes a unit in small parts if the process of an earlier worker ended.

Rows that end the sandbox process are found one by one. The process is a plain `python -m`. It is not forked, because
torch and CUDA do not survive a fork. It does not import the main module of the user's program, which might start a run.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Self

import torch

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain
from distilray.operators.errors import SandboxError, ShardError
from distilray.operators.isolation.bisect import NOT_ROW_ERRORS
from distilray.operators.isolation.memory import free_memory, resident
from distilray.operators.isolation.watchdog import EXIT_CODE
from distilray.operators.rows.reasons import CRASH, MEMORY, TIMEOUT

_MEMORY_SHARE = 0.5  # the share of the memory free at its start that the process may use
_MIN_MEMORY = 2.0**30  # bytes that the process may use in any case
_EXIT_WAIT = 10  # seconds to wait for the end of a process that has closed its connection
_POLL_INTERVAL = 0.05  # seconds between two checks of the memory of the process
_DEVICE_LOST = 3  # the exit code after a lost device
_PR_SET_PDEATHSIG = 1


class SandboxDiedError(Exception):
    """The sandbox process ended. reason: the reason for a dead letter."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Sandbox:
    """A separate process that answers requests of this process. It starts with the first request.

    worker: a function that runs in the sandbox process and returns the function that answers requests. The returned
    function must end the process after `deadline` seconds without progress.
    """

    def __init__(self, stage: str, worker: Callable[[], Callable[[Any], Any]], deadline: float | None = None) -> None:
        self._stage, self._worker, self._deadline = stage, worker, deadline
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.wait()

    def ask(self, request: Any) -> Any:
        """Return the worker's answer to a request.

        Raises SandboxDiedError if the process ends while it computes the answer, and SandboxError if the worker raises.
        Errors that state what a user can do are raised unchanged.
        """
        return self._exchange(self._process or self._start(), request)

    def ask_with_retry(self, request: Any) -> Any:
        """Return the worker's answer, with one retry if the process ends for a reason that may not be the request.

        There is no retry if the process made no progress within the deadline.
        """
        try:
            return self.ask(request)
        except SandboxDiedError as error:
            if error.reason == TIMEOUT:
                raise
            return self.ask(request)

    def _start(self) -> "subprocess.Popen[bytes]":
        self._connection, child_end = Pipe()
        descriptor = child_end.fileno()
        command = [sys.executable, "-m", "distilray.operators.isolation.sandbox", str(descriptor)]
        # sys.path includes the working directory of a Ray job
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = process = subprocess.Popen(command, pass_fds=[descriptor], env=environment)  # noqa: S603
        child_end.close()
        self._limit = float("inf")  # no limit while the worker loads its models
        try:
            self._exchange(process, self._worker)
        except SandboxDiedError as error:
            raise SandboxError(f"a separate process for {self._stage} could not start: {error}") from None
        self._limit = resident(process.pid) + max(_MEMORY_SHARE * free_memory(), _MIN_MEMORY)
        return process

    def _exchange(self, process: "subprocess.Popen[bytes]", request: Any) -> Any:
        """Send a request, watch the process and its memory, and return the answer."""
        over_limit, start = False, time.monotonic()
        try:
            self._connection.send(request)
            while not self._connection.poll(_POLL_INTERVAL):
                if process.poll() is not None and not self._connection.poll():
                    raise EOFError  # the connection stays open if a child of the process holds it
                if resident(process.pid) > self._limit:
                    over_limit = True
                    process.kill()
            answer, error = self._connection.recv()
        except (EOFError, OSError):  # OSError: the process ended in the middle of an answer
            self._connection.close()
            self._process = None
            try:
                code = process.wait(_EXIT_WAIT)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            late = self._deadline is not None and time.monotonic() - start >= self._deadline
            raise _as_error(code, over_limit=over_limit, late=late) from None
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise SandboxError(f"{self._stage}: {error}")
        return answer


def _as_error(code: int, *, over_limit: bool, late: bool) -> SandboxDiedError:
    """Return the error for the end of a sandbox process. The messages become part of dead letters."""
    if over_limit:
        return SandboxDiedError(MEMORY, "the process took more than half of the memory that was free")
    if code == EXIT_CODE and late:
        return SandboxDiedError(TIMEOUT, "the process made no progress within compute.deadline")
    if code == _DEVICE_LOST:
        return SandboxDiedError(CRASH, "the device failed")
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return SandboxDiedError(CRASH, f"the process ended: {name}")


def _serve(connection: Connection) -> None:
    """Create the worker in the sandbox process, then answer requests until the connection closes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the process ends together with its parent
        Path("/proc/self/oom_score_adj").write_text("1000")  # the kernel kills it first if memory runs out
    try:
        worker = connection.recv()()
    except Exception as error:
        connection.send((None, _portable(error)))
        return
    connection.send((None, None))
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            connection.send((worker(request), None))
        except torch.AcceleratorError:
            os._exit(_DEVICE_LOST)  # the device is unusable now, even for the clean-up at the exit of Python
        except Exception as error:
            connection.send((None, _portable(error)))


def _portable(error: Exception) -> Exception | str:
    """Return an error that states what a user can do unchanged, and any other error as text."""
    return error if type(error) in (*NOT_ROW_ERRORS, ShardError, StoreError) else explain(error)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
