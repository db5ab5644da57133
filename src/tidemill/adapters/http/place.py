"""Port `places` for a web server: files by their addresses. There is no listing, so there are no patterns."""

from __future__ import annotations

import http.client
import io
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, BinaryIO, cast
from urllib.parse import quote, urlsplit

from tidemill.adapters.http.basic import basic
from tidemill.adapters.http.client import opener
from tidemill.adapters.http.trust import headers_of, untrusted
from tidemill.model.errors import Refused, SettingsError, Unreachable
from tidemill.plan.globs import Glob
from tidemill.ports.places import Found

#: Seconds without a byte.
_TIMEOUT = 60
#: Answers to a question that the server does not know to answer: it is then asked for the file itself.
_NO_HEAD = (405, 501)
_SAFE = "/%:@!$&'()*+,;=~?[]"


class HttpPlace:
    """Files of a web server.

    Args:
        base: `https://host:port/path`, with which every path begins.
        login, password: for basic authentication; empty: none.
        extra: of the connection: headers with every request, such as a token, which go to this host only, and
            `ca_file`.
    """

    def __init__(self, base: str, login: str = "", password: str = "", extra: Mapping[str, str] | None = None) -> None:
        self._base = base.rstrip("/")
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingsError(f'"{self}" is no address of the web.', hint="https://host/path")
        self._headers = {"User-Agent": "tidemill", "Accept-Encoding": "identity", **headers_of(extra or {})}
        if login or password:
            self._headers |= basic(login, password)
        self._opener = opener(extra or {})

    def list(self, glob: Glob) -> Iterator[Found]:
        """The one file, if it is there."""
        found = self.look(glob.text)
        if found is not None:
            yield found

    def look(self, path: str) -> Found | None:
        """What the server tells of a file without sending it."""
        answer = self._ask("HEAD", path)
        if answer.status in _NO_HEAD:
            answer = self._ask("GET", path)
        with answer:
            if answer.status in (404, 410):
                return None
            self._must_be(answer, path, (200,))
            return self._found(path, answer)

    def open(self, found: Found, at: int = 0) -> BinaryIO:
        """Ask for the file; from the middle on only what is of the same version."""
        headers = {}
        if at:
            headers["Range"] = f"bytes={at}-"
            if found.tag is not None and not found.tag.startswith("W/"):
                headers["If-Range"] = found.tag
        answer = self._ask("GET", found.path, headers)
        try:
            if answer.status in (404, 410):
                raise FileNotFoundError(2, "the server has no such file", found.name)
            self._must_be(answer, found.path, (200, 206))
            now = self._found(found.path, answer)
            same = found.tag == now.tag and (at > 0 or found.bytes in (None, now.bytes))
            if not same:
                raise Unreachable(f'"{found.name}" was replaced after it was looked at.', where=str(self))
            stream = _Body(answer, str(self))
            if at and answer.status == 200:  # it sends all of it once more
                stream.skip(at)
            return cast(BinaryIO, stream)
        except BaseException:
            answer.close()
            raise

    def close(self) -> None:
        """Nothing is held."""

    def __str__(self) -> str:
        parts = urlsplit(self._base)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    def _ask(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> Any:
        url = f"{self._base}/{quote(path, safe=_SAFE)}"
        request = urllib.request.Request(  # noqa: S310 - the scheme was looked at
            url, headers={**self._headers, **(headers or {})}, method=method
        )
        try:
            return self._opener.open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            return error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "reason", error)
            if (settings := untrusted(urlsplit(self._base).netloc, why)) is not None:
                settings.where = str(self)
                raise settings from None
            raise Unreachable(f"It does not answer: {why}.", where=str(self)) from None

    def _must_be(self, answer: Any, path: str, wanted: tuple[int, ...]) -> None:
        status = answer.status
        if status in wanted:
            return
        told = f'The server answers {status} {answer.reason} to "{path.partition("?")[0]}".'
        if status in (408, 425, 429) or status >= 500:
            raise Unreachable(told, where=str(self))
        if status in (401, 403, 407):
            raise SettingsError(told, where=str(self), hint='login and password are those of connection="x"')
        raise Refused(told, where=str(self))

    @staticmethod
    def _found(path: str, answer: Any) -> Found:
        size, modified = answer.headers.get("Content-Length"), None
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            size = None
        try:
            told = answer.headers.get("Last-Modified")
            modified = parsedate_to_datetime(told).astimezone(UTC) if told else None
        except (TypeError, ValueError):
            modified = None
        known = int(size) if size and size.isdigit() else None
        return Found(path, known, modified, answer.headers.get("ETag"), path.partition("?")[0])


class _Body(io.RawIOBase):
    """The body of an answer, which is all there or an error."""

    def __init__(self, answer: Any, place: str) -> None:
        super().__init__()
        self._answer = answer
        self._place = place
        length = answer.headers.get("Content-Length")
        self._left = int(length) if length and length.isdigit() else None

    def readable(self) -> bool:
        """Always."""
        return True

    def read(self, size: int | None = -1) -> bytes:
        """The next bytes. Raises Unreachable: the connection ended before the body did."""
        try:
            piece: bytes = self._answer.read(1 << 20 if size is None or size < 0 else size)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"The connection broke: {error}.", where=self._place) from None
        if self._left is not None:
            self._left -= len(piece)
            if not piece and size and self._left > 0:
                raise Unreachable(f"The connection ended {self._left:,} bytes too early.", where=self._place)
        return piece

    def skip(self, count: int) -> None:
        """Read on without giving."""
        while count and (piece := self.read(min(count, 1 << 20))):
            count -= len(piece)

    def close(self) -> None:
        """Let the connection go."""
        if not self.closed:
            self._answer.close()
        super().close()
