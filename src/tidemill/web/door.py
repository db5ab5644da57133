"""The door: who comes in by a session, a token, or from this computer; logging in and out; what is done is on record.

request -> cookie or token -> wiring/access -> Principal -> (actions) the session's second value -> the audit log
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tidemill.flow.access import LoginRefused, csrf_of, is_csrf
from tidemill.model.access import LOCAL, Principal
from tidemill.model.errors import TidemillError
from tidemill.web import problems
from tidemill.web.problems import Unwelcome, bad_request
from tidemill.web.table import Asked, Endpoint
from tidemill.wiring.access import Asker, ProjectAccess, is_from_here
from tidemill.wiring.web_settings import WebSettings

COOKIE = "tidemill_session"
CSRF = "x-csrf-token"
#: Bytes of what a login sends.
_LARGEST = 10_000
#: Of a list in a body, so many are put on record.
_NOTED = 100
_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class Login(Struct, forbid_unknown_fields=True):
    """What somebody types."""

    user: Annotated[str, Meta(min_length=1, max_length=200)]
    password: Annotated[str, Meta(min_length=1, max_length=4000)]


class Door:
    """Lets people and programs in.

    Args:
        access: users, sessions, tokens, the log.
        web: where the server listens, and what browsers call it.
    """

    def __init__(self, access: ProjectAccess, web: WebSettings) -> None:
        self.access = access
        self._host = web.host
        # What a request says of the way before the proxy is anybody's to write; the settings are the owner's.
        self._secure = web.is_https

    def identify(self, request: Request) -> Principal | None:
        """Who asks; None: nobody who is known. It reads the database where something was shown."""
        here = is_from_here(request.headers.get("host"), is_forwarded=any(h in request.headers for h in _FORWARDED))
        here = here and _address(request) in ("127.0.0.1", "::1")
        shown = request.headers.get("authorization"), request.cookies.get(COOKIE)
        return self.access.who(self._host, *shown, from_here=here)

    def see_often(self, request: Request, principal: Principal) -> None:
        """Refuse whoever asks too often. On one's own computer nobody is counted. Raises Unwelcome."""
        if principal is LOCAL:
            return
        wait = self.access.requests.wait(f"user {principal.name}" if principal.name else f"address {_address(request)}")
        if wait:
            raise _too_often(wait)

    def see_intended(self, request: Request, principal: Principal) -> None:
        """See that an action by a session comes from a page of that session. Raises Unwelcome."""
        session = request.cookies.get(COOKIE)
        if principal is LOCAL or session is None or "authorization" in request.headers:
            return
        if not is_csrf(session, request.headers.get(CSRF)):
            raise Unwelcome(403, "The page that sent this is an old one.", hint="load it again", kind="csrf")

    @contextmanager
    def noted(self, endpoint: Endpoint, asked: Asked) -> Iterator[None]:
        """Around an action: that it begins, and how it ends, is in the audit log. What only asks is not."""
        if getattr(asked.query, "dry_run", False):
            yield
            return
        by, target = self.asker(asked.request, asked.principal), asked.request.url.path.removeprefix("/api/v1")
        detail = {name: _short(getattr(asked.body, name)) for name in endpoint.notes}
        with self.access.audit.noted(by, endpoint.action, target[:200], asked.path.get("pipeline"), detail):
            yield

    def refused(self, endpoint: Endpoint, asked: Asked, why: str) -> None:
        """Note that somebody wanted to do what they may not."""
        by, target = self.asker(asked.request, asked.principal), asked.request.url.path.removeprefix("/api/v1")
        self.access.audit.refused(by, endpoint.action, target[:200], asked.path.get("pipeline"), why)

    def asker(self, request: Request, principal: Principal) -> Asker:
        """Who asks, and from where."""
        return Asker(principal, "" if principal is LOCAL else _address(request))

    def routes(self, see: Callable[[Request], None]) -> list[Route]:
        """Logging in and out; `see` refuses requests that are not for this server, or from another site's page."""

        async def login(request: Request) -> Response:
            return await _answered(request, see, self._login)

        async def logout(request: Request) -> Response:
            return await _answered(request, see, self._logout)

        return [Route("/login", login, methods=["POST"]), Route("/logout", logout, methods=["POST"])]

    def _login(self, request: Request, body: bytes) -> Response:
        address = _address(request)
        wait = self.access.requests.wait(f"address {address}")
        if wait:
            raise _too_often(wait)
        try:
            given = msgspec.json.decode(body, type=Login)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise bad_request("A login is a user and a password.") from None
        agent = request.headers.get("user-agent", "")
        try:
            made = self.access.gate.login(given.user, given.password, address, agent, request.cookies.get(COOKIE))
        except LoginRefused as error:
            if error.wait:
                raise _too_often(error.wait.total_seconds(), error.what) from None
            raise Unwelcome(401, error.what, kind="login-refused") from None
        answer = Response(msgspec.json.encode({"user": made.principal.name}), media_type="application/json")
        answer.set_cookie(COOKIE, made.session_id, httponly=True, samesite="lax", secure=self._secure, path="/")
        return answer

    def _logout(self, request: Request, _body: bytes) -> Response:
        session = request.cookies.get(COOKIE)
        if session is not None:
            if not is_csrf(session, request.headers.get(CSRF)):
                raise Unwelcome(403, "The page that sent this is an old one.", hint="load it again", kind="csrf")
            self.access.gate.logout(session, _address(request), everywhere="everywhere" in request.query_params)
        answer = Response(b"{}", media_type="application/json")
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="lax", secure=self._secure)
        return answer


def csrf_for(request: Request) -> str | None:
    """What a page of a session sends along with actions; None: it has no session."""
    session = request.cookies.get(COOKIE)
    return None if session is None else csrf_of(session)


def shows_something(request: Request) -> bool:
    """Whether the request has a session or a token, for which the database is asked."""
    return "authorization" in request.headers or COOKIE in request.cookies


def _short(value: Any) -> Any:
    """What of a value is put on record: a long list by its beginning."""
    return [*value[:_NOTED], "..."] if isinstance(value, list) and len(value) > _NOTED else value


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else ""


def _too_often(seconds: float, what: str = "Too many requests.") -> Unwelcome:
    whole = max(1, round(seconds + 0.499))
    return Unwelcome(429, what, hint=f"wait {whole} s", kind="too-often", headers={"Retry-After": str(whole)})


async def _answered(
    request: Request, see: Callable[[Request], None], act: Callable[[Request, bytes], Response]
) -> Response:
    """The one way that logins and logouts go."""
    request_id = secrets.token_hex(8)
    try:
        see(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Unwelcome(415, "The body must be JSON.", hint="Content-Type: application/json", kind="media-type")
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > _LARGEST:
                raise Unwelcome(413, "That is too much for a login.", kind="too-large")
        answer = await asyncio.to_thread(act, request, bytes(body))
    except TidemillError as error:
        answer = problems.answer(error, request_id)
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer
