"""A small HTTP server by which others begin runs: `POST /hooks/<pipeline>` with a token, and a JSON object for the run.

202 {"run_id": 7, "batch_id": 3}        asked for, or asked for before under the same Idempotency-Key
400 no JSON object   401 no or a wrong token   404 no such pipeline, or one without the schedule "@webhook"
409 the batch has a run that has not ended     413 more than 1 MB     503 the database does not answer
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
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from tidemill.model.errors import Busy, TidemillError, UnknownName, Unreachable

#: Bytes of a body.
LARGEST = 1 << 20

_log = logging.getLogger("tidemill")


class _Server(uvicorn.Server):
    """One that leaves signals to its process, which has handlers of its own."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HookServer:
    """Serves until it is stopped, in the running loop.

    Args:
        host, port: where it listens.
        token: what callers must show, as `Authorization: Bearer <token>`.
        begin: asks for a run, given the pipeline, the caller's key or None, and the parameters; returns what the
            caller is told. It is called in a thread beside the loop.
    """

    def __init__(
        self,
        host: str,
        port: int,
        token: str,
        begin: Callable[[str, str | None, Mapping[str, Any]], Mapping[str, Any]],
    ) -> None:
        self._token = token
        self._begin = begin
        app = Starlette(routes=[Route("/hooks/{pipeline}", self._hook, methods=["POST"])])
        config = uvicorn.Config(app, host=host, port=port, log_level="warning", lifespan="off", access_log=False)
        self._server = _Server(config)

    async def serve(self) -> None:
        """Listen and answer."""
        await self._server.serve()

    def stop(self) -> None:
        """Answer what was asked, and end."""
        self._server.should_exit = True

    async def _hook(self, request: Request) -> JSONResponse:
        shown = request.headers.get("authorization", "")
        if not hmac.compare_digest(shown.encode(), f"Bearer {self._token}".encode()):
            return _answer(401, "The token is missing or wrong.")
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > LARGEST:
                return _answer(413, "The body has more than 1 MB.")
        try:
            given = json.loads(body) if body.strip() else {}
        except ValueError:
            return _answer(400, "The body is no JSON.")
        if not isinstance(given, dict):
            return _answer(400, "The body is no JSON object.")
        key = request.headers.get("idempotency-key")
        try:
            made = await asyncio.to_thread(self._begin, request.path_params["pipeline"], key, given)
        except UnknownName as error:
            return _answer(404, error.what)
        except Busy as error:
            return _answer(409, error.what)
        except Unreachable as error:
            return _answer(503, error.what)
        except TidemillError as error:
            return _answer(400, error.what)
        return JSONResponse(dict(made), status_code=202)


def _answer(code: int, what: str) -> JSONResponse:
    return JSONResponse({"error": what}, status_code=code)
