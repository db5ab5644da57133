"""Dead letters: what could not be taken, with all that is needed to see why and to send it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from tidemill.ports.topic import Headers, Messages, Partition

Kind = Literal["undecodable", "failed", "late"]

#: Characters of an error that a letter tells.
_LONGEST = 20_000


def letter_headers(
    kind: Kind, *, step: str, error: str, origin: Partition | None, offset: int | None, row: Mapping[str, Any] | None
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
        found.append(("tidemill-row", as_json(row)))
    return [(name, value.encode()) for name, value in found]


def as_json(row: Mapping[str, Any]) -> str:
    """A row as JSON; values that JSON does not have are text."""
    return json.dumps(dict(row), default=str, ensure_ascii=False)


class Read:
    """The messages that have been read since the last checkpoint's, as far as a failure may ask for them."""

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
        try:
            place = list(stretch.offsets).index(offset)
        except ValueError:
            return None
        headers = stretch.headers[place] if stretch.headers is not None else ()
        return stretch.keys[place], stretch.values[place], stretch.timestamps[place], headers
