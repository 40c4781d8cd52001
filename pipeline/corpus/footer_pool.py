"""Parsing of untrusted footers in separate processes. A hostile footer may end one of these processes, but no other."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

import pyarrow as pa

from distilray.pipeline.corpus import footer_parser
from distilray.pipeline.corpus.footer_parser import receive, send

_BATCH, _BATCH_BYTES = 512, 2**24  # the most footers of a request, and about the most bytes of them
_PROCESSES = 8  # at most; one process keeps up with a fast store


@dataclass(frozen=True)
class Footer:
    """The parts of a shard's footer that a plan needs. groups: (rows, uncompressed bytes of text) of each row group."""

    schema: pa.Schema
    groups: tuple[tuple[int, int], ...]


def parse_footers(tails: Iterable[bytes], texts: Collection[str]) -> Iterator[Footer | str]:
    """Parse the last bytes of each file. Yields the footer of the file, or the problem of the footer.

    texts: the columns whose bytes are summed. The first process starts at once, and others when they are needed. A
    process that a footer has ended is replaced. Raises RuntimeError if a process cannot be started.
    """
    thread, parsers = threading.local(), list[_Parser]()

    def parse(batch: list[bytes]) -> list[Footer | str]:
        if not hasattr(thread, "parser"):
            thread.parser = _Parser(sorted(texts))
            parsers.append(thread.parser)
        footers: list[Footer | str] = thread.parser.parse(batch)
        return footers

    pool = ThreadPoolExecutor(min(_PROCESSES, os.cpu_count() or 1))
    try:
        waiting = deque([pool.submit(parse, [])])  # a process starts while the first footers are fetched
        for batch in _batches(tails):
            waiting.append(pool.submit(parse, batch))
            if len(waiting) > _PROCESSES:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        for parser in parsers:
            parser.close()


def _batches(tails: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch, size = list[bytes](), 0
    for tail in tails:
        batch.append(tail)
        size += len(tail)
        if len(batch) == _BATCH or size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _ProcessEndedError(Exception):
    """A parser process that has ended. The message has its signal or exit code, and the last line of its stderr."""


class _Parser:
    """A parser process, and the processes that replace it."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        self._start()

    def parse(self, footers: list[bytes]) -> list[Footer | str]:
        """Parse footers in order. A footer that ends the process is retried once in a new process."""
        results: list[Footer | str] = []
        last_ended = -1  # the number of the footer that ended the process last
        while len(results) < len(footers):
            try:
                results.extend(self._request(footers[len(results) :]))
            except _ProcessEndedError as error:
                self._start()
                if last_ended == len(results):
                    results.append(f"parsing its footer ends the process: {error}")
                last_ended = len(results)
        return results

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._stderr.close()

    def _start(self) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(  # noqa: S603  this Python, on a file of this package
            [sys.executable, "-P", footer_parser.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            self._receive()
        except _ProcessEndedError as error:
            raise RuntimeError(f"the process that reads footers does not start: {error}") from None

    def _request(self, footers: list[bytes]) -> Iterator[Footer | str]:
        with suppress(BrokenPipeError):  # then the replies are missing, and _receive raises
            send(self._pipes[0], {"footers": footers, "texts": self._texts})
        schemas: list[pa.Schema] = []
        for _ in footers:
            reply = self._receive()
            if wrong := reply.get("wrong"):
                yield wrong
                continue
            if "new" in reply:
                schemas.append(pa.ipc.read_schema(pa.py_buffer(reply["new"])))
            yield Footer(schemas[reply["schema"]], tuple((rows, size) for rows, size in reply["groups"]))

    @property
    def _pipes(self) -> tuple[BinaryIO, BinaryIO]:
        return cast("tuple[BinaryIO, BinaryIO]", (self._process.stdin, self._process.stdout))

    def _receive(self) -> dict[str, Any]:
        if (message := receive(self._pipes[1])) is not None:
            return message
        code = self._process.wait()
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.close()
        raise _ProcessEndedError(f"{ended}: {lines[-1].strip()}" if lines else ended)
