"""`tidemill.live`: what a topic is fed from, for `tm.topic(..., source=...)`. Values only; nothing is opened here."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from tidemill.authoring import cdc as changes
from tidemill.authoring.place import here, placed
from tidemill.model.cdc import Cdc
from tidemill.model.duration import Duration, read_duration
from tidemill.model.errors import DefinitionError
from tidemill.model.live import (
    ArchiveReplay,
    Begin,
    CustomSource,
    HttpPush,
    LiveSpec,
    TableChanges,
    TableReplay,
    Tail,
    WebSocket,
)
from tidemill.model.table import TableName

_KINDS = (ArchiveReplay, Cdc, CustomSource, HttpPush, TableChanges, TableReplay, Tail, WebSocket)


def tail(pattern: str, *, begin: Begin = "start") -> Tail:
    """The lines of files as they are written, each a message; a file that is rotated away is read to its end first.

    Args:
        pattern: a path relative to the project, or an absolute one; `*` stands for any part of a file's name.
        begin: "start", or "end": of what is there at the very first time nothing is read.
    """
    if begin not in ("start", "end"):
        raise DefinitionError(f"begin={begin!r} is not known.", where=here(), hint='begin="start" or "end"')
    if not pattern or pattern.endswith("/"):
        raise DefinitionError(f"{pattern!r} names no file.", where=here(), hint='live.tail("logs/orders.jsonl")')
    if "*" in pattern.rpartition("/")[0]:
        raise DefinitionError(
            f'"{pattern}" has a "*" in a folder\'s name.', where=here(), hint="only names of files can have one"
        )
    return Tail(pattern, begin)


def table_changes(table: str) -> TableChanges:
    """The rows of a table as it is, and then the new and changed rows of each new version, once it is published.

    Rows that are removed give nothing. The rows of a version come in the order of the topic's time.

    Args:
        table: `pipeline.table`.
    """
    return TableChanges(_full_name(table, "table"))


def table(table: str, *, time: str | None = None, speed: float | None = None) -> TableReplay:
    """A table's rows once more, as it is when this begins.

    Args:
        table: `pipeline.table`.
        time: the column by which rows are ordered; None: the topic's; without that, as they lie in the table.
        speed: how many seconds of that time pass in one: 1.0 is as it was; None: as fast as it goes.
    """
    return TableReplay(_full_name(table, "table"), time, _speed(speed))


def archive(source: str, *, time: str | None = None, speed: float | None = None) -> ArchiveReplay:
    """What a pipeline's source has archived until this begins, once more: batch by batch, by their intervals.

    Args:
        source: `pipeline.source`.
        time: the column that a speed goes by; None: the topic's. Rows come as they were archived: one whose time is
            before that of an earlier one comes with it.
        speed: as for `table`.
    """
    return ArchiveReplay(_full_name(source, "source"), time, _speed(speed))


def http(
    *, port: int, path: str = "/", host: str = "127.0.0.1", token: str | None = None, largest: int = 1_000_000
) -> HttpPush:
    """What others POST: an object, an array of them, or JSON Lines. It is answered, by 202, once it is kept.

    Args:
        port: where to listen; each topic needs one of its own.
        path: of the address.
        host: beyond loopback only with a token.
        token: what callers must show as `Authorization: Bearer <token>`; "env:NAME" takes it from the environment.
        largest: bytes of a body.
    """
    if not _is_number(port) or not 0 < port < 65536:
        raise DefinitionError(f"port={port!r} is no port.", where=here(), hint="port=8099")
    if not path.startswith("/") or any(c in path for c in "{}?# "):
        raise DefinitionError(f"path={path!r} is no path.", where=here(), hint='path="/orders"')
    if token is None and not _is_loopback(host):
        raise DefinitionError(
            f"Whoever reaches {host} could write this topic.",
            where=here(),
            hint='token="env:ORDERS_TOKEN", or host="127.0.0.1"',
        )
    if token is not None and not token.startswith("env:") and len(token) < 8:
        raise DefinitionError("A token needs at least 8 characters.", where=here(), hint='token="env:ORDERS_TOKEN"')
    if largest < 1:
        raise DefinitionError(f"largest={largest!r} leaves no room for a message.", where=here(), hint="1_000_000")
    return HttpPush(port, path, host, token, largest)


def cdc(
    connection: str, table: str, *, slot: str, publication: str | None = None, key: str | Sequence[str] = "id"
) -> Cdc:
    """The changes of a table of PostgreSQL from now on, as they are committed, by logical replication.

    Rows are those of the log that `sources.cdc` makes: the table's columns, and `_op`, `_lsn`, `_seq`, `_xid`,
    `_committed_at`, `_unchanged`; the topic takes those that it has.

    Args:
        connection: the name of a connection, or an address; its user may replicate.
        table: `schema.table`.
        slot: the replication slot, which this topic alone is fed from.
        publication: what the server publishes; left out, it is called as the slot.
        key: the columns that tell rows apart: the table's primary key.
    """
    return changes.cdc(connection, [table], slot=slot, publication=publication, key=key)


def websocket(
    url: str,
    *,
    subscribe: str | Mapping[str, Any] | Sequence[Any] | Callable[[Any], Any] | None = None,
    position: Callable[[bytes], Any] | None = None,
    headers: Mapping[str, str] | None = None,
    largest: int = 1_000_000,
) -> WebSocket:
    """The messages of a WebSocket. It connects again when the connection ends, later and later.

    What is sent while there is no connection is lost, unless the other side can be asked for it: with `position`.

    Args:
        url: `wss://...` or `ws://...`.
        subscribe: what is sent first: a text, or an object that is sent as JSON, or several; or a function that
            makes these of the position, which is None at first.
        position: makes of a message's bytes a JSON value (a number in it, say), which is kept together with it.
        headers: of the request; a value "env:NAME" is taken from the environment.
        largest: bytes of a message; a larger one ends the connection.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.netloc:
        raise DefinitionError(f'"{url}" is no address of a WebSocket.', where=here(), hint="wss://host/path")
    made = subscribe if callable(subscribe) else placed(texts, subscribe)
    return WebSocket(url, made, position, dict(headers or {}), largest)


