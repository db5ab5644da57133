"""Dead letters: what could not be taken, with all that is needed to see why and to send it again."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tidemill.model.errors import LimitError
from tidemill.ports.topic import Headers, Messages, Partition, Writer

Kind = Literal["undecodable", "failed", "quarantined", "late"]

#: Characters of an error that a letter tells.
_LONGEST = 20_000
#: A letter that is larger than its topic takes has this header, with the content's bytes, and this much of each value.
CUT = "tidemill-cut"
_ROW = "tidemill-row"
_SHORT = 200


def letter_headers(
    kind: Kind, step: str, error: str, origin: Partition | None, offset: int | None, row: Mapping[str, Any] | None
) -> Headers:
    """What a dead letter's headers tell; its key and value are those of the message.

    Names begin with `tidemill-`: `kind`, `step`, `error`, and where they are known `topic`, `partition`, `offset`
    of the message, and `row`: the row as JSON, where it is not the message's own any more.
    """
    found = [("tidemill-kind", kind), ("tidemill-step", step), ("tidemill-error", error[:_LONGEST])]
    if origin is not None and offset is not None:
        found += [
            ("tidemill-topic", origin.topic),
            ("tidemill-partition", str(origin.number)),
            ("tidemill-offset", str(offset)),
        ]
    if row is not None:
        found.append((_ROW, as_json(row)))
    return [(name, value.encode()) for name, value in found]


def send_letter(
    writer: Writer,
    topic: str,
    tells: Callable[[Mapping[str, Any] | None], Headers],
    message: tuple[bytes | None, bytes | None, int, Headers] = (None, None, -1, ()),
    row: Mapping[str, Any] | None = None,
) -> None:
    """Send a letter; one that is larger than its topic takes without the message's content, and with values cut short.

    Args:
        writer: sends it.
        topic: where to.
        tells: gives our headers, with the row as it shall be told.
        message: key, value, timestamp and headers, where there is one.
        row: what the step was given, where that is not the message.
    """
    key, value, timestamp, theirs = message
    stamps = None if timestamp < 0 else [timestamp]
    try:
        writer.send(topic, [value], keys=[key], timestamps=stamps, headers=[[*theirs, *tells(row)]])
    except LimitError:
        size = len(value or b"") if row is None else len(as_json(row))
        cut = [*tells(None if row is None else _cut(row)), (CUT, str(size).encode())]
        writer.send(topic, [None], keys=[key and key[:_SHORT]], timestamps=stamps, headers=[cut])


def send_rows(
    writer: Writer,
    topic: str,
    tells: Callable[[Mapping[str, Any] | None], Headers],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Send letters of rows that are no message's, in one call: one by one each took 90 us, and all rows may be late.

    Their values are the rows as JSON: who wants to do something with them reads the topic like any other.
    """
    try:
        writer.send(topic, [as_json(row).encode() for row in rows], headers=[tells(None)] * len(rows))
    except LimitError:
        for row in rows:
            send_letter(writer, topic, tells, row=row)


def _cut(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of which long values are only begun."""
    texts = {name: value if isinstance(value, str) else str(value) for name, value in row.items()}
    return {name: row[name] if len(text) <= _SHORT else f"{text[:_SHORT]}..." for name, text in texts.items()}


def as_json(row: Mapping[str, Any]) -> str:
    """A row as JSON; values that JSON does not have are text."""
    return json.dumps(dict(row), default=str, ensure_ascii=False)


class Read:
    """The last stretch of messages of each partition, which failures are about."""

    def __init__(self) -> None:
        self._stretches: dict[Partition, Messages] = {}

    def now(self, messages: Messages) -> None:
        """These are being worked on."""
        self._stretches[messages.partition] = messages

    def message(self, partition: Partition, offset: int) -> tuple[bytes | None, bytes | None, int, Headers] | None:
        """A message's key, value, timestamp and headers, if it is among those that are being worked on."""
        stretch = self._stretches.get(partition)
        if stretch is None:
            return None
        place = bisect_left(stretch.offsets, offset)
        if place == len(stretch) or stretch.offsets[place] != offset:
            return None
        headers = stretch.headers[place] if stretch.headers is not None else ()
        return stretch.keys[place], stretch.values[place], stretch.timestamps[place], headers
