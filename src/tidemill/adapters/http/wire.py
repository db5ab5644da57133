"""One request at a time over connections that are kept open: what the standard library's opener does not do.

A new connection for each page costs a round trip, with TLS two or three.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import quote, urljoin, urlsplit

from tidemill.adapters.http.proxy import Proxy, proxy_for
from tidemill.adapters.http.trust import trusting, untrusted
from tidemill.model.errors import LimitError, Refused, SettingsError, TidemillError, Unreachable
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


@dataclass(frozen=True, slots=True)
class Line:
    """An open way to a host.

    Args:
        connection: over which requests go.
        proxy: on the way; None: there is none.
        before: what stands before the path of each request.
        headers: with each request, for the proxy.
    """

    connection: http.client.HTTPConnection
    proxy: Proxy | None = None
    before: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Wire:
    """Connections to any hosts; several threads may send.

    Args:
        monotonic: seconds, for the time that an answer takes.
        ca_files: certificates of authorities that are trusted besides the system's.
    """

    def __init__(self, monotonic: Callable[[], float], ca_files: Sequence[str] = ()) -> None:
        self._monotonic = monotonic
        self._ca_files = ca_files
        self._context: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[Line]] = defaultdict(list)
        self._closed = False

    def close(self) -> None:
        """Close all connections; one that is in use is closed after it."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, defaultdict(list), True
        for lines in idle.values():
            for line in lines:
                line.connection.close()

    def send(self, request: Request, *, timeout: float, largest: int) -> Reply:
        """Send, following redirections; every code is an answer.

        Args:
            request: what.
            timeout: seconds without a byte; the whole may take ten times as long.
            largest: bytes of the body.

        Raises:
            Unreachable: no answer, or not the whole of it. LimitError: it is too large.
            SettingsError: its certificate is not trusted, a proxy refuses, or it redirects to what is no address.
            Refused: it redirects round in circles.
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
                line = idle.pop() if idle else None
            reused = line is not None
            if line is None:
                line = self._line(origin, timeout)
            elif line.connection.sock is not None:
                line.connection.sock.settimeout(timeout)
            try:
                return self._exchange(line, origin, request, headers, timeout, largest)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
                line.connection.close()
                if not reused:  # a kept connection may have been closed meanwhile: that is no failure
                    raise _gone(origin, error, line.proxy) from None
            except (OSError, http.client.HTTPException) as error:
                line.connection.close()
                raise _gone(origin, error, line.proxy) from None
            except ValueError:
                line.connection.close()
                raise SettingsError(
                    "A header of the request has characters that no header may have.", hint="no line feeds"
                ) from None
            except BaseException:
                line.connection.close()
                raise

    def _line(self, origin: Origin, timeout: float) -> Line:
        scheme, host, port = origin
        proxy = proxy_for(scheme, host, port)
        if proxy is None:
            return Line(self._plain(scheme, host, port, timeout))
        made = self._plain(scheme, proxy.host, proxy.port, timeout)
        if scheme == "http":
            shown = f"[{host}]" if ":" in host else host
            return Line(made, proxy, f"http://{shown}{'' if port == 80 else f':{port}'}", proxy.login)
        made.set_tunnel(host, port, dict(proxy.login))
        return Line(made, proxy)

    def _plain(self, scheme: str, host: str, port: int, timeout: float) -> http.client.HTTPConnection:
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=timeout)
        with self._lock:
            if self._context is None:
                self._context = trusting(self._ca_files)
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=self._context)

    def _exchange(
        self,
        line: Line,
        origin: Origin,
        request: Request,
        headers: Mapping[str, str],
        timeout: float,
        largest: int,
    ) -> Reply:
        connection = line.connection
        until = self._monotonic() + timeout * _SLOWNESS
        parts = urlsplit(request.url)
        target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (f"?{parts.query}" if parts.query else "")
        connection.request(request.method, line.before + target, request.body, {**headers, **line.headers})
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
        with self._lock:
            kept = not (response.will_close or self._closed)
            if kept:
                self._idle[origin].append(line)
        if not kept:
            connection.close()
        return reply


def _redirected(request: Request, status: int, url: str) -> Request:
    origin_of(url)
    keeps = status in (307, 308) or request.method in ("GET", "HEAD")
    headers = request.headers if keeps else {n: v for n, v in request.headers.items() if n.lower() != "content-type"}
    method, body = (request.method, request.body) if keeps else ("GET", None)
    return Request(method, url, headers, body, request.own)


def _gone(origin: Origin, error: BaseException, proxy: Proxy | None) -> TidemillError:
    """The error for an exchange without an answer."""
    host = f"{origin[1]}:{origin[2]}"
    settings = untrusted(host, error) or (proxy.refused(error) if proxy is not None else None)
    if settings is not None:
        return settings
    why = str(error) or type(error).__name__
    if isinstance(error, http.client.IncompleteRead):
        why = "the answer ends in the middle"
    elif isinstance(error, TimeoutError) and why in ("timed out", "The read operation timed out"):
        why = "no byte came in time"
    elif isinstance(error, http.client.BadStatusLine | http.client.LineTooLong):
        why = "what came is no HTTP"
    with suppress(AttributeError):
        why = error.strerror or why  # type: ignore[attr-defined]
    by = "" if proxy is None else f", asked by the proxy {proxy}"
    return Unreachable(f"{host} does not answer{by}: {why.rstrip('.')}.")
