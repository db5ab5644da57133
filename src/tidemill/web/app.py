"""The application: every request goes the same way, whatever its route.

request -> a name for it -> host and origin -> identify -> query and body as types -> admit -> handler (in a thread)
        -> the answer as the route's type -> JSON with an ETag -> security headers
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import logging
import re
import secrets
import types
import typing
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tidemill.model.access import LOCAL, Principal, Role
from tidemill.model.errors import TidemillError
from tidemill.web import openapi, problems
from tidemill.web.backend import Backend
from tidemill.web.door import Door, shows_something
from tidemill.web.events import Hub
from tidemill.web.kept import Kept, key_of
from tidemill.web.pages import PAGES
from tidemill.web.pages.site import page_routes
from tidemill.web.problems import Unwelcome, bad_request
from tidemill.web.repeats import once
from tidemill.web.routes import TABLE
from tidemill.web.table import LARGEST_ID, WHOLE, Asked, Endpoint, Query, admit, nobody

_log = logging.getLogger("tidemill")

#: Bytes of a body.
LARGEST = 1 << 20
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,80}")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache, private",
}

#: Says who asks; None: nobody that is known. It may read the database where a session or a token was shown.
Identify = Callable[[Request], Principal | None]


def local_only(request: Request) -> Principal | None:
    """Whoever asks from this computer may do everything, and nobody else anything: a server without users."""
    return LOCAL if request.client is not None and request.client.host in ("127.0.0.1", "::1") else None


def make_app(
    backend: Backend, *, door: Door | None = None, identify: Identify = local_only,
    hosts: Iterable[str] | None = LOOPBACK,
) -> Starlette:  # fmt: skip
    """The API of a project.

    Args:
        backend: the project.
        door: lets people and programs in.
        identify: says who asks, where there is no door.
        hosts: names by which the server may be asked for, without ports; None: any. Where no login is needed, a page
            from elsewhere must not reach it by a name of its own.
    """
    app = Starlette(exception_handlers={404: _not_found, 405: _not_found})
    app.router.redirect_slashes = False  # a redirect would be built of the Host that the asker has sent
    app.state.hub = Hub(backend)
    app.state.backend = backend
    served = (*TABLE, _document_endpoint())
    known = None if hosts is None else frozenset(host.lower() for host in hosts)
    gate = _Gate(backend, identify if door is None else door.identify, known, door)
    app.state.kept = gate.kept
    app.router.routes += [Route(one.full_path, gate.route(one), methods=[one.method]) for one in served]
    app.router.routes += page_routes(backend, gate.visitor, PAGES)
    if door is not None:
        app.router.routes += door.routes(gate.see)
    return app


def _document_endpoint() -> Endpoint:
    made: list[bytes] = []

    def show_document(_asked: Asked) -> Response:
        """This document."""
        if not made:
            made.append(msgspec.json.encode(openapi.document((*TABLE, endpoint))))
        return Response(made[0], media_type="application/json")

    endpoint = Endpoint("GET", openapi.PATH, show_document, Role.NONE, nobody, dict, "This document", open=True)
    return endpoint


class _Gate:
    """What every request goes through."""

    def __init__(self, backend: Backend, identify: Identify, hosts: frozenset[str] | None, door: Door | None) -> None:
        self._backend = backend
        self._identify = identify
        self._hosts = hosts
        self._door = door
        self.kept = Kept(backend.metadata.stir())

    def route(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """A route's function."""

        async def serve(request: Request) -> Response:
            given = request.headers.get("x-request-id", "")
            request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
            began = asyncio.get_running_loop().time()
            try:
                response = await self._answer(endpoint, request)
            except TidemillError as error:
                response = problems.answer(error, request_id)
            except ClientDisconnect:
                response = problems.answer(bad_request("The body is not whole."), request_id)
            except Exception:
                _log.exception("request %s: %s %s", request_id, request.method, endpoint.full_path)
                response = problems.defect(request_id)
            _dress(response, request_id)
            if endpoint.changes or response.status_code >= 500:
                took = (asyncio.get_running_loop().time() - began) * 1000
                said = (request_id, request.method, endpoint.full_path, response.status_code, took)
                _log.info("request %s: %s %s -> %d in %.0f ms", *said)
            return response

        return serve

    async def visitor(self, request: Request) -> Principal:
        """Who asks for a page. Raises Unwelcome."""
        self._see_host(request)
        principal = await self._who(request)
        if principal is None:
            raise Unwelcome(401, "Nobody is logged in.", kind="not-logged-in")
        if self._door is not None:
            self._door.see_often(request, principal)
        return principal

    def see(self, request: Request) -> None:
        """Refuse an action that is not for this server, or that another site's page has sent. Raises Unwelcome."""
        self._see_host(request)
        _see_origin(request, self._backend.settings.web.public_url)

    async def _who(self, request: Request) -> Principal | None:
        if shows_something(request):
            return await asyncio.to_thread(self._identify, request)
        return self._identify(request)

    async def _answer(self, endpoint: Endpoint, request: Request) -> Response:
        self._see_host(request)
        if endpoint.changes:
            _see_origin(request, self._backend.settings.web.public_url)
        principal = await self._who(request)
        if principal is None:
            if not endpoint.open:
                raise Unwelcome(401, "Nobody is logged in.", hint="Authorization: Bearer TOKEN", kind="not-logged-in")
            principal = Principal("nobody", Role.NONE)
        elif self._door is not None:
            self._door.see_often(request, principal)
            if endpoint.changes:
                self._door.see_intended(request, principal)
        key, version = None, None
        if endpoint.kept:
            key, version = key_of(request, principal), self.kept.version()
            if version is not None and (found := self.kept.find(key)) is not None:
                return _tagged(request, *found)
        body = await _body_of(request) if endpoint.changes else b""
        asked = Asked(
            request, self._backend, principal, _path_of(request), _query_of(request, endpoint.query),
            _typed_body(endpoint, request, body),
        )  # fmt: skip
        if inspect.iscoroutinefunction(endpoint.handler):
            await asyncio.to_thread(admit, endpoint, asked)
            return _sent(endpoint, request, await endpoint.handler(asked))
        made = await asyncio.to_thread(_handled, endpoint, asked, body, self._door)
        if key is not None:
            self.kept.keep(key, version, made)
        return made

    def _see_host(self, request: Request) -> None:
        """Refuse names that are not the server's."""
        name = re.sub(r":\d+$", "", request.headers.get("host", "").lower())
        if self._hosts is not None and name not in self._hosts:
            raise Unwelcome(421, "The server does not go by that name.", hint="[web] host", kind="wrong-host")


