"""Dead letters read, and sent to their topics again.

A letter stays where it is. That it was sent again is a message of its own in the same topic (a mark), committed in one
step with what was sent: so it is known, whatever dies when, and nothing is sent twice by accident.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from tidemill.flow.stream.letters import CUT
from tidemill.flow.stream.stretch import stretch, whole
from tidemill.model.errors import Refused, TidemillError, UnknownName
from tidemill.ports.clock import Clock
from tidemill.ports.topic import Headers, Messages, Partition, Topics, moment_of

_OWN = "tidemill-"
_KIND = "tidemill-kind"
#: The kind of a mark, and the header that names the letter's offset.
_REDRIVEN = b"redriven"
_LETTER = "tidemill-letter"
#: What a message that was sent again says: the dead-letter topic and the offset in it.
FROM = "tidemill-redriven-from"


@dataclass(frozen=True, slots=True)
class Letter:
    """What could not be taken.

    Args:
        offset: in the dead-letter topic.
        at: of the message; None: it has no time.
        kind: `undecodable`, `failed`, `late`.
        step: the verb that could not take it. `error`: why.
        origin, origin_offset: of the message; None: the row is not that of one message any more.
        key, value: of the message, as they came. `headers`: the message's own.
        row: what the step was given, where that is not the message.
        cut: the content was larger than the topic of the letters takes: it is not all here.
        redriven: when it was sent again.
    """

    offset: int
    at: datetime | None
    kind: str
    step: str
    error: str
    origin: Partition | None
    origin_offset: int | None
    key: bytes | None
    value: bytes | None
    headers: Headers
    row: Mapping[str, Any] | None = None
    cut: bool = False
    redriven: tuple[datetime, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """A letter that was sent again, and where to."""

    letter: Letter
    value: bytes | None
    edited: bool = False


def letters_of(topics: Topics, clock: Clock, topic: str) -> list[Letter]:
    """All letters of a topic, oldest first."""
    letters: dict[int, Letter] = {}
    for messages in whole(topics, clock, topic):
        for place, offset in enumerate(messages.offsets):
            headers = messages.headers[place] if messages.headers is not None else ()
            told = {name: content or b"" for name, content in headers if name.startswith(_OWN)}
            at = moment_of(messages.timestamps[place])
            if told.get(_KIND) == _REDRIVEN:
                marked = letters.get(int(told[_LETTER]))
                if marked is not None:
                    letters[marked.offset] = replace(marked, redriven=(*marked.redriven, *([at] if at else ())))
                continue
            letters[offset] = _letter(messages, place, headers, told, at)
    return list(letters.values())


def chosen(letters: Sequence[Letter], topic: str, offsets: Sequence[int], *, again: bool) -> list[Letter]:
    """The letters to send again: those at the offsets, or all that were not sent again yet.

    Raises:
        UnknownName: there is no letter at an offset.
        Refused: one was sent again already, or is not that of one message.
    """
    if not offsets:
        return [one for one in letters if one.origin is not None and (again or not one.redriven)]
    known = {one.offset: one for one in letters}
    return [_chosen(known, topic, offset, again=again) for offset in dict.fromkeys(offsets)]


def _chosen(known: Mapping[int, Letter], topic: str, offset: int, *, again: bool) -> Letter:
    if offset not in known:
        raise UnknownName.of("letter", str(offset), map(str, known), where=topic)
    letter = known[offset]
    if letter.redriven and not again:
        raise Refused(
            f"Letter {offset} was sent again at {letter.redriven[-1]:%Y-%m-%d %H:%M:%S} already.",
            hint="--again sends it once more",
        )
    if letter.origin is None:
        raise Refused(
            f"Letter {offset} is a row that came of several messages, or of one behind a step that remembers: "
            "there is no message to send again.",
            hint="mend the code, and replay the range: tidemill stream replay",
        )
    return letter


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is sent again of many letters, and why others are not, by their offsets."""

    sent: list[Sent]
    refused: dict[int, TidemillError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Redrive:
    """Sends letters again.

    Args:
        topics: the broker.
        clock: dates the marks.
        stream: whose letters.
        topic: with the letters.
        edits: values to send instead, by offset. `keys`: and keys, which say the partition then.
    """

    topics: Topics
    clock: Clock
    stream: str
    topic: str
    edits: Mapping[int, bytes] = field(default_factory=dict)
    keys: Mapping[int, bytes] = field(default_factory=dict)

    def plan(self, offsets: Sequence[int] = (), *, again: bool = False, each: bool = False) -> Chosen:
        """What `send` would send now. Raises the same, but for Fenced."""
        letters = letters_of(self.topics, self.clock, self.topic)
        refused: dict[int, TidemillError] = {}
        if each and offsets:
            known, picked = {one.offset: one for one in letters}, []
            for offset in dict.fromkeys(offsets):
                try:
                    picked.append(_chosen(known, self.topic, offset, again=again))
                except (Refused, UnknownName) as error:
                    refused[offset] = error
        else:
            picked = chosen(letters, self.topic, offsets, again=again)
        found = []
        for letter in picked:
            try:
                found.append(self._message(letter))
            except Refused as error:
                if not each:
                    raise
                refused[letter.offset] = error
        return Chosen(found, refused)

    def send(self, offsets: Sequence[int] = (), *, again: bool = False, each: bool = False) -> Chosen:
        """Send the letters at these offsets, or all that were not sent again yet.

        Args:
            offsets: of letters; none: all.
            again: also letters that were sent again before.
            each: leave out those that cannot be sent, and tell why, instead of sending none.

        Raises:
            Refused, UnknownName: see `chosen`; or a message is kept nowhere any more. Nothing was sent then.
            Fenced: another one is at it.
        """
        # Opened before letters are read: whoever was at it before has either committed its marks, or is fenced.
        writer = self.topics.writer(f"{self.stream}.redrive", "exactly-once")
        try:
            found = self.plan(offsets, again=again, each=each)
            for sent in found.sent:
                letter = sent.letter
                assert letter.origin is not None
                headers = [*letter.headers, (FROM, f"{self.topic}@{letter.offset}".encode())]
                stamps = None if letter.at is None else [_millis(letter.at)]
                where = None if letter.offset in self.keys else letter.origin.number
                writer.send(
                    letter.origin.topic, [sent.value], keys=[letter.key], partitions=where,
                    timestamps=stamps, headers=[headers],
                )  # fmt: skip
                mark = [(_KIND, _REDRIVEN), (_LETTER, str(letter.offset).encode())]
                now = _millis(self.clock.now())
                writer.send(self.topic, [None], partitions=0, timestamps=[now], headers=[mark])
            writer.commit({})
            return found
        finally:
            writer.close()

    def _message(self, letter: Letter) -> Sent:
        if letter.offset in self.edits:
            key = self.keys.get(letter.offset, letter.key)
            return Sent(replace(letter, key=key), self.edits[letter.offset], edited=True)
        if letter.row is None and not letter.cut:
            return Sent(letter, letter.value)
        # The letter does not have the message: that is where it came from.
        assert letter.origin is not None
        assert letter.origin_offset is not None
        begin, until = {letter.origin: letter.origin_offset}, {letter.origin: letter.origin_offset + 1}
        for messages in stretch(self.topics, self.clock, begin, until):
            if messages.offsets[0] == letter.origin_offset:
                headers = messages.headers[0] if messages.headers is not None else ()
                at = moment_of(messages.timestamps[0])
                return Sent(replace(letter, key=messages.keys[0], headers=headers, at=at), messages.values[0])
        raise Refused(
            f"The message of letter {letter.offset}, {letter.origin} at {letter.origin_offset}, is kept no more.",
            hint="--edit gives its value anew",
        )


def _letter(messages: Messages, place: int, headers: Headers, told: Mapping[str, bytes], at: datetime | None) -> Letter:
    def text(name: str) -> str:
        return told.get(_OWN + name, b"").decode("utf-8", "replace")

    origin = Partition(text("topic"), int(text("partition"))) if text("topic") else None
    value, row = messages.values[place], told.get(_OWN + "row")
    if row is None and text("kind") == "late":  # its row is its value, see `send_rows`
        value, row = None, value
    return Letter(
        offset=messages.offsets[place],
        at=at,
        kind=text("kind"),
        step=text("step"),
        error=text("error"),
        origin=origin,
        origin_offset=int(text("offset")) if origin is not None else None,
        key=messages.keys[place],
        value=value,
        headers=[(name, content) for name, content in headers if not name.startswith(_OWN)],
        row=None if row is None else json.loads(row.decode("utf-8", "replace")),
        cut=CUT in told,
    )


def _millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)
