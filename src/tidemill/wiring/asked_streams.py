"""Port `asked` by the project's own streams: what `tidemill stream` shows and does where the project is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tidemill.flow.stream.redrive import Letter
from tidemill.ports.asked import Facts
from tidemill.wiring import stream_letters, stream_pauses, stream_reset, stream_sources
from tidemill.wiring.stream_care import StreamCare, lag_json
from tidemill.wiring.topic_browse import Decoding, Message


@dataclass(frozen=True, slots=True)
class OwnStreams:
    """Port `AskedStreams`.

    Args:
        open_care: the project's streams.
    """

    open_care: Callable[[], StreamCare]

    def listed(self) -> list[Facts]:
        """As their files declare them."""
        return [asdict(one) for one in self.open_care().overview()]

    def one(self, name: str) -> Facts:
        """With its topology."""
        return self.open_care().show(name)

    def lag(self, name: str | None) -> dict[str, list[Facts]]:
        """By stream."""
        found = self.open_care().lag(name)
        return {stream: [lag_json(one) for one in lags] for stream, lags in found.items()}

    def letters(self, name: str, *, late: bool) -> Facts:
        """As they are in their topic."""
        stream, topic, found = stream_letters.letters(self.open_care(), name, late=late)
        return {"stream": stream, "topic": topic, "letters": [letter_facts(one) for one in found]}

    def redrive(
        self, name: str, offsets: Sequence[int], edits: Mapping[int, bytes], *, again: bool, each: bool, dry_run: bool
    ) -> Facts:
        """In one commit."""
        stream, found = stream_letters.send(
            self.open_care(), name, offsets, edits, again=again, each=each, dry_run=dry_run
        )
        refused = [{"offset": offset, "error": error.what} for offset, error in found.refused.items()]
        return {"stream": stream, "offsets": [one.letter.offset for one in found.sent], "refused": refused}

    def feed(self, topic: str, lines: Sequence[bytes], key: Sequence[str], *, strict: bool) -> int:
        """Some thousands at a time, in one commit."""
        return self.open_care().feed(topic, lines, key, strict=strict)

    def topics(self) -> list[Facts]:
        """By name."""
        return [asdict(one) for one in self.open_care().topic_rows()]

    def peek(self, topic: str, last: int) -> list[Facts]:
        """No group's position moves."""
        care = self.open_care()
        return [message_facts(one) for one in Decoding(care, topic).of(care.peek(topic, last))]

    def follow(self, topic: str) -> Iterator[Facts | None]:
        """By a reader of its own."""
        care = self.open_care()
        decoding = Decoding(care, topic)
        for one in care.follow(topic):
            yield None if one is None else message_facts(*decoding.of([one]))

    def sources(self) -> list[Facts]:
        """By topic."""
        return [asdict(one) for one in stream_sources.fed_topics(self.open_care())]

    def refeed(self, topic: str) -> Facts | None:
        """Who feeds it now goes on from the beginning."""
        found = stream_sources.refeed(self.open_care(), topic)
        return None if found is None else {"source": found.source, "messages": found.messages}

    def pause(self, name: str, *, paused: bool) -> str:
        """In the database, where processes look."""
        return stream_pauses.pause(self.open_care(), name, paused=paused)

    def state(self, name: str) -> str:
        """By what its processes have told."""
        return stream_pauses.state(self.open_care(), name)

    def preview_reset(self, name: str, to: str) -> Facts:
        """What `reset` would do."""
        found = stream_reset.preview(self.open_care(), name, to)
        positions = [
            {"topic": p.topic, "partition": p.number, "offset": offset, "before": found.before.get(p)}
            for p, offset in sorted(found.positions.items())
        ]
        return {
            "stream": found.stream, "positions": positions, "cleared": list(found.cleared),
            "stores": list(found.stores),
        }  # fmt: skip

    def reset(self, name: str, to: str) -> None:
        """From there on."""
        care = self.open_care()
        stream_reset.begin_anew(care, name, stream_reset.preview(care, name, to))


def letter_facts(one: Letter) -> Facts:
    """A dead letter; content that is no text is bytes."""
    return {
        "offset": one.offset, "at": one.at, "kind": one.kind, "step": one.step, "error": one.error,
        "topic": one.origin.topic if one.origin else None,
        "partition": one.origin.number if one.origin else None,
        "message_offset": one.origin_offset, "key": _content(one.key), "value": _content(one.value),
        "headers": [[name, _content(value)] for name, value in one.headers],
        "row": one.row, "redriven": list(one.redriven),
    }  # fmt: skip


def message_facts(message: Message) -> Facts:
    """A message; content that is no text is bytes."""
    one = message.seen
    return {
        "partition": one.partition, "offset": one.offset, "at": one.at, "key": _content(one.key),
        "value": _content(one.value), "headers": [[name, _content(value)] for name, value in one.headers],
        "row": message.row,
    }  # fmt: skip


def _content(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
