"""A small HTTP server by which others begin runs, `POST /hooks/<pipeline>` with a token and a JSON object for the run,
and hand over what a batch loads: `POST /feeds/<pipeline>/<source>` with JSON, or JSON Lines.

202 {"run_id": 7, "batch_id": 3}        asked for, or asked for before under the same Idempotency-Key
400 no JSON object   401 no token or signature, or a wrong one
404 no such pipeline, or one without the schedule "@webhook"
409 the batch has a run that has not ended     413 more than 1 MB     503 the database does not answer
Of feeds: 202 {"number": 12} once the body is on the disk, with "run_id" where the pipeline runs by calls, 404 no such
webhook, 409 the key was another body's, 413 more than 16 MB
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tidemill.adapters.webhook.bodies import split
from tidemill.adapters.webhook.signature import HEADER
from tidemill.model.errors import Busy, Refused, TidemillError, UnknownName, Unreachable

#: Bytes of a body.
LARGEST = 1 << 20
LARGEST_FEED = 16 << 20

_log = logging.getLogger("tidemill")


#: Sees that a known sender has signed, given headers and body, and says what names the delivery.
Sender = Callable[[Mapping[str, str], bytes], str | None]


class PlainServer(uvicorn.Server):
    """One that leaves signals to its process, which has handlers of its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Change no handler."""
        yield


class HookServer:
    """Serves until it is stopped, in the running loop.

    Args:
        host, port: where it listens.
        token: what callers must show, as `Authorization: Bearer <token>`.
        begin: asks for a run, given the pipeline, the caller's key or None, and the parameters; returns what the
            caller is told. It is called in a thread beside the loop.
        keep: keeps what is posted for a feed, given the pipeline, its source, the caller's key or None, the body, and
            whether the key is a known sender's name of the delivery; returns what the caller is told. In a thread, too.
        signed: where calls are signed with the token: sees that one is, given the header and the body; raises Refused.
            The token itself, shown, is then refused. It is called in a thread, too.
        senders: feeds whose sender signs in its own way, by "pipeline.source": given the headers and the body, says
            what names the delivery; raises Refused. Neither token nor `signed` opens these. Called in a thread, too.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        begin: Callable[[str, str | None, Mapping[str, Any]], Mapping[str, Any]],
        keep: Callable[[str, str, str | None, bytes, bool], Mapping[str, Any]],
        signed: Callable[[str | None, bytes], None] | None = None,
        senders: Mapping[str, Sender] | None = None,
    ) -> None:
        self._token = token
        self._signed = signed
        self._senders = senders or {}
        self._begin = begin
        self._keep = keep
        app = Starlette(
            routes=[
                Route("/hooks/{pipeline}", self._hook, methods=["POST"]),
                Route("/feeds/{pipeline}/{source}", self._feed, methods=["POST"]),
            ]
        )
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off", access_log=False)
        self._server = PlainServer(config)

    async def serve(self) -> None:
        """Listen and answer."""
        await self._server.serve()

    def stop(self) -> None:
        """Answer what was asked, and end."""
        self._server.should_exit = True

    async def _hook(self, request: Request) -> JSONResponse:
        body = await self._body(request, LARGEST)
        if isinstance(body, JSONResponse):
            return body
        try:
            given = json.loads(body) if body.strip() else {}
        except ValueError:
            return _answer(400, "The body is no JSON.")
        if not isinstance(given, dict):
            return _answer(400, "The body is no JSON object.")
        key = request.headers.get("idempotency-key")
        return await _done(self._begin, request.path_params["pipeline"], key, given)

    async def _feed(self, request: Request) -> JSONResponse:
        path, key = request.path_params, request.headers.get("idempotency-key")
        sender = self._senders.get(f"{path['pipeline']}.{path['source']}")
        if sender is None:
            body = await self._body(request, LARGEST_FEED)
        else:
            body = await self._read(request, LARGEST_FEED)
        if isinstance(body, JSONResponse):
            return body
        if sender is not None:
            try:
                key = await asyncio.to_thread(sender, request.headers, body)
            except Refused as error:
                return _answer(401, error.what)
            except Unreachable as error:
                return _answer(503, error.what)
        try:
            split(body)
        except ValueError as error:
            return _answer(400, str(error))
        return await _done(self._keep, path["pipeline"], path["source"], key, body, sender is not None)

    async def _body(self, request: Request, largest: int) -> bytes | JSONResponse:
        """The body of a caller who shows the token or signs with it, or why it is not taken."""
        shown = request.headers.get("authorization", "")
        if self._signed is None and not hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
            return _answer(401, "The token is missing or wrong.")
        if self._signed is not None and HEADER not in request.headers:
            return _answer(401, "The call is not signed.")
        body = await self._read(request, largest)
        if isinstance(body, JSONResponse):
            return body
        if self._signed is not None:
            try:
                await asyncio.to_thread(self._signed, request.headers[HEADER], body)
            except Refused as error:
                return _answer(401, error.what)
            except Unreachable as error:
                return _answer(503, error.what)
        return body

    async def _read(self, request: Request, largest: int) -> bytes | JSONResponse:
        """The body, or why it is not whole."""
        body = bytearray()
        try:
            async for part in request.stream():
                body += part
                if len(body) > largest:
                    return _answer(413, f"The body has more than {largest >> 20} MB.")
        except ClientDisconnect:
            return _answer(400, "The body is not whole.")
        return bytes(body)


async def _done(act: Callable[..., Mapping[str, Any]], *given: Any) -> JSONResponse:
    """What was asked for, done in a thread, as an answer."""
    try:
        made = await asyncio.to_thread(act, *given)
    except UnknownName as error:
        return _answer(404, error.what)
    except (Busy, Refused) as error:
        return _answer(409, error.what)
    except Unreachable as error:
        return _answer(503, error.what)
    except TidemillError as error:
        return _answer(400, error.what)
    return JSONResponse(dict(made), status_code=202)


def _answer(code: int, what: str) -> JSONResponse:
    return JSONResponse({"error": what}, status_code=code)
