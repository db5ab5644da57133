"""Port `asked` by the API of a server: its streams."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from tidemill.adapters.server.asking import Server, path
from tidemill.model.errors import LimitError, UnknownName, UserError
from tidemill.ports.asked import Facts
from tidemill.ports.clock import Clock

#: Bytes of a request that a server takes.
_LARGEST = 1 << 20
_FEED_THERE = "tidemill stream feed, where the project is"
#: Messages that one look gives at most.
_MOST = 200
#: Seconds between two looks at a topic that is followed.
_LOOK_AGAIN = 0.5
_PEEK_THERE = "tidemill stream peek, where the project is"
#: What is told of a topic in a list, and of a message, where the project is.
_OF_TOPICS = ("name", "partitions", "messages", "cleanup", "role", "streams", "source", "archived", "unarchived")
_OF_MESSAGES = ("partition", "offset", "at", "key", "value", "headers", "row")


class ServerStreams:
    """Port `AskedStreams`."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server = server
        self._clock = clock

    def listed(self) -> list[Facts]:
        """By name."""
        return list(self._server.pages(path("streams"), "streams"))

    def one(self, name: str) -> Facts:
        """With its topology."""
        return self._server.get(path("streams", self._meant(name)))

    def lag(self, name: str | None) -> dict[str, list[Facts]]:
        """One request for each stream."""
        names = [one["stream"] for one in self.listed()] if name is None else [self._meant(name)]
        found = [self._server.get(path("streams", one, "lag")) for one in names]
        return {one["stream"]: one["lag"] for one in found}

    def letters(self, name: str, *, late: bool) -> Facts:
        """Page by page."""
        stream = self._meant(name)
        where, asked = path("streams", stream, "letters"), "true" if late else None
        found = [_content_of(one) for one in self._server.pages(where, "letters", late=asked)]
        topic = self._server.get(where, limit=1, late=asked)["topic"]
        return {"stream": stream, "topic": topic, "letters": found[::-1]}

    def redrive(
        self, name: str, offsets: Sequence[int], edits: Mapping[int, bytes], *, again: bool, each: bool, dry_run: bool
    ) -> Facts:
        """In one commit."""
        try:
            texts = {str(offset): value.decode() for offset, value in edits.items()}
        except UnicodeDecodeError:
            raise UserError(
                "A value that is no text cannot be given to a server.",
                hint="tidemill stream redrive --edit FILE, where the project is",
            ) from None
        stream = self._meant(name)
        body = {"offsets": list(offsets), "all": not offsets, "edits": texts, "again": again, "each": each}
        found = self._server.act(path("streams", stream, "redrive"), body, dry_run=dry_run)
        refused = [{"offset": one["offset"], "error": one["error"]} for one in found["refused"]]
        return {"stream": stream, "offsets": found["offsets"], "refused": refused}

    def feed(self, topic: str, lines: Sequence[bytes], key: Sequence[str], *, strict: bool) -> int:
        """In one request, so that all or none is sent."""
        try:
            texts = [line.decode() for line in lines]
        except UnicodeDecodeError:
            raise UserError("A line that is no text cannot be given to a server.", hint=_FEED_THERE) from None
        if not texts:
            return 0
        body = {"lines": texts, "key": list(key), "raw": not strict}
        if len(json.dumps(body)) > _LARGEST:
            raise LimitError(
                "That is more than the 1 MB that a server takes at once.", hint=f"in parts, or {_FEED_THERE}"
            )
        return int(self._server.act(path("topics", topic, "messages"), body)["messages"])

    def topics(self) -> list[Facts]:
        """Page by page."""
        found = self._server.pages(path("topics"), "topics", own="true")
        return [{field: one["topic" if field == "name" else field] for field in _OF_TOPICS} for one in found]

    def peek(self, topic: str, last: int) -> list[Facts]:
        """In one request; of long messages the server gives the beginning."""
        if last > _MOST:
            raise LimitError(f"A server gives the last {_MOST} messages at most.", hint=f"-n {_MOST}, or {_PEEK_THERE}")
        found = self._server.get(path("topics", topic, "messages"), limit=max(1, last))["messages"][:last]
        return self._messages(found[::-1])

    def follow(self, topic: str) -> Iterator[Facts | None]:
        """Asks twice a second how far the topic is, and for the messages of partitions that have got further."""
        at: dict[int, int] = {}
        begun = False
        while True:
            for part in self._server.get(path("topics", topic))["parts"]:
                number, end = part["partition"], part["end"]
                begin = at.setdefault(number, 0 if begun else end)
                while begin < end:
                    asked = {"partition": number, "offset": begin, "limit": _MOST}
                    found = self._server.get(path("topics", topic, "messages"), **asked)["messages"]
                    yield from self._messages(found)
                    # Between messages there may be offsets that nobody gets.
                    last = found[-1]["offset"] + 1 if found else 0
                    begin = at[number] = max(last, min(end, begin + _MOST))
            begun = True
            yield None
            self._clock.sleep(_LOOK_AGAIN)

    def _messages(self, found: Sequence[Facts]) -> list[Facts]:
        if any(one["cut"] for one in found):
            self._server.tell(f"of long messages the beginning is shown; all of it: {_PEEK_THERE}")
        return [_content_of({field: one[field] for field in _OF_MESSAGES}) for one in found]

    def sources(self) -> list[Facts]:
        """As processes there have told."""
        found: list[Facts] = self._server.get(path("sources"))["sources"]
        return found

    def refeed(self, topic: str) -> Facts | None:
        """As its topic has it then."""
        found = self._server.act(path("topics", topic, "refeed"))
        return None if found["source"] is None else {field: found[field] for field in ("source", "messages")}

    def pause(self, name: str, *, paused: bool) -> str:
        """As its database has it."""
        stream = self._meant(name)
        self._server.act(path("streams", stream, "pause" if paused else "resume"))
        return stream

    def state(self, name: str) -> str:
        """As the list of streams has it."""
        stream = self._meant(name)
        return str(self.one(stream)["state"])

    def preview_reset(self, name: str, to: str) -> Facts:
        """What `reset` would do."""
        found = self._server.act(path("streams", self._meant(name), "reset"), {"to": _place(to)}, dry_run=True)
        fields = ("topic", "partition", "offset", "before")
        positions = [{field: one[field] for field in fields} for one in found["positions"]]
        return {"positions": positions, **{field: found[field] for field in ("stream", "cleared", "stores")}}

    def reset(self, name: str, to: str) -> None:
        """From there on."""
        self._server.act(path("streams", self._meant(name), "reset"), {"to": _place(to)})

    def _meant(self, name: str) -> str:
        """A stream's whole name; the server says what is wrong with one that is whole."""
        if "." in name:
            return name
        known = [str(one["stream"]) for one in self.listed()]
        found = [one for one in known if one.rpartition(".")[2] == name]
        if len(found) != 1:
            raise UnknownName.of("stream", name, known)
        return found[0]


def _content_of(found: Facts) -> Facts:
    """A message or letter; what is no text becomes bytes again."""
    headers = [[name, _content(value)] for name, value in found["headers"]]
    return {**found, "key": _content(found["key"]), "value": _content(found["value"]), "headers": headers}


def _content(found: Any) -> Any:
    return base64.b64decode(found["base64"]) if isinstance(found, dict) else found


def _place(to: str) -> str:
    """Where to begin: a time without a zone is one of this computer's, which may be another one there."""
    if to.isdecimal():
        return to
    try:
        return datetime.fromisoformat(to).astimezone().isoformat()
    except (ValueError, OverflowError, OSError):
        return to
