"""A stream's function called: the frames that it returns, each with a sink, over frames of topics and tables."""

from __future__ import annotations

from tidemill.model.errors import DefinitionError
from tidemill.model.expectation import Expectation
from tidemill.model.frame import Frame, Input, as_frame
from tidemill.model.frame.topic import Expect, Sink, Topic, ToTable, ToTopic
from tidemill.model.place import Place
from tidemill.model.stream import StreamSpec


def frames_of(spec: StreamSpec) -> list[Frame]:
    """The frames of a stream, each ending with a sink.

    Raises:
        DefinitionError: the function returns something else.
    """
    given = {name: _of_topic(topic, spec) for name, topic in spec.topics.items()}
    given |= {name: Frame.of(Input(str(table), "whole")) for name, table in spec.tables.items()}
    returned = spec.function(**given)
    several = returned if isinstance(returned, list | tuple) else [returned]
    if not several:
        raise DefinitionError(f'Stream "{spec.name}" returned no frame.', where=spec.place, hint="return f")
    result = _expecting(spec.full_name, spec.checks, spec)
    try:
        frames = [as_frame(one, spec.name) for one in several]
    except DefinitionError as error:
        error.where = error.where or spec.place
        raise
    return [_with_sink(frame, spec, result) for frame in frames]


def _of_topic(topic: Topic, spec: StreamSpec) -> Frame:
    checks = _expecting(topic.name, topic.checks, spec)
    return Frame(Input(topic.name, "topic", topic), () if checks is None else (checks,))


def _expecting(of: str, checks: tuple[Expectation, ...], spec: StreamSpec) -> Expect | None:
    file, _, line = spec.place.rpartition(":")
    at = Place(file, int(line)) if file else None
    return Expect(at=at, of=of, checks=checks) if checks else None


def _with_sink(frame: Frame, spec: StreamSpec, checks: Expect | None) -> Frame:
    """The frame, ending with a sink: what was written before, or the stream's own. Checks stand before the first."""
    if any(isinstance(step, Sink) for step in frame.operations):
        last = max(place for place, step in enumerate(frame.operations) if isinstance(step, Sink))
        return _checked(Frame(frame.source, frame.operations[: last + 1]), checks)
    if spec.to is not None:
        to = spec.to
        return _checked(frame.then(lambda at: ToTopic(at=at, topic=to, key=to.key)), checks)
    return _checked(frame.then(lambda at: ToTable(at=at, table=spec.name, options={})), checks)


def _checked(frame: Frame, checks: Expect | None) -> Frame:
    if checks is None:
        return frame
    steps = frame.operations
    first = next(place for place, step in enumerate(steps) if isinstance(step, Sink))
    return Frame(frame.source, (*steps[:first], checks, *steps[first:]))
