"""A fault proxy in front of the S3 server. It runs in a process of its own, and its rules select the faults.

Clients use the address of the proxy as their endpoint. The proxy forwards the Host header, which signatures cover.
"""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BEFORE = ("slow_down", "error", "reset_before", "stall", "delay")  # the request is not forwarded, except after a delay
AFTER = ("reset_after", "error_after")  # the server has processed the request, but the client gets no answer
IN_BODY = ("reset_body", "stall_body", "short", "truncated")  # in the body of an answer to GET
ANY = (*BEFORE, *AFTER, *IN_BODY)
HOLDS = ("hold_before", "hold_after")  # the request is held until `Proxy.release`


@dataclass(frozen=True)
class Rule:
    """The faults of the requests that match. The first rule that matches and is drawn applies.

    Kinds of faults:
    slow_down: 503 SlowDown without forwarding. error: 500 without forwarding.
    error_after: 500 after the server has processed the request.
    reset_before, reset_after: a reset of the connection before forwarding, or after the server's processing.
    stall: no forwarding and no answer. delay: a pause before normal forwarding.
    reset_body, stall_body: a reset or a stall after half of the body.
    short: a clean end of the connection after half of the bytes of Content-Length.
    truncated: half of the body, with a Content-Length of that half.
    hold_before, hold_after: the request, or its answer, waits for `Proxy.release`.

    kinds: the kinds to draw from; those that do not fit the method are left out. method: a regular expression that
    matches the whole method. path: a regular expression that is searched in the path with its query. rate: the share of
    the matching requests that get a fault. skip: the number of matching requests that get no fault first. times: the
    largest number of faults. seconds: the length of a stall or a delay.
    """

    kinds: Sequence[str]
    method: str = ""
    path: str = ""
    rate: float = 1.0
    skip: int = 0
    times: int | None = None
    seconds: float = 600.0


@dataclass(frozen=True)
class Proxy:
    """A running proxy. Any process that has its endpoint can control it."""

    endpoint: str

    def rules(self, *rules: Rule) -> None:
        """Replace all rules."""
        self._call("rules", [asdict(rule) for rule in rules])

    def counts(self) -> dict[str, int]:
        """Return the number of requests as "requests", and the number of faults by kind."""
        counts: dict[str, int] = self._call("counts")
        return counts

    def faults(self) -> list[tuple[str, str, str]]:
        """Return the kind, the method and the path with its query of each fault so far."""
        return [(kind, method, path) for kind, method, path in self._call("faults")]

    def writes(self) -> dict[str, int]:
        """Return the number of writes of each object by path, with those whose client got no answer."""
        writes: dict[str, int] = self._call("writes")
        return writes

    def held(self) -> list[str]:
        """Return the method and the path of each request that waits for `release`."""
        requests: list[str] = self._call("held")
        return requests

    def wait_held(self, seconds: float = 60.0) -> str:
        """Wait until a request is held. Return its method and path. Raises TimeoutError after some seconds."""
        for _ in range(int(seconds * 50)):
            if requests := self.held():
                return requests[0]
            time.sleep(0.02)
        raise TimeoutError("no request was held")

    def release(self, *, go: bool = False) -> None:
        """Let the held requests continue, or reset their connections. go: whether they continue."""
        self._call("release", go)

    def _call(self, name: str, value: object = None) -> Any:
        request = urllib.request.Request(f"{self.endpoint}/_proxy/{name}", json.dumps(value).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def fault_proxy(upstream: str, seed: int = 0) -> Iterator[Proxy]:
    """Run a proxy during the block. upstream: the endpoint of the server."""
    command = [sys.executable, "-m", "tests.proxy_process", upstream, str(seed)]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield Proxy(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()
