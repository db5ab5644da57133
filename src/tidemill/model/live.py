"""What feeds a topic, as declared: files that grow, tables, the archive, HTTP, a WebSocket, a user's object.

`Topic.source` holds one of these. `wiring/live.py` makes the adapter of it that keeps the promises of `ports/live.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tidemill.model.cdc import Cdc

Begin = Literal["start", "end"]


@dataclass(frozen=True, slots=True)
class Tail:
    """The lines of files, as they are written.

    Args:
        pattern: a path, or a pattern with `*`, relative to the project.
        begin: where to begin in files that are there at the very first time.
    """

    kind: ClassVar[str] = "tail"
    pattern: str
    begin: Begin = "start"

    def __str__(self) -> str:
        return f"{self.kind} {self.pattern}"


@dataclass(frozen=True, slots=True)
class TableChanges:
    """The rows of a table of the lake, and then those that each new version brings.

    Args:
        table: `pipeline.table`.
        time: the column that rows of a version are ordered by; None: as they lie in the table, or by their values.
    """

    kind: ClassVar[str] = "table changes"
    table: str
    time: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.table}"


@dataclass(frozen=True, slots=True)
class TableReplay:
    """A table's rows once more, in the order of a time.

    Args:
        table: `pipeline.table`.
        time: the column that they are ordered by; None: as they lie in the table.
        speed: seconds of that time in one second; None: as fast as it goes.
    """

    kind: ClassVar[str] = "table"
    table: str
    time: str | None = None
    speed: float | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.table}"


@dataclass(frozen=True, slots=True)
class ArchiveReplay:
    """The archived input of a pipeline's source once more, batch by batch.

    Args:
        source: `pipeline.source`.
        time, speed: as for a table, but that rows stay as they were archived.
    """

    kind: ClassVar[str] = "archive"
    source: str
    time: str | None = None
    speed: float | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.source}"


@dataclass(frozen=True, slots=True)
class HttpPush:
    """What others POST.

    Args:
        port, path, host: where.
        token: what callers must show as `Authorization: Bearer <token>`; `env:NAME` is taken from the environment.
        largest: bytes of a body.
    """

    kind: ClassVar[str] = "http"
    port: int
    path: str = "/"
    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)
    largest: int = 1_000_000

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind} {host}:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class WebSocket:
    """The messages of a WebSocket.

    Args:
        url: `wss://...`.
        subscribe: texts that are sent first, or a function that makes them of the position.
        position: makes of a message's bytes a JSON value that says how far it is.
        headers: of the request; values may be `env:NAME`.
        largest: bytes of a message.
    """

    kind: ClassVar[str] = "websocket"
    url: str
    subscribe: tuple[str, ...] | Callable[[Any], Any] = ()
    position: Callable[[bytes], Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    largest: int = 1_000_000

    def __str__(self) -> str:
        parts = urlsplit(self.url)  # what a query or a login says may be a secret
        return f"{self.kind} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True, slots=True)
class CustomSource:
    """A user's object.

    Args:
        source: its method `read(position)` yields pairs of messages and position; see `ports/live.py`.
        name: which source it is.
        every: how long after the end of one `read` the next begins.
    """

    kind: ClassVar[str] = "custom"
    source: Any
    name: str
    every: timedelta = timedelta(seconds=1)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


LiveSpec: TypeAlias = "Tail | TableChanges | TableReplay | ArchiveReplay | HttpPush | WebSocket | Cdc | CustomSource"


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a user's source gives it, where a row or bytes do not say enough.

    Args:
        value: bytes or text as they are, a row that is written as the topic's messages are, or None: a tombstone.
        key: bytes or text; None: by the topic's key.
        at: milliseconds since 1970-01-01 UTC; None: now.
        headers: by name.
    """

    value: bytes | str | Mapping[str, Any] | None
    key: bytes | str | None = None
    at: int | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)
