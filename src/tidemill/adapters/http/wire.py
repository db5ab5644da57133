"""One request at a time over connections that are kept open: what the standard library's opener does not do.

A new connection for each page costs a round trip, with TLS two or three.
"""

from __future__ import annotations

import base64
import http.client
import ssl
import threading
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urljoin, urlsplit

from tidemill.model.errors import LimitError, Refused, SettingsError, Unreachable
from tidemill.model.rest import shown_url

_CHUNK = 1 << 18
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
#: A whole answer may take so many times the time without a byte.
_SLOWNESS = 10

#: Scheme, host, port.
Origin = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked.

    Args:
        method, url, headers, body: as they are sent.
        own: headers that go to the first host only, whatever it redirects to.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    own: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came: `headers` by names in lower case, those that come several times joined by commas."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    url: str


def origin_of(url: str) -> Origin:
    """Who is asked. Raises SettingsError: this is no address of the web."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or any(c <= " " or c == "\x7f" for c in url):
        raise SettingsError(f'"{shown_url(url)}" is no address of the web.', hint="https://host/path, or a connection")
    return parts.scheme, parts.hostname.lower(), port or (443 if parts.scheme == "https" else 80)


class Wire:
    """Connections to any hosts; several threads may send.

    Args:
        monotonic: seconds, for the time that an answer takes.
        context: what certificates are trusted; None: those of the system.
    """

    def __init__(self, monotonic: Callable[[], float], context: ssl.SSLContext | None = None) -> None:
        self._monotonic = monotonic
        self._context = context
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = defaultdict(list)

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            idle, self._idle = self._idle, defaultdict(list)
        for connections in idle.values():
            for connection in connections:
                connection.close()

    def send(self, request: Request, *, timeout: float, largest: int) -> Reply:
        """Send, following redirections; every code is an answer.

        Args:
            request: what.
            timeout: seconds without a byte; the whole may take ten times as long.
            largest: bytes of the body.

        Raises:
            Unreachable: no answer, or not the whole of it. LimitError: it is too large.
            SettingsError, Refused: it redirects to what is no address, or round in circles.
        """
        asked, origin = request, origin_of(request.url)
        for _ in range(_MOST_REDIRECTS):
            own = asked.own if origin_of(asked.url) == origin else {}
            reply = self._once(asked, {**asked.headers, **own}, timeout, largest)
            target = reply.headers.get("location")
            if reply.status not in _REDIRECTS or not target:
                return reply
            asked = _redirected(asked, reply.status, urljoin(asked.url, target))
        raise Refused(f"{shown_url(request.url)} redirects more than {_MOST_REDIRECTS} times.")

    def _once(self, request: Request, headers: Mapping[str, str], timeout: float, largest: int) -> Reply:
        origin = origin_of(request.url)
        while True:
            with self._lock:
                idle = self._idle[origin]
                connection = idle.pop() if idle else None
            reused = connection is not None
            if connection is None:
                connection = self._connect(origin, timeout)
            elif connection.sock is not None:
                connection.sock.settimeout(timeout)
            try:
                return self._exchange(connection, origin, request, headers, timeout, largest)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                connection.close()
                if not reused:  # a kept connection may have been closed meanwhile: that is no failure
                    raise _gone(origin, error) from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise _gone(origin, error) from None
            except ValueError:
                connection.close()
                raise SettingsError(
                    "A header of the request has characters that no header may have.", hint="no line feeds"
                ) from None
            except BaseException:
                connection.close()
                raise

    def _connect(self, origin: Origin, timeout: float) -> http.client.HTTPConnection:
        scheme, host, port = origin
        proxy = None if urllib.request.proxy_bypass(f"{host}:{port}") else urllib.request.getproxies().get(scheme)
        if proxy is None:
            return self._plain(scheme, host, port, timeout)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        made = self._plain(scheme, parts.hostname or "", parts.port or 3128, timeout)
        login: dict[str, str] = {}
        if parts.username:
            login = basic(unquote(parts.username), unquote(parts.password or ""), "Proxy-Authorization")
        made.set_tunnel(host, port, login)
        return made

    def _plain(self, scheme: str, host: str, port: int, timeout: float) -> http.client.HTTPConnection:
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=timeout)
        if self._context is None:
            self._context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        origin: Origin,
        request: Request,
        headers: Mapping[str, str],
        timeout: float,
        largest: int,
    ) -> Reply:
        until = self._monotonic() + timeout * _SLOWNESS
        parts = urlsplit(request.url)
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (f"?{parts.query}" if parts.query else "")
        connection.request(request.method, target, request.body, dict(headers))
        response = connection.getresponse()
        got: list[bytes] = []
        size = 0
        while part := response.read1(_CHUNK):
            size += len(part)
            got.append(part)
            if size > largest:
                raise LimitError(
                    f"{shown_url(request.url)} answers with more than {largest:,} bytes.",
                    hint="ask for smaller pages, or raise largest",
                )
            if self._monotonic() > until:
                raise TimeoutError(f"its answer takes longer than {timeout * _SLOWNESS:g} s")
        if response.length:  # read1 does not tell of an end that comes too early
            raise http.client.IncompleteRead(b"", response.length)
        response.close()  # which frees the connection for the next request
        found: dict[str, str] = {}
        for name, value in response.getheaders():
            name = name.lower()
            found[name] = f"{found[name]}, {value}" if name in found else value
        reply = Reply(response.status, response.reason, found, b"".join(got), request.url)
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle[origin].append(connection)
        return reply


def basic(login: str, password: str, header: str = "Authorization") -> dict[str, str]:
    """The header of basic authentication."""
    return {header: f"Basic {base64.b64encode(f'{login}:{password}'.encode()).decode('ascii')}"}


def _redirected(request: Request, status: int, url: str) -> Request:
    origin_of(url)
    keeps = status in (307, 308) or request.method in ("GET", "HEAD")
    headers = request.headers if keeps else {n: v for n, v in request.headers.items() if n.lower() != "content-type"}
    method, body = (request.method, request.body) if keeps else ("GET", None)
    return Request(method, url, headers, body, request.own)


def _gone(origin: Origin, error: BaseException) -> Unreachable:
    """The error for an exchange without an answer."""
    why = str(error) or type(error).__name__
    if isinstance(error, http.client.IncompleteRead):
        why = "the answer ends in the middle"
    elif isinstance(error, TimeoutError) and why in ("timed out", "The read operation timed out"):
        why = "no byte came in time"
    elif isinstance(error, http.client.BadStatusLine | http.client.LineTooLong):
        why = "what came is no HTTP"
    with suppress(AttributeError):
        why = error.strerror or why  # type: ignore[attr-defined]
    return Unreachable(f"{origin[1]}:{origin[2]} does not answer: {why.rstrip('.')}.")