def texts(given: Any) -> tuple[str, ...]:
    """What `subscribe` says, as texts. Raises DefinitionError."""
    if given is None:
        return ()
    if isinstance(given, str):
        return (given,)
    if isinstance(given, Mapping):
        try:
            return (json.dumps(given),)
        except TypeError as error:
            raise DefinitionError(f"subscribe cannot be sent as JSON: {error}.") from None
    if isinstance(given, Sequence) and not isinstance(given, bytes | bytearray):
        return tuple(text for one in given for text in texts(one))
    raise DefinitionError(f"subscribe={given!r} is no text and no object.", hint='subscribe={"channel": "trades"}')


def custom(source: Any, *, name: str | None = None, every: Duration = "1s") -> CustomSource:
    """An object of yours; `source=MySource()` is the same as `source=live.custom(MySource())`.

    Its method `read(position)` yields pairs of messages and a position (JSON), from which a later call goes on. It
    may end (it is called again after `every`) or go on for ever. Messages are rows (dicts), bytes, text, or
    `live.Message`s. If it has a method `close()`, that is called, from another thread, when it shall end.

    Args:
        source: the object.
        name: which source it is: positions of another name are not its. None: its attribute `name`, or its class's.
        every: how long after the end of one `read` the next begins.
    """
    if not callable(getattr(source, "read", None)):
        raise DefinitionError(
            f"{source!r} is no source: it has no method `read(position)`.",
            where=here(),
            hint='live.tail("..."), live.http(port=...), or an object with `read`',
        )
    called = name or str(getattr(source, "name", None) or type(source).__qualname__)
    return CustomSource(source, called, read_duration(every, "every", where=here(), zero=True))


def as_source(given: Any, time: str | None = None) -> LiveSpec | None:
    """The argument `source=` of a topic, whose time rows of tables go by. Raises DefinitionError."""
    if isinstance(given, TableChanges | TableReplay | ArchiveReplay) and given.time is None:
        given = replace(given, time=time)
    if isinstance(given, TableReplay | ArchiveReplay) and given.speed is not None and given.time is None:
        raise DefinitionError("A speed needs a time to go by.", where=here(), hint='time="departed_at"')
    return given if given is None or isinstance(given, _KINDS) else custom(given)


def _full_name(text: str, what: str) -> str:
    if text.count(".") != 1:
        raise DefinitionError(f'"{text}" names no {what}.', where=here(), hint=f'"pipeline.{what}"')
    return str(placed(TableName.parse, text))


def _speed(speed: float | None) -> float | None:
    if speed is None:
        return None
    if not _is_number(speed) or not 0 < speed < float("inf"):
        raise DefinitionError(f"speed={speed!r} is no speed.", where=here(), hint="600: ten minutes pass in a second")
    return float(speed)


def _is_number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
