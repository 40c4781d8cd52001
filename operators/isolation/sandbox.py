"""A unit whose worker died, in small parts in a process of its own: what kills that is found row by row.

The process is a plain `python -m`: not forked, for torch and CUDA do not survive that, and without the main module of the
user's program, which might start a run.
"""

import ctypes
import logging
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import torch

from distilray.model.errors import StoreError
from distilray.model.storage.store import explain
from distilray.operators.errors import SandboxError, ShardError
from distilray.operators.isolation.bisect import (
    MAX_FAILED_ROWS,
    NOT_ROW_ERRORS,
    Call,
    Isolation,
    call_bisecting,
    concat_parts,
    count_alive,
    mark_dead,
    split_rows,
)
from distilray.operators.isolation.memory import free_memory, resident
from distilray.operators.isolation.watchdog import EXIT_CODE
from distilray.operators.rows import schema as s
from distilray.operators.rows.reasons import CRASH, MEMORY, TIMEOUT

log = logging.getLogger(__name__)

_ROWS = 64  # a part: one death finds it, the next ones the row
_MEMORY = 0.5  # of what is free when the process starts
_LEAST = 2.0**30  # bytes it may take in any case
_LAST = 10  # seconds for a process to end that has closed its connection
_LOOK = 0.05  # seconds between two looks at its memory
_DEVICE = 3  # exit code
_PR_SET_PDEATHSIG = 1


class SandboxDiedError(Exception):
    """The process is gone. reason: of a dead letter."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def guarded(
    isolation: Isolation | None, stage: str, call: Call, again: Callable[[], Call], table: pa.Table
) -> pa.Table:
    """What `call` gives for the rows of a unit; with a guard, those that bring it down are dead."""
    if isolation is None:
        return call(table)
    unit = str(table[s.UNIT][0].as_py())
    with isolation.attempt(stage, unit) as died:
        if died:
            log.warning("%s of unit %s ended its worker: trying it in a process of its own", stage, unit)
            return call_in_sandbox(table, stage, call, again, isolation.deadline, isolation.max_failed_rows)
        return call_bisecting(call, table, stage, isolation.max_failed_rows)


def call_in_sandbox(
    table: pa.Table,
    stage: str,
    call: Call,
    again: Callable[[], Call],
    deadline: float | None = None,
    max_failed_rows: int | None = MAX_FAILED_ROWS,
) -> pa.Table:
    """What `call` gives for the rows, those that kill a process or raise being dead.

    again: makes `call` in another process. Raises SandboxError if it cannot be made, raises for all rows, or `hopeless` rows one
    after another have ended their process: then it is not the rows that do.
    """
    with Sandbox(stage, partial(_surviving, stage, again, max_failed_rows), deadline) as sandbox:
        died = 0  # rows one after another

        def attempt(part: pa.Table) -> Iterator[pa.Table]:
            nonlocal died
            one = part.num_rows == 1
            try:
                result = sandbox.ask_with_retry(part) if one else sandbox.ask(part)
            except SandboxDiedError as death:
                if not one:
                    for piece in split_rows(part, 1):
                        yield from attempt(piece)
                    return
                died += 1
                if max_failed_rows and died >= max_failed_rows:
                    raise SandboxError(_not_of_rows(stage, died, death)) from None
                yield call(mark_dead(part, stage, death.reason, str(death)))
            else:
                died = 0 if count_alive(result) else died
                yield result

        return concat_parts([result for part in split_rows(table, _ROWS) for result in attempt(part)])


def _not_of_rows(stage: str, rows: int, death: SandboxDiedError) -> str:
    return (
        f"{stage}: {rows} rows one after another ended a process of their own on {platform.node()}, the last one so: {death}; "
        "look at the memory and the devices of that machine, or, if it is the rows, set max_dead"
    )


def _surviving(stage: str, again: Callable[[], Call], max_failed_rows: int | None) -> Call:
    call = again()
    return lambda table: call_bisecting(call, table, stage, max_failed_rows)


class Sandbox:
    """A process that works for this one, started when it is needed. worker: makes there what answers questions, and what
    ends the process if there is no progress for `deadline` seconds."""

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

    def ask(self, question: Any) -> Any:
        """The worker's answer. Raises DiedError if the process dies of the question, SandboxError if it raises."""
        return self._asked(self._process or self._start(), question)

    def ask_with_retry(self, question: Any) -> Any:
        """The same, asked once more if the process dies, unless of its deadline: something else may have killed it."""
        try:
            return self.ask(question)
        except SandboxDiedError as death:
            if death.reason == TIMEOUT:
                raise
            return self.ask(question)

    def _start(self) -> "subprocess.Popen[bytes]":
        self._connection, theirs = Pipe()
        command = [sys.executable, "-m", "distilray.operators.isolation.sandbox", str(theirs.fileno())]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # a job's working directory, too
        self._process = process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)  # noqa: S603  our own module
        theirs.close()
        self._limit = float("inf")  # loading a model must be possible
        try:
            self._asked(process, self._worker)
        except SandboxDiedError as death:
            raise SandboxError(f"a process of its own for {self._stage} could not start: {death}") from None
        self._limit = resident(process.pid) + max(_MEMORY * free_memory(), _LEAST)
        return process

    def _asked(self, process: "subprocess.Popen[bytes]", question: Any) -> Any:
        """The answer; the process is watched meanwhile."""
        greedy, start = False, time.monotonic()
        try:
            self._connection.send(question)
            while not self._connection.poll(_LOOK):
                if process.poll() is not None and not self._connection.poll():
                    raise EOFError  # nobody else says so, if a child of it holds the connection open
                if resident(process.pid) > self._limit:
                    greedy = True
                    process.kill()
            answer, error = self._connection.recv()
        except (EOFError, OSError):  # OSError: in the middle of an answer
            self._connection.close()
            self._process = None
            try:
                code = process.wait(_LAST)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait()
            late = self._deadline is not None and time.monotonic() - start >= self._deadline
            raise _death(code, greedy=greedy, late=late) from None
        if isinstance(error, Exception):
            raise error
        if error is not None:
            raise SandboxError(f"{self._stage}: {error}")
        return answer


def _death(code: int, *, greedy: bool, late: bool) -> SandboxDiedError:
    if greedy:
        return SandboxDiedError(MEMORY, "took more than half of the memory that was free")
    if code == EXIT_CODE and late:
        return SandboxDiedError(TIMEOUT, "made no progress within compute.deadline")
    if code == _DEVICE:
        return SandboxDiedError(CRASH, "the device failed")
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    return SandboxDiedError(CRASH, f"ended the process: {name}")


def _serve(connection: Connection) -> None:
    """In the process: makes the worker, then asks it whatever comes."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a worker that dies takes it along
        Path("/proc/self/oom_score_adj").write_text("1000")  # if memory ends, it goes first
    try:
        worker = connection.recv()()
    except Exception as error:
        connection.send((None, _told(error)))
        return
    connection.send((None, None))
    while True:
        try:
            question = connection.recv()
        except EOFError:
            return
        try:
            connection.send((worker(question), None))
        except torch.AcceleratorError:
            os._exit(_DEVICE)  # no call of this process can use it again, nor what Python does at its end
        except Exception as error:
            connection.send((None, _told(error)))


def _told(error: Exception) -> Exception | str:
    """Errors that say what a user can do travel as themselves."""
    return error if type(error) in (*NOT_ROW_ERRORS, ShardError, StoreError) else explain(error)


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
