"""Server-sent events: one thread looks at the database for all open streams, and only while there are any.

database -> Watch (a thread, twice a second) -> ring of the last events -> a queue for each stream

An event's id is `boot-number-time`. Who comes back with the id of this process gets what came since from the ring; with
an older one, how the runs stand that may have changed since that time, and `event: reset`: read all else anew.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from msgspec import Meta, json
from starlette.responses import Response, StreamingResponse

from tidemill.model.errors import TidemillError
from tidemill.web.problems import Unwelcome
from tidemill.web.table import Asked, Query
from tidemill.web.watch import KINDS, Change, Watch, caught_up

if TYPE_CHECKING:
    from tidemill.web.backend import Backend

_log = logging.getLogger("tidemill")

#: Seconds between two looks.
EVERY = 0.5
#: Events that are kept for those who come back.
_KEPT = 5_000
#: Events that wait for a slow reader; one more, and it is told to read anew.
_WAITING = 1_000
#: Open streams.
MOST = 1_000
#: Seconds after which a stream that has nothing to say says so: what lies between would close it.
_BEAT = 15.0
_ID = re.compile(r"([0-9a-f]{8})-(\d{1,18})-(\d{1,15})")


class EventsQuery(Query, frozen=True):
    """Which events."""

    kind: Annotated[
        list[Annotated[str, Meta(pattern=f"^({'|'.join(KINDS)})$")]], Meta(description=" ".join(KINDS))
    ] = []
    pipeline: Annotated[list[str], Meta(description="only of these")] = []


@dataclass(eq=False, slots=True)
class _Stream:
    """One that listens."""

    wants: Callable[[Change], bool]
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(_WAITING + 2))
    lost: bool = False

    def give(self, text: bytes) -> None:
        if self.queue.qsize() >= _WAITING:
            self.lost = True
        else:
            self.queue.put_nowait(text)


class Hub:
    """All open streams of a server.

    Args:
        backend: the project.
        every: seconds between two looks.
    """

    def __init__(self, backend: Backend, every: float = EVERY) -> None:
        self._backend = backend
        self._every = every
        self._boot = secrets.token_hex(4)
        self._number = 0
        self._ring: deque[tuple[int, Change, bytes]] = deque(maxlen=_KEPT)
        self._streams: set[_Stream] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._looking: threading.Thread | None = None
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._closed = False
        #: Streams that have not begun yet.
        self._coming = 0
        #: The last number that is not in the ring any more.
        self._floor = 0
        #: Looks at the database so far: tests and metrics ask.
        self.looks = 0

    @property
    def open(self) -> int:
        """How many listen."""
        return len(self._streams)

    async def events(self, wants: Callable[[Change], bool], last: str | None) -> AsyncIterator[bytes]:
        """Events as text, from after the id `last` on, until the hub is closed or the caller ends it."""
        self._loop = asyncio.get_running_loop()
        stream = _Stream(wants)
        self._coming += 1
        try:
            begin = await self._begin(stream, last)
        finally:
            self._coming -= 1
        try:
            for text in begin:
                yield text
            while not self._closed:
                try:
                    found = await asyncio.wait_for(stream.queue.get(), _BEAT)
                except TimeoutError:
                    yield b": nothing new\n\n"
                    continue
                if found is None:
                    return
                yield found
                if stream.lost and stream.queue.empty():
                    stream.lost = False
                    yield self._said("reset", {"why": "too slow"})
        finally:
            self._streams.discard(stream)

    async def _begin(self, stream: _Stream, last: str | None) -> list[bytes]:
        """Let a stream listen, and what it missed."""
        await self._look_from_now_on()
        number, since = self._read(last)
        # From here to the end of what is given from the ring nothing else runs in this loop.
        self._streams.add(stream)
        if last is None:
            return [b"retry: 2000\n", self._said("open", {})]
        missed = [one for one in self._ring if number is not None and one[0] > number]
        floor = self._ring[0][0] - 1 if self._ring else self._floor
        if number is not None and floor <= number <= self._number:
            return [b"retry: 2000\n", *(text for _, change, text in missed if stream.wants(change))]
        changes = await asyncio.to_thread(self._catch_up, since) if since is not None else []
        told = [self._text(change) for change in changes if stream.wants(change)]
        return [b"retry: 2000\n", self._said("reset", {"why": "not kept so long"}), *told]

    def _read(self, last: str | None) -> tuple[int | None, datetime | None]:
        """The number of an id of this process, and the time of any."""
        found = _ID.fullmatch(last or "")
        if found is None:
            return None, None
        try:
            since = datetime.fromtimestamp(int(found[3]) / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return None, None
        return (int(found[2]) if found[1] == self._boot else None), since

    def _catch_up(self, since: datetime) -> list[Change]:
        with self._backend.metadata.read() as tx:
            return caught_up(tx, since)

    async def _look_from_now_on(self) -> None:
        """Start the thread where it does not run, and wait for its first look: what comes after it is told."""
        if self._looking is not None and self._looking.is_alive() and not self._stop.is_set():
            await asyncio.to_thread(self._ready.wait)
            return
        self._stop = threading.Event()
        self._ready = threading.Event()
        # What came while nobody looked is not in the ring: who comes back is told to read anew.
        self._ring.clear()
        self._number += 1
        self._floor = self._number
        self._looking = threading.Thread(target=self._look, args=(self._stop, self._ready), name="events", daemon=True)
        self._looking.start()
        await asyncio.to_thread(self._ready.wait)

    def _look(self, stop: threading.Event, ready: threading.Event) -> None:
        watch, stir = Watch(), self._backend.metadata.stir()
        told = False
        idle = 0.0
        try:
            while not stop.is_set():
                try:
                    # A stream's process that has died commits nothing: now and then a look is due without a stir.
                    idle += self._every
                    if stir.changed() or idle >= 10.0:
                        idle = 0.0
                        self.looks += 1
                        with self._backend.metadata.read() as tx:
                            changes = watch.look(tx, self._backend.clock.now())
                        if changes:
                            self._in_loop(self._tell, changes)
                    told = False
                except TidemillError as error:
                    if not told:
                        _log.warning("events have to wait: %s", error)
                    told = True
                ready.set()
                stop.wait(self._every)
                if not self._streams:
                    self._in_loop(self._rest, stop)
        finally:
            ready.set()
            stir.close()

    def _in_loop(self, act: Callable[[Any], None], given: Any) -> None:
        if self._loop is not None and not self._closed:
            with suppress(RuntimeError):  # the loop has ended meanwhile
                self._loop.call_soon_threadsafe(act, given)

    def _rest(self, stop: threading.Event) -> None:
        """Nobody listens: look no more."""
        if not self._streams and not self._coming:
            stop.set()

    def _tell(self, changes: list[Change]) -> None:
        for change in changes:
            self._number += 1
            text = self._text(change)
            self._ring.append((self._number, change, text))
            for stream in self._streams:
                if stream.wants(change):
                    stream.give(text)

    def _text(self, change: Change) -> bytes:
        return self._said(change.kind, change.data)

    def _said(self, kind: str, data: Any) -> bytes:
        at = int(self._backend.clock.now().timestamp() * 1000)
        return f"id: {self._boot}-{self._number}-{at}\nevent: {kind}\ndata: ".encode() + json.encode(data) + b"\n\n"

    def close(self) -> None:
        """End all streams; from the loop's thread."""
        self._closed = True
        self._stop.set()
        for stream in self._streams:
            stream.queue.put_nowait(None)


async def listen(asked: Asked) -> Response:
    """Everything that changes, as server-sent events."""
    hub: Hub = asked.request.app.state.hub
    if hub.open >= MOST:
        raise Unwelcome(503, f"{MOST} event streams are open already.", kind="too-many-streams")
    query: EventsQuery = asked.query
    kinds, pipelines = frozenset(query.kind), frozenset(query.pipeline)

    def wants(change: Change) -> bool:
        return (
            (not kinds or change.kind in kinds)
            and (not pipelines or change.pipeline in pipelines)
            and asked.sees(change.pipeline)
        )

    last = asked.request.headers.get("last-event-id")
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(hub.events(wants, last), headers=headers, media_type="text/event-stream")
