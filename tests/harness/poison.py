"""Streams of tests over any broker: played in the test's thread, fed with whatever bytes, crashed and begun again."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import tidemill as tm
from harness.topics import Place
from tidemill.adapters.memory.state import MemoryStates
from tidemill.authoring import registry as declared
from tidemill.authoring.streams import Stream
from tidemill.flow.stream.process import StreamProcess
from tidemill.flow.stream.redrive import Letter, letters_of
from tidemill.flow.stream.stretch import whole
from tidemill.ports.registry import Registry
from tidemill.ports.state import StateStores
from tidemill.ports.topic import Messages
from tidemill.testing.stream import _Tables
from tidemill.wiring.streams import StreamMaker

#: Turns without a message, each of a tenth of a second, after which nothing more is expected; and after which it is
#: asked whether anything is left to read.
QUIET, ASK = 12, 2


@contextmanager
def pipeline() -> Iterator[tm.Pipeline]:
    """A pipeline of the test's own name; of none that others have declared is anything known meanwhile."""
    declared.clear()
    yield tm.Pipeline(f"p{uuid.uuid4().hex[:12]}")
    declared.clear()


def topic_name() -> str:
    """A name that no other test has."""
    return f"t-{uuid.uuid4().hex[:12]}"


class Driven:
    """A stream, worked on in this thread.

    Args:
        place: the broker.
        stream: what `@pipeline.stream` returned.
        states: where it keeps what it remembers.
        registry: of schemas.
    """

    def __init__(
        self,
        place: Place,
        stream: Stream,
        states: StateStores | None = None,
        registry: Registry | None = None,
    ) -> None:
        self.place = place
        self.pipeline = stream.pipeline.spec()
        self.spec = self.pipeline.streams[stream.name]
        self.states = states or MemoryStates()
        self.maker = StreamMaker(place.topics, self.states, _Tables({}), place.clock, registry)
        self.process: StreamProcess | None = None

    def __enter__(self) -> Driven:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.abandon()

    def begin(self, identity: str = "test") -> StreamProcess:
        """Begin, without working yet."""
        self.process = self.maker.process(self.pipeline, self.spec, identity)
        return self.process

    def work(self, done: Callable[[], object] | None = None) -> None:
        """Work until something is so, or, without it, until all that there is has been read and counts."""
        process, quiet = self.process or self.begin(), 0

        def step() -> bool:
            nonlocal quiet
            quiet = 0 if process.turn() or process._dirty or not process.works else quiet + 1
            if done is not None:
                return bool(done())
            return quiet >= QUIET or (quiet == ASK and self._has_read_all(process))

        self.place.until(step, "for the stream")

    def _has_read_all(self, process: StreamProcess) -> bool:
        """Whether the broker has nothing more for any task, and there is no task that waits to begin."""
        if process._reader is None or len(process.works) + len(process.loaders) < len(process.plan.tasks):
            return False
        places = process._reader.positions()
        ends = {topic: self.place.topics.describe(topic) for topic in {partition.topic for partition in places}}
        return all((info := ends[p.topic]) is not None and at >= info.end[p.number] for p, at in places.items())

    def stop(self) -> None:
        """End as one should."""
        assert self.process is not None
        self.process.checkpoint()
        self.process.close()
        self.process = None

    def feed(self, topic: str, values: Sequence[Mapping[str, Any] | bytes | None], **more: Any) -> None:
        """Send messages: dicts as JSON."""
        made = [
            one if isinstance(one, bytes) or one is None else json.dumps(one, default=str).encode() for one in values
        ]
        self.place.send(topic, made, **more)

    def rows(self, topic: str) -> list[dict[str, Any]]:
        """All messages of a topic that count."""
        return [json.loads(value) for value in self.values(topic) if value is not None]

    def read(self) -> str:
        """The topic that the stream reads."""
        (topic,) = {topic.name for topic in self.spec.topics.values()}
        return topic

    def written(self) -> str:
        """The topic that it writes."""
        (topic,) = self.maker.plan(self.spec)[0].written()
        return topic.name

    def messages(self, topic: str) -> list[Messages]:
        """All messages of a topic that count."""
        return list(whole(self.place.topics, self.place.clock, topic))

    def read_letters(self) -> list[Letter]:
        """What was put aside, as commands see it."""
        return letters_of(self.place.topics, self.place.clock, f"{self.spec.full_name}.dead-letters")

    def has(self, topic: str, rows: int) -> bool:
        """Whether so many rows of a topic count; asked while nothing of the stream's own is on its way there.

        A reader waits for what is sent and not committed, and who would commit it asks here.
        """
        return self.process is not None and not self.process._dirty and len(self.rows(topic)) >= rows

    def values(self, topic: str) -> list[bytes | None]:
        """Their values."""
        return [value for found in self.messages(topic) for value in found.values]

    def letters(self, kind: str = "dead-letters") -> list[dict[str, Any]]:
        """What was put aside, with the headers' names as keys."""
        found = []
        for messages in self.messages(f"{self.spec.full_name}.{kind}"):
            for place, value in enumerate(messages.values):
                headers = messages.headers[place] if messages.headers is not None else ()
                told = {n.removeprefix("tidemill-"): (c or b"").decode() for n, c in headers}
                found.append({"key": messages.keys[place], "value": value, **told})
        return found
