"""Footers of a corpus, read in processes of their own, of which a hostile footer may end one, and no more."""

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

_BATCH, _BATCH_BYTES = 512, 2**24  # footers of a request, and about how many bytes
_PROCESSES = 8  # at most: one reads what a fast store sends


@dataclass(frozen=True)
class Footer:
    """What a plan needs of a shard. groups: (rows, uncompressed bytes of text) of each row group."""

    schema: pa.Schema
    groups: tuple[tuple[int, int], ...]


def parse_footers(tails: Iterable[bytes], texts: Collection[str]) -> Iterator[Footer | str]:
    """Of each file's last bytes its footer, or what is wrong with it; texts: the columns whose bytes count.

    Processes are started as they are needed, the first at once; one that a footer has ended is replaced. Raises RuntimeError if such a process cannot be started.
    """
    own, parsers = threading.local(), list[_Parser]()

    def parse(batch: list[bytes]) -> list[Footer | str]:
        if not hasattr(own, "parser"):
            own.parser = _Parser(sorted(texts))
            parsers.append(own.parser)
        found: list[Footer | str] = own.parser.parse(batch)
        return found

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
        for each in parsers:
            each.close()


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


class _DiedError(Exception):
    """A process that reads footers has ended: how."""


class _Parser:
    """A process that reads footers, and its successors."""

    def __init__(self, texts: list[str]) -> None:
        self._texts = texts
        self._start()

    def parse(self, footers: list[bytes]) -> list[Footer | str]:
        """One by one; a footer that ends the process gets another chance."""
        found: list[Footer | str] = []
        last = -1  # which footer ended the process last
        while len(found) < len(footers):
            try:
                found.extend(self._ask(footers[len(found) :]))
            except _DiedError as died:
                self._start()
                if last == len(found):
                    found.append(f"reading it ends the process: {died}")
                last = len(found)
        return found

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def _start(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        self._process = subprocess.Popen(  # noqa: S603  this Python, on our own file
            [sys.executable, "-P", footer_parser.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        try:
            self._receive()
        except _DiedError as died:
            raise RuntimeError(f"the process that reads footers does not start: {died}") from None

    def _ask(self, footers: list[bytes]) -> Iterator[Footer | str]:
        with suppress(BrokenPipeError):  # the replies are missing, too
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
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip().splitlines()
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.close()
        raise _DiedError(f"{ended}: {words[-1].strip()}" if words else ended)
