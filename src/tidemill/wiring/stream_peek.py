"""The last rows of topics, frames and streams for notebooks: in memory, as a replay; nothing moves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tidemill.flow.stream.facts import target_of
from tidemill.model.errors import DefinitionError, UnknownName, UserError
from tidemill.model.frame import Frame, Topic
from tidemill.model.frame.topic import Sink
from tidemill.model.pipeline import PipelineSpec
from tidemill.model.stream import StreamSpec
from tidemill.ports.topic import Partition
from tidemill.wiring.codecs import registry_of
from tidemill.wiring.messages import reader_of
from tidemill.wiring.settings import Settings
from tidemill.wiring.stream_care import StreamCare
from tidemill.wiring.stream_replay import play

if TYPE_CHECKING:
    from tidemill.ports.metadata import Metadata

#: Where rows of a frame go that has no sink of its own.
_HERE = "here"
_PIPELINE = PipelineSpec("peek", None, None, None, False, {}, {}, {})


class Peeking:
    """Looks into a project's topics. A context that lets the broker go.

    Args:
        settings: the project.
        metadata: its database.
    """

    def __init__(self, settings: Settings, metadata: Metadata) -> None:
        self._care = StreamCare(settings, metadata)

    def __enter__(self) -> Peeking:
        return self

    def __exit__(self, *_: object) -> None:
        self._care.close()

    def topic(self, topic: Topic, rows: int) -> Any:
        """The last rows of a topic. Raises UnknownName."""
        from tidemill.adapters.polars.tables import given_rows

        seen = self._care.peek(topic.name, rows)
        values = [one.value for one in seen]
        if topic.columns is None and topic.codec == "json":
            return given_rows(_objects(values), topic.name)
        return reader_of(topic, registry_of(self._care.settings.streams)).read([one.key for one in seen], values).rows

    def frame(self, frame: Frame, rows: int, messages: int) -> Any:
        """The last rows that a frame gives.

        Raises:
            DefinitionError: it is over a table. UnknownName: there is no such topic.
        """
        plain = Frame(frame.source, [step for step in frame.operations if not isinstance(step, Sink)])
        topics: dict[str, Topic] = {}
        for source in plain.inputs():
            if not isinstance(source.data, Topic):
                raise DefinitionError(f'"{source.name}" is no topic.', hint="only frames over topics can be looked at")
            topics[f"topic{len(topics)}"] = source.data
        spec = StreamSpec("peek", _HERE, lambda **_: plain, topics)
        return self._last(_PIPELINE, spec, rows, messages, f"table:{_HERE}")

    def stream(self, pipeline: PipelineSpec, spec: StreamSpec, rows: int, messages: int, to: str | None) -> Any:
        """The last rows that a stream gives.

        Raises:
            UserError: it has several sinks, and `to` names none. UnknownName: there is no such topic, or sink.
        """
        nodes = self._care.plan(spec).topology.nodes
        known = [target for node in nodes if (target := target_of(node))]
        names = {target.partition(":")[2] or target: target for target in known}
        if to is None and len(set(known)) > 1:
            raise UserError(f'Stream "{spec.name}" has several sinks.', hint=" or ".join(f'to="{n}"' for n in names))
        if to is not None and to not in names:
            raise UnknownName.of("sink", to, names)
        return self._last(pipeline, spec, rows, messages, known[0] if to is None else names[to])

    def _last(self, pipeline: PipelineSpec, spec: StreamSpec, rows: int, messages: int, target: str) -> Any:
        from tidemill.adapters.polars.tables import last_rows

        found: list[Any] = []

        def give_out(where: str, key: tuple[str, ...], some: Any) -> None:
            if where == target:
                found.append(some.tail(rows))
                while sum(piece.height for piece in found[1:]) >= rows:
                    del found[0]

        play(self._care, pipeline, spec, self._ranges(spec, messages), give_out)
        return last_rows(found, rows)

    def _ranges(self, spec: StreamSpec, messages: int) -> Mapping[Partition, tuple[int, int]]:
        """The last messages of each partition."""
        topics = self._care.topics
        found: dict[Partition, tuple[int, int]] = {}
        for name in {topic.name for topic in spec.topics.values()}:
            info = topics.describe(name)
            if info is None:
                raise UnknownName.of("topic", name, topics.names())
            for number, (first, end) in enumerate(zip(info.first, info.end, strict=True)):
                found[Partition(name, number)] = max(first, end - messages), end
        return found


def _objects(values: list[bytes | None]) -> list[dict[str, Any]]:
    """JSON objects; whatever is none is left out."""
    found = []
    for value in values:
        with suppress(ValueError, TypeError):
            made = json.loads(value)  # type: ignore[arg-type]  # None is a TypeError
            if isinstance(made, dict):
                found.append(made)
    return found
