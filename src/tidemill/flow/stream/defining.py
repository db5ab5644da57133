"""A stream's function called: the frames that it returns, each with a sink, over frames of topics and tables."""

from __future__ import annotations

from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame, Input, as_frame
from tidemill.model.frame.topic import Sink, ToTable, ToTopic
from tidemill.model.stream import StreamSpec


def frames_of(spec: StreamSpec) -> list[Frame]:
    """The frames of a stream, each ending with a sink.

    Raises:
        DefinitionError: the function returns something else.
    """
    given = {name: Frame.of(Input(topic.name, "topic", topic)) for name, topic in spec.topics.items()}
    given |= {name: Frame.of(Input(str(table), "whole")) for name, table in spec.tables.items()}
    returned = spec.function(**given)
    several = returned if isinstance(returned, list | tuple) else [returned]
    if not several:
        raise DefinitionError(f'Stream "{spec.name}" returned no frame.', where=spec.place, hint="return f")
    return [_with_sink(as_frame(one, spec.name), spec) for one in several]


def _with_sink(frame: Frame, spec: StreamSpec) -> Frame:
    """The frame, ending with a sink: what was written before, or the stream's own."""
    if any(isinstance(step, Sink) for step in frame.operations):
        last = max(place for place, step in enumerate(frame.operations) if isinstance(step, Sink))
        return Frame(frame.source, frame.operations[: last + 1])
    if spec.to is not None:
        to = spec.to
        return frame.then(lambda at: ToTopic(at=at, topic=to, key=to.key))
    return frame.then(lambda at: ToTable(at=at, table=spec.name, options={}))
