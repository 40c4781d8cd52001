"""The process of `tests.proxy.fault_proxy`: `python -m tests.proxy_process UPSTREAM SEED` prints its endpoint."""

import asyncio
import random
import re
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from tests.proxy import IN_BODY, Rule

_XML = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>{}</Message></Error>'
_NOT_FORWARDED = {"connection", "expect", "keep-alive", "transfer-encoding"}
_FAULTS_KEPT = 10_000


class _Handler:
    """The handler of all requests. It streams requests and bodies, and applies faults."""

    def __init__(self, upstream: str, seed: int) -> None:
        self.upstream, self.draw = upstream, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.faults: list[tuple[str, str, str]] = []
        self.held: list[tuple[str, asyncio.Future[bool]]] = []
        self.set_rules([])

    def set_rules(self, rules: list[dict[str, Any]]) -> None:
        self.rules = [Rule(**rule) for rule in rules]
        self.matched, self.applied = [0] * len(rules), [0] * len(rules)

    async def control(self, request: web.Request) -> web.Response:
        value = await request.json()
        answer: object = None
        match request.match_info["name"]:
            case "rules":
                self.set_rules(value)
            case "counts":
                answer = self.counts
            case "faults":
                answer = self.faults
            case "writes":
                answer = self.writes
            case "held":
                answer = [label for label, _ in self.held]
            case "release":
                for _, future in self.held:
                    future.set_result(value)
                self.held = []
        return web.json_response(answer)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.counts["requests"] += 1
        kind, seconds = self._fault(request)
        if kind:
            self.counts[kind] += 1
            self.faults = [*self.faults[-_FAULTS_KEPT:], (kind, request.method, request.raw_path)]
        match kind:
            case "slow_down":
                return await _error_answer(request, 503, "SlowDown", "Please reduce your request rate.")
            case "error":
                return await _error_answer(request, 500, "InternalError", "We encountered an internal error.")
            case "reset_before":
                return _reset(request)
            case "stall":
                await _stay_silent(request, seconds)
                return _reset(request)
            case "delay":
                await asyncio.sleep(seconds)
            case "hold_before":
                if not await self._hold(request):
                    return _reset(request)
        return await self._forward(request, kind, seconds)

    def _fault(self, request: web.Request) -> tuple[str, float]:
        """Choose the kind of fault of a request, and the seconds of it. The kind is empty if no rule applies."""
        for i, rule in enumerate(self.rules):
            kinds = [kind for kind in rule.kinds if kind not in IN_BODY or request.method == "GET"]
            fits = re.fullmatch(rule.method or ".*", request.method) and re.search(rule.path, request.raw_path)
            if not kinds or not fits:
                continue
            self.matched[i] += 1
            exhausted = rule.times is not None and self.applied[i] >= rule.times
            if self.matched[i] > rule.skip and not exhausted and self.draw.random() < rule.rate:
                self.applied[i] += 1
                return self.draw.choice(kinds), rule.seconds
        return "", 0.0

    async def _hold(self, request: web.Request) -> bool:
        """Hold a request until it is released. Return whether it may continue."""
        future = asyncio.get_running_loop().create_future()
        self.held.append((f"{request.method} {request.raw_path}", future))
        return bool(await future)

    async def _forward(self, request: web.Request, kind: str, seconds: float) -> web.StreamResponse:
        url = URL(self.upstream + request.raw_path, encoded=True)
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _NOT_FORWARDED]
        body = request.content if request.body_exists else None
        # a new connection for each request: on one from before a restart of the server, the request would be sent twice
        connector = aiohttp.TCPConnector(force_close=True)
        skip = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector, auto_decompress=False, skip_auto_headers=skip, timeout=aiohttp.ClientTimeout()
                ) as session,
                session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer,
            ):
                self.writes[request.path] += request.method == "PUT" and answer.ok
                if kind == "reset_after":
                    return _reset(request)
                if kind == "error_after":
                    return await _error_answer(request, 500, "InternalError", "We encountered an internal error.")
                if kind == "hold_after" and not await self._hold(request):
                    return _reset(request)
                return await _stream_answer(request, answer, kind, seconds)
        except (aiohttp.ClientError, OSError):  # the server is down: its client gets a reset as well
            return _reset(request)


async def _stream_answer(
    request: web.Request, answer: aiohttp.ClientResponse, kind: str, seconds: float
) -> web.StreamResponse:
    """Stream the answer of the server to the client, or half of it."""
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    response.headers.extend((n, v) for n, v in answer.headers.items() if n.lower() not in _NOT_FORWARDED)
    if kind not in IN_BODY:
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response
    body = await answer.read()
    half = body[: len(body) // 2]
    response.headers["Content-Length"] = str(len(half if kind == "truncated" else body))
    await response.prepare(request)
    await response.write(half)
    if kind == "stall_body":
        await _stay_silent(request, seconds)
    if kind == "short" and request.transport:
        request.transport.close()
    elif kind != "truncated":
        await asyncio.sleep(0.05)  # a reset discards bytes that the client has not read yet
        _reset(request)
    return response


async def _error_answer(request: web.Request, status: int, code: str, message: str) -> web.Response:
    with suppress(OSError):
        await request.read()
    return web.Response(status=status, text=_XML.format(code, message), content_type="application/xml")


def _reset(request: web.Request) -> web.Response:
    """End the connection with RST, as a rebooted host does. The returned response is never sent."""
    if request.transport:
        connection: socket.socket = request.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response(status=500)


async def _stay_silent(request: web.Request, seconds: float) -> None:
    """Wait for some seconds, or until the client closes the connection."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and request.transport and not request.transport.is_closing():
        await asyncio.sleep(0.05)


async def _serve(upstream: str, seed: int) -> None:
    handler = _Handler(upstream, seed)
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/_proxy/{name}", handler.control)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until the parent process ends


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