def _see_origin(request: Request, public_url: str | None) -> None:
    """Refuse actions that another site's page has sent. A proxy may ask by another name than browsers do."""
    crossed = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    origin = request.headers.get("origin")
    known = (public_url, f"{(origin or '').partition('://')[0]}://{request.headers.get('host', '')}".lower())
    if crossed or (origin is not None and origin.lower() not in known):
        raise Unwelcome(403, "Another site's page cannot act here.", kind="cross-site")


def _handled(endpoint: Endpoint, asked: Asked, body: bytes, door: Door | None) -> Response:
    """Admit, act, and make the answer; in a thread."""
    try:
        admit(endpoint, asked)
    except Unwelcome as error:
        if door is not None and endpoint.changes:
            door.refused(endpoint, asked, error.what)
        raise
    if endpoint.changes:

        def act() -> Any:
            with nullcontext() if door is None else door.noted(endpoint, asked):
                return msgspec.to_builtins(_as(endpoint, endpoint.handler(asked)))

        return Response(msgspec.json.encode(once(endpoint, asked, body, act)), media_type="application/json")
    return _sent(endpoint, asked.request, endpoint.handler(asked))


def _sent(endpoint: Endpoint, request: Request, found: Any) -> Response:
    """What a handler has given, as a response."""
    if isinstance(found, Response):
        return found
    content = msgspec.json.encode(_as(endpoint, found))
    tag = f'"{hashlib.blake2b(content, digest_size=12).hexdigest()}"'
    return _tagged(request, tag, content)


