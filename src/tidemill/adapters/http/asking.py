"""Asking with patience: what passes (429, 5xx, dropped connections, half an answer) is asked again, up to a bound.

All waits go through the clock. A service that says how long to wait (`Retry-After`, or that its limit is used up) is
obeyed, by all calls that go on at the same time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from tidemill.adapters.http.who import Who
from tidemill.adapters.http.wire import Reply, Request, Wire, origin_of
from tidemill.model.duration import duration_text
from tidemill.model.errors import DataError, DecodeError, LimitError, RunFailed, TidemillError, Unreachable
from tidemill.model.graph import Retry
from tidemill.model.rest import Patience, shown_url
from tidemill.plan.retry import wait_before
from tidemill.ports.clock import Clock

T = TypeVar("T")

#: Codes below 500 that pass, and one above that does not.
_PASSING, _FOR_GOOD = (408, 425, 429), (501,)
#: Characters of an answer that an error shows.
_SHOWN = 300
_FIRST, _LONGEST = timedelta(seconds=0.5), timedelta(seconds=30)
#: A rate limit's end beyond this is a moment, not a number of seconds.
_MOMENT = 1_000_000_000


class Passing(Exception):
    """What came is not what should come, and may be, the next time. `error` is raised where it is not."""

    def __init__(self, error: TidemillError) -> None:
        super().__init__(error.what)
        self.error = error


class Asker:
    """Sends a source's requests.

    Args:
        who: whose headers and secrets they have.
        wire: over which they go.
        clock: waits.
        patience: with failures.
        place: of the source, in the user's file.
    """

    def __init__(self, who: Who, wire: Wire, clock: Clock, patience: Patience, place: str) -> None:
        self.who = who
        self._wire = wire
        self._clock = clock
        self._patience = patience
        self._place = place
        self._lock = threading.Lock()
        self._closed = False
        #: When the next request may go, in the clock's seconds.
        self._free = clock.monotonic()
        self._retry = Retry(patience.retries, _FIRST, 2.0, _LONGEST, 0.25)

    def close(self) -> None:
        """Close all connections; what is still being asked is not asked again."""
        self._closed = True
        self._wire.close()

    def ask(self, request: Request, name: str, read: Callable[[Reply], T], gone: Callable[[], T] | None = None) -> T:
        """Ask until `read` can make something of the answer.

        Args:
            request: without what tells who asks.
            name: how messages call what is asked for.
            read: is given an answer below 400; raises `Passing` where another try is worth it.
            gone: what stands for an answer 404 or 410; None: it is an error.

        Raises:
            Unreachable: it did not answer in all tries. RunFailed: it refused. And what `read` raises.
        """
        waited, failed, renewed = 0.0, 0, False
        shown = f"{request.method} {shown_url(request.url)}"
        while True:
            wait: float | None = None
            try:
                # Both may fail as the request itself does: a token is bought by a request, too.
                reply = self._send(self._signed(request))
                if reply.status == 401 and self.who.may_renew and not renewed:
                    self.who.forget()
                    renewed = True
                    continue
                if reply.status in (404, 410) and gone is not None:
                    return gone()
                if reply.status < 300:
                    return read(reply)
                error, wait = self._failure(reply, shown, name)
            except Unreachable as found:
                error = found
            except Passing as found:
                error = found.error
            if self._closed:
                raise error
            failed += 1
            if wait is None:
                rest = wait_before(self._retry, failed, f"{shown} {failed}")
                wait = None if rest is None else rest.total_seconds()
            allowed = self._patience.total.total_seconds()
            if failed > self._patience.retries or wait is None or waited + wait > allowed:
                raise self._given_up(error, failed, waited, wait if failed <= self._patience.retries else None)
            waited += wait
            self._hold(wait)

    def _send(self, request: Request) -> Reply:
        self._pace()
        return self._wire.send(request, timeout=self._patience.timeout, largest=self._patience.largest)

    def _signed(self, request: Request) -> Request:
        """The request with what tells who asks, if it goes to the service's own host."""
        if origin_of(request.url) != self.who.origin:
            return request
        shown = self.who.shown(self._token)
        url = request.url
        if shown.query:
            parts = urlsplit(url)
            url = urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, urlencode(dict(shown.query)))))))
        return replace(request, url=url, own={**request.own, **shown.headers})

    def _token(self, request: Request) -> Any:
        """The JSON object that a request for a token is answered with."""
        reply = self._send(request)
        if reply.status >= 300:
            error, _ = self._failure(reply, f"POST {shown_url(request.url)}", "the token")
            raise error
        try:
            return msgspec.json.decode(reply.body)
        except msgspec.DecodeError:
            raise RunFailed(
                f"{shown_url(request.url)} gave no token: {self._beginning(reply)}", where=self._place
            ) from None

    def _pace(self) -> None:
        """Wait for this request's turn."""
        with self._lock:
            now = self._clock.monotonic()
            turn = max(self._free, now)
            self._free = turn + self._patience.every.total_seconds()
        if turn > now:
            self._clock.sleep(turn - now)

    def _hold(self, seconds: float) -> None:
        """Let no request go before so many seconds have passed; the next one waits for that."""
        with self._lock:
            self._free = max(self._free, self._clock.monotonic() + seconds)

    def _failure(self, reply: Reply, shown: str, name: str) -> tuple[TidemillError, float | None]:
        """The error of an answer, and how long the service asks to wait. Raises RunFailed: it is one for good."""
        what = f"{shown} ({name}) was answered with {reply.status} {reply.reason}: {self._beginning(reply)}"
        what = self.who.masker.mask(what)
        asked = self._asked_wait(reply)
        limited = reply.status in (403, 429) and asked is not None
        if limited or reply.status in _PASSING or (reply.status >= 500 and reply.status not in _FOR_GOOD):
            return Unreachable(what, where=self._place), asked
        hint = None
        if reply.status in (401, 403):
            hint = "does the connection have the right secret, and may it read this?"
        elif 300 <= reply.status < 400:
            hint = "this redirection leads nowhere"
        raise RunFailed(what, where=self._place, hint=hint)

    def _asked_wait(self, reply: Reply) -> float | None:
        """Seconds that the service asks to wait."""
        text = reply.headers.get("retry-after", "").strip()
        if text:
            try:
                return max(float(text), 0.0)
            except ValueError:
                pass
            try:
                moment = parsedate_to_datetime(text)
                return max((moment - self._clock.now()).total_seconds(), 0.0)
            except (ValueError, TypeError):
                return None
        left = reply.headers.get("x-ratelimit-remaining", reply.headers.get("ratelimit-remaining", "")).strip()
        until = reply.headers.get("x-ratelimit-reset", reply.headers.get("ratelimit-reset", "")).strip()
        if left == "0" and until.isdigit():
            seconds = float(until)
            return max(seconds - self._clock.now().timestamp(), 0.0) if seconds > _MOMENT else seconds
        return None

    def _beginning(self, reply: Reply) -> str:
        try:
            body = unpacked(reply, 1 << 16, "")
        except (LimitError, Passing):
            body = b""
        text = " ".join(body.decode("utf-8", errors="replace").split())
        return self.who.masker.mask(text)[:_SHOWN] or "(nothing)"

    def _given_up(self, error: TidemillError, failed: int, waited: float, wait: float | None) -> TidemillError:
        tries = "once" if failed == 1 else f"{failed} times"
        said = f"; it was asked {tries}"
        if wait is not None and waited + wait > self._patience.total.total_seconds():
            said += f", and the next wait, {wait:.0f} s, is beyond patience={duration_text(self._patience.total)!r}"
        made = type(error)(error.what.rstrip(".") + said + ".", where=error.where or self._place, hint=error.hint)
        if wait is not None:
            made.retry_after = wait  # type: ignore[attr-defined]  # what a try that fails may tell its next one
        return made


def unpacked(reply: Reply, largest: int, name: str) -> bytes:
    """The body without its compression.

    Raises:
        Passing: it is damaged, or packed as nobody asked for. LimitError: it is too large.
    """
    import zlib

    kind = reply.headers.get("content-encoding", "identity").strip().lower()
    if kind in ("", "identity"):
        return reply.body
    if kind not in ("gzip", "x-gzip"):
        raise Passing(DataError(f"{name} is packed as {kind}, which nobody asked for."))
    worker = zlib.decompressobj(wbits=31)
    try:
        made = worker.decompress(reply.body, largest + 1)
    except zlib.error:
        raise Passing(DecodeError(f"{name} is packed as gzip, and damaged.")) from None
    if len(made) > largest:
        raise LimitError(f"{name} unpacks to more than {largest:,} bytes.", hint="smaller pages, or raise largest")
    if not worker.eof:
        raise Passing(DecodeError(f"{name} is packed as gzip, and ends in the middle."))
    return made
