"""Port `live`: what others POST. An answer is given once the messages are kept: committed, with everything else.

202 {"messages": 3}                  kept
400 no JSON   401 no or a wrong token   403 a web page asks   408 it came too slowly   413 more bytes than allowed
503 too much waits, or it is not known whether it was kept: ask again
"""

from __future__ import annotations

import asyncio
import hmac
import queue
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tidemill.adapters.webhook.bodies import split
from tidemill.adapters.webhook.server import PlainServer
from tidemill.model.errors import Unreachable
from tidemill.model.live import HttpPush
from tidemill.ports.live import Taken

#: Messages that are given at a time; calls, and their bytes, that may wait.
_MOST = 20_000
_CALLS, _BYTES = 1_000, 64 << 20
#: Seconds in which a body must have come, and messages must be kept.
_SLOW, _KEPT = 20.0, 30.0
#: Seconds for the server to begin, and to end.
_PATIENCE = 10.0


@dataclass(slots=True, eq=False)
class _Call:
    """Messages of one request, and who waits for them."""

    values: Sequence[bytes]
    size: int
    kept: asyncio.Future[bool]
    #: Nobody waits any more: it must not be given, where it was not yet.
    is_over: bool = False


class HttpLive:
    """The port over an HTTP server.

    Args:
        spec: where it listens.
        token: what callers must show; None: nothing.
        as_json: bodies are JSON, and may have several messages; otherwise each is a message.
    """

    def __init__(self, spec: HttpPush, token: str | None, as_json: bool) -> None:
        self._spec = spec
        self._token = token
        self._as_json = as_json

    def open(self, position: Any) -> HttpReading:
        """Listen. Raises Unreachable: the port is taken."""
        return HttpReading(self._spec, self._token, self._as_json)


class HttpReading:
    """A server that listens, in a thread of its own."""

    def __init__(self, spec: HttpPush, token: str | None, as_json: bool) -> None:
        self._spec = spec
        self._token = token
        self._as_json = as_json
        self._inbox: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._given: list[_Call] = []
        #: Of the server's thread only.
        self._waiting = self._bytes = 0
        self._ending = False
        family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
        try:
            self._socket = socket.create_server((spec.host, spec.port), family=family, backlog=128)
        except OSError as error:
            raise Unreachable(
                f"Nobody can listen at {spec.host}:{spec.port}: {error.strerror or error}.",
                hint="each topic that is fed by HTTP needs a port of its own",
            ) from None
        app = Starlette(routes=[Route(spec.path, self._post, methods=["POST"])])
        config = uvicorn.Config(
            app, log_level="warning", lifespan="off", access_log=False, timeout_graceful_shutdown=2,
            limit_concurrency=2 * _CALLS, server_header=False,
        )  # fmt: skip
        self._server = PlainServer(config)
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"http-{spec.port}", daemon=True)
        self._thread.start()
        self._begun.wait(_PATIENCE)

    def read(self, timeout: float) -> Taken | None:
        """What has been posted."""
        values: list[bytes] = []
        wait = timeout
        while len(values) < _MOST:
            try:
                call = self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait()
            except queue.Empty:
                break
            if not call.is_over:
                self._given.append(call)
                values += call.values
            wait = 0.0
        return Taken(None, values) if values else None

    def committed(self) -> None:
        """Tell those who wait."""
        given, self._given = self._given, []
        self._answer(given, kept=True)

    def close(self) -> None:
        """Listen no more; who waits is told that it is not known whether it was kept."""
        self._ending = True
        given, self._given = self._given, []
        with suppress(queue.Empty):
            while True:
                given.append(self._inbox.get_nowait())
        self._answer(given, kept=False)
        self._server.should_exit = True
        self._thread.join(_PATIENCE)
        self._socket.close()

    def _answer(self, calls: Sequence[_Call], *, kept: bool) -> None:
        def answer() -> None:
            for call in calls:
                if not call.kept.done():
                    call.kept.set_result(kept)

        if calls:
            with suppress(RuntimeError):  # the server has ended, and nobody waits
                self._loop.call_soon_threadsafe(answer)

    def _run(self) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._begun.set()
            await self._server.serve([self._socket])

        asyncio.run(serve())

    async def _post(self, request: Request) -> JSONResponse:
        refused = self._refused(request)
        if refused is not None:
            return refused
        try:
            async with asyncio.timeout(_SLOW):
                body = await self._body(request)
        except TimeoutError:
            return _told(408, f"The body has not come within {_SLOW:g} seconds.")
        except ClientDisconnect:
            return _told(400, "The body is not whole.")
        if body is None:
            return _told(413, f"The body has more than {self._spec.largest:,} bytes.")
        try:
            values = split(body) if self._as_json else [body]
        except ValueError as error:
            return _told(400, str(error))
        if not values:
            return JSONResponse({"messages": 0}, status_code=202)
        if self._ending or self._waiting >= _CALLS or self._bytes + len(body) > _BYTES:
            return _told(503, "Too much waits.")
        return await self._keep(_Call(values, len(body), asyncio.get_running_loop().create_future()))

    async def _keep(self, call: _Call) -> JSONResponse:
        """Hand messages over, and wait until they count."""
        self._waiting, self._bytes = self._waiting + 1, self._bytes + call.size
        self._inbox.put(call)
        try:
            async with asyncio.timeout(_KEPT):
                kept = await call.kept
        except TimeoutError:
            kept = False
        finally:
            call.is_over = True
            self._waiting, self._bytes = self._waiting - 1, self._bytes - call.size
        if not kept:
            return _told(503, "It is not known whether this was kept.")
        return JSONResponse({"messages": len(call.values)}, status_code=202)

    def _refused(self, request: Request) -> JSONResponse | None:
        """Who may not ask at all."""
        if self._token is not None:
            shown = request.headers.get("authorization", "")
            if not hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
                return _told(401, "The token is missing or wrong.")
        elif "origin" in request.headers:
            # A browser sends forms to loopback for any page that is open in it, and says for which.
            return _told(403, "Web pages may write this topic only with a token.")
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._spec.largest:
            return _told(413, f"The body has more than {self._spec.largest:,} bytes.")
        return None

    async def _body(self, request: Request) -> bytes | None:
        """The body; None: it is too large."""
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > self._spec.largest:
                return None
            parts.append(part)
        return b"".join(parts)


def _told(code: int, what: str) -> JSONResponse:
    headers = {"Retry-After": "1"} if code == 503 else None
    return JSONResponse({"error": what}, status_code=code, headers=headers)
