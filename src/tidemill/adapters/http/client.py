"""Port `http` on the standard library's client."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import IO, Any
from urllib.parse import urlencode, urlsplit

from tidemill.adapters.http.basic import basic
from tidemill.adapters.http.trust import ca_file_of, headers_of, trusting, untrusted
from tidemill.model.errors import LimitError, SettingsError, Unreachable
from tidemill.ports.http import Answer

#: A larger answer is no xcom: it belongs into a feed.
MOST_BYTES = 64 << 20
#: Headers that tell who asks.
_OWN = ("authorization", "cookie", "proxy-authorization")


class UrllibClient:
    """A web service, or with an empty `base` any.

    Args:
        base: `https://host:port/path`, before every endpoint.
        login, password: for basic authentication; empty: none.
        extra: of the connection: headers with every request, such as a token, and `ca_file`.
        follows: whether it follows redirections; otherwise they are answers.
    """

    def __init__(
        self, base: str = "", login: str = "", password: str = "", extra: Mapping[str, str] | None = None,
        *, follows: bool = True,
    ) -> None:  # fmt: skip
        self._base = base.rstrip("/")
        self._headers = {"User-Agent": "tidemill", **headers_of(extra or {})}
        if login or password:
            self._headers |= basic(login, password)
        self._opener = opener(extra or {}, follows=follows)

    def request(
        self,
        method: str,
        endpoint: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, Any],
        body: bytes | None = None,
        timeout: float = 60.0,
    ) -> Answer:
        """Ask; every code is an answer."""
        url = self._address(endpoint)
        if query:
            url += ("&" if "?" in url else "?") + urlencode(dict(query), doseq=True)
        given = {**self._headers, **headers}
        request = urllib.request.Request(url, body, given, method=method.upper())  # noqa: S310 - `_address` looked at it
        try:
            with self._opener.open(request, timeout=timeout) as answer:
                return _answer(answer.status, answer.reason, answer)
        except urllib.error.HTTPError as error:
            with error:
                return _answer(error.code, str(error.reason), error)
        except (OSError, http.client.HTTPException) as error:
            host, why = urlsplit(url).netloc.rpartition("@")[2], getattr(error, "reason", error)
            raise untrusted(host, why) or Unreachable(f"{host} does not answer: {why}.") from None

    def _address(self, endpoint: str) -> str:
        url = f"{self._base}/{endpoint.lstrip('/')}" if self._base else endpoint
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f'"{endpoint}" is no address of the web.', hint="https://host/path, or a connection")
        if any(char <= " " for char in url):
            raise SettingsError(f'There is a blank in the address "{endpoint}".', hint="%20, or data={...}")
        return url


def opener(extra: Mapping[str, str], *, follows: bool = True) -> urllib.request.OpenerDirector:
    """What opens addresses for a connection. Raises SettingsError: its certificates cannot be read."""
    file = ca_file_of(extra)
    same: urllib.request.HTTPRedirectHandler = SameHost(frozenset(name.lower() for name in headers_of(extra)))
    same = same if follows else Nowhere()
    if file is None:
        return urllib.request.build_opener(same)
    return urllib.request.build_opener(same, urllib.request.HTTPSHandler(context=trusting((file,))))


class SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirections; what tells who asks stays with the host that it was meant for."""

    def __init__(self, own: frozenset[str]) -> None:
        self._own = own | set(_OWN)

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """See `HTTPRedirectHandler`."""
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and _place(made.full_url) != _place(req.full_url):
            for name in [name for name in made.headers if name.lower() in self._own]:
                del made.headers[name]
        return made


class Nowhere(urllib.request.HTTPRedirectHandler):
    """Follows no redirection."""

    def redirect_request(self, *_: object) -> None:
        """It is the answer."""


def _place(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _answer(status: int, reason: str, found: Any) -> Answer:
    content = found.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise LimitError(f"The answer has more than {MOST_BYTES >> 20} MB.", hint="extract it by a feed's source")
    headers = {name.lower(): value for name, value in found.headers.items()}
    return Answer(status, reason, content, headers, found.url)
