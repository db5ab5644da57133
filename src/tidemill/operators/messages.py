"""What tasks send to a topic, in the forms in which users have it: plain values, pairs, dictionaries; as bytes."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from itertools import groupby, islice
from typing import Any, NamedTuple
from uuid import UUID

from tidemill.model.errors import DataError
from tidemill.ports.topic import Headers, Writer

#: So many messages are handed to the writer at a time: a function may yield more than fit into memory.
_AT_A_TIME = 1_000
#: Fields of a message that is given as a dictionary.
_FIELDS = ("value", "key", "headers", "partition", "timestamp")


class Outgoing(NamedTuple):
    """A message as it is sent. `partition` None: its key says it. `timestamp` in milliseconds; None: now."""

    value: bytes | None
    key: bytes | None
    headers: Headers
    partition: int | None
    timestamp: int | None


def each(given: Any) -> Iterable[Any]:
    """The messages of what may be one or many: texts, bytes, pairs and dictionaries are one."""
    if given is None:
        return ()
    one = isinstance(given, str | bytes | tuple | Mapping) or not isinstance(given, Iterable)
    return (given,) if one else given


def send_all(
    writer: Writer, topic: str, given: Iterable[Any], default_key: Any, now: Callable[[], datetime], where: str
) -> int:
    """Send messages; gives how many there were.

    Args:
        writer: sends them.
        topic: where to.
        given: messages in a user's forms.
        default_key: of those that have none; a function is asked with the value.
        now: the time of messages that have none, beside others that have one.
        where: whose they are, for messages of errors.

    Raises:
        DataError: one cannot be sent as it is. What `Writer.send` raises.
    """
    rest, count = iter(given), 0
    while some := list(islice(rest, _AT_A_TIME)):
        made = [outgoing(one, default_key, f"{where}, message {count + at}") for at, one in enumerate(some, 1)]
        # A call of the writer has partitions for all of its messages or for none.
        for placed, messages in groupby(made, lambda one: one.partition is not None):
            _send(writer, topic, list(messages), placed, now)
        count += len(made)
    return count


def outgoing(given: Any, default_key: Any, where: str) -> Outgoing:
    """A message in one of a user's forms. Raises DataError."""
    fields: Mapping[str, Any] = {"value": given}
    if isinstance(given, tuple):
        if len(given) != 2:
            raise DataError(f"A tuple of {len(given)} is no message.", where=where, hint="(key, value)")
        fields = {"key": given[0], "value": given[1]}
    elif isinstance(given, Mapping) and "value" in given:
        fields = given
        # {"value": 1, "unit": "m"} may be a value in itself; with a key beside, it is a message gone wrong.
        if strange := [str(name) for name in given if name not in _FIELDS]:
            if any(name in given for name in _FIELDS[1:]):
                raise DataError(
                    f'A message has no "{strange[0]}": it has {", ".join(_FIELDS)}.',
                    where=where,
                    hint='a dictionary that is meant as the value goes into another: {"value": {...}}',
                )
            fields = {"value": given}
    key = fields.get("key")
    if key is None:
        key = default_key(fields["value"]) if callable(default_key) else default_key
    return Outgoing(
        as_bytes(fields["value"], where),
        as_bytes(key, where),
        _headers(fields.get("headers"), where),
        _partition(fields.get("partition"), where),
        _milliseconds(fields.get("timestamp"), where),
    )


def as_bytes(value: Any, where: str) -> bytes | None:
    """A value as it is sent: bytes as they are, texts in UTF-8, None (a tombstone) as none, all else as JSON."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"A value of type {type(value).__name__} cannot be JSON: {error}.", where=where) from None


def _plain(value: Any) -> Any:
    """What JSON has no form for, as streams write it."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in it")


def _headers(given: Any, where: str) -> Headers:
    pairs = given.items() if isinstance(given, Mapping) else given or ()
    try:
        return [(str(name), as_bytes(value, where)) for name, value in pairs]
    except (TypeError, ValueError):
        raise DataError(
            f"{given!r} are no headers.", where=where, hint='{"name": "value"}, or a list of such pairs'
        ) from None


def _partition(given: Any, where: str) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    raise DataError(f"{given!r} is no partition.", where=where, hint="a number from 0 on")


def _milliseconds(given: Any, where: str) -> int | None:
    if given is None or (isinstance(given, int) and not isinstance(given, bool) and given >= 0):
        return given
    if isinstance(given, datetime) and given.tzinfo is not None:
        return int(given.timestamp() * 1000)
    raise DataError(
        f"{given!r} is no time of a message.",
        where=where,
        hint="milliseconds since 1970 in UTC, or a datetime with a time zone",
    )


def _send(writer: Writer, topic: str, messages: list[Outgoing], placed: bool, now: Callable[[], datetime]) -> None:
    columns: Iterator[Any] = zip(*messages, strict=True)
    values, keys, headers, partitions, timestamps = (list(column) for column in columns)
    if any(one is not None for one in timestamps):
        present = int(now().timestamp() * 1000)
        timestamps = [present if one is None else one for one in timestamps]
    else:
        timestamps = []
    writer.send(
        topic,
        values,
        keys=keys if any(one is not None for one in keys) else None,
        partitions=partitions if placed else None,
        timestamps=timestamps or None,
        headers=headers if any(headers) else None,
    )
