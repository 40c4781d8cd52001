"""A fault proxy before the S3 server: a process of its own that streams requests through, and harms those it is told to.

Signatures cover the Host header, which goes through unchanged: clients use the proxy's address as their endpoint.
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

BEFORE = ("slow_down", "error", "reset_before", "stall", "delay")  # not forwarded, but for delay
AFTER = ("reset_after", "error_after")  # done by the server, but the client does not know
IN_BODY = ("reset_body", "stall_body", "short", "truncated")  # of answers to GET
ANY = (*BEFORE, *AFTER, *IN_BODY)
HOLDS = ("hold_before", "hold_after")  # until `Proxy.release`


@dataclass(frozen=True)
class Rule:
    """What is done to which requests; the first rule that matches and draws is taken.

    slow_down: 503 SlowDown; error: 500; error_after: 500 though it was done; reset_before, reset_after: the connection,
    before the request is forwarded and after the server did it; stall: no answer, nothing done; delay: then as usual;
    reset_body, stall_body: after half of the body; short: a clean end after half of what Content-Length says; truncated:
    half a body with a Content-Length that fits it; hold_before, hold_after: waits for `Proxy.release`.

    kinds: one is drawn, of those that fit the method; method, path: regular expressions, path is searched in path and
    query; rate: how many of the matching requests; skip: so many matching ones go free first; times: at most;
    seconds: of a stall or a delay.
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
    """A running proxy, steered from any process that knows its endpoint."""

    endpoint: str

    def rules(self, *rules: Rule) -> None:
        """From now on these, and no others."""
        self._call("rules", [asdict(rule) for rule in rules])

    def counts(self) -> dict[str, int]:
        """Requests in all, and how many were harmed, by kind."""
        counts: dict[str, int] = self._call("counts")
        return counts

    def harmed(self) -> list[tuple[str, str, str]]:
        """Kind, method, and path with query, of what was harmed so far."""
        return [(kind, method, path) for kind, method, path in self._call("harmed")]

    def puts(self) -> dict[str, int]:
        """How often each object was put, whether its client knows or not, by path."""
        puts: dict[str, int] = self._call("puts")
        return puts

    def held(self) -> list[str]:
        """Method and path of the requests that wait for `release`."""
        held: list[str] = self._call("held")
        return held

    def wait_held(self, patience: float = 60.0) -> str:
        """Method and path of a request that is held, as soon as there is one. Raises TimeoutError."""
        for _ in range(int(patience * 50)):
            if held := self.held():
                return held[0]
            time.sleep(0.02)
        raise TimeoutError("no request was held")

    def release(self, *, go: bool = False) -> None:
        """What is held goes on, or else its connection is reset."""
        self._call("release", go)

    def _call(self, name: str, value: object = None) -> Any:
        request = urllib.request.Request(f"{self.endpoint}/_proxy/{name}", json.dumps(value).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@contextmanager
def fault_proxy(upstream: str, seed: int = 0) -> Iterator[Proxy]:
    """Runs while the block runs, before the server at the endpoint `upstream`."""
    command = [sys.executable, "-m", "tests.proxying", upstream, str(seed)]
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield Proxy(process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()