def _tagged(request: Request, tag: str, content: bytes) -> Response:
    if tag in re.findall(r'"[^"]*"', request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(content, headers={"ETag": tag}, media_type="application/json")


def _as(endpoint: Endpoint, found: Any) -> Any:
    """An answer as the type that the document says."""
    if endpoint.gives is dict:
        return found
    return msgspec.convert(found, endpoint.gives, from_attributes=True)


def _path_of(request: Request) -> Mapping[str, Any]:
    for name, value in request.path_params.items():
        if isinstance(value, int) and not 0 < value <= LARGEST_ID:
            raise Unwelcome(404, f"There is no {name.removesuffix('_id')} {value}.", kind="unknown-name")
        if isinstance(value, str) and "\0" in value:
            raise bad_request(f"{name} has a null character.")
    return request.path_params


def _query_of(request: Request, kind: type[Query]) -> Query:
    """The query string as the route's type."""
    wanted = {one.name: one.type for one in msgspec.structs.fields(kind)}
    found: dict[str, Any] = {}
    for name in request.query_params:
        values = request.query_params.getlist(name)
        if any("\0" in value for value in values):
            raise bad_request(f'Parameter "{name}" has a null character.')
        if name in wanted and _is_list(wanted[name]):
            parts = values if _is_whole(wanted[name]) else [part for value in values for part in value.split(",")]
            found[name] = [part for part in parts if part]
        elif len(values) > 1:
            raise bad_request(f'Parameter "{name}" was given {len(values)} times.')
        else:
            found[name] = values[0]
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        hint = f"known: {', '.join(wanted)}" if wanted else "this takes no parameters"
        raise bad_request(f"{_plain(error)}.", hint) from None


def _is_list(kind: Any) -> bool:
    while typing.get_origin(kind) is typing.Annotated:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return any(_is_list(one) for one in typing.get_args(kind))
    return typing.get_origin(kind) is list


def _is_whole(kind: Any) -> bool:
    """Whether the elements of a list are given one by one, as they may have commas."""
    return any(isinstance(one, Meta) and one.extra == WHOLE for one in getattr(kind, "__metadata__", ()))


async def _body_of(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise Unwelcome(413, f"The body has more than {LARGEST >> 20} MB.", kind="too-large")
    return bytes(body)


def _typed_body(endpoint: Endpoint, request: Request, body: bytes) -> Any:
    if endpoint.body is None:
        if body.strip() not in (b"", b"{}"):
            raise bad_request("This takes no body.")
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and kind != "application/json":
        raise Unwelcome(415, "The body must be JSON.", hint="Content-Type: application/json", kind="media-type")
    try:
        return msgspec.json.decode(body or b"{}", type=endpoint.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bad_request(f"The body does not fit: {_plain(error)}.") from None


def _plain(error: Exception) -> str:
    text = str(error).rstrip(".")
    return text.replace(" - at `$.", " in `").replace(" - at `$", " in `$")


def _dress(response: Response, request_id: str) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers["X-Request-Id"] = request_id


async def _not_found(request: Request, error: Exception) -> Response:
    """What the router finds no route for."""
    request_id = secrets.token_hex(8)
    if getattr(error, "status_code", 404) == 405:
        made: TidemillError = Unwelcome(405, "That cannot be asked with this method.", kind="method")
    else:
        made = Unwelcome(404, "There is nothing at this address.", hint=f"/api/v1{openapi.PATH}", kind="unknown-path")
    response = problems.answer(made, request_id)
    response.headers.update(getattr(error, "headers", None) or {})  # which methods are allowed
    _dress(response, request_id)
    return response
