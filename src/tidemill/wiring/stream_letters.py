"""Dead letters of a project's streams, by the names that people use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidemill.flow.stream.redrive import Letter, Redrive, Sent, chosen, letters_of
from tidemill.wiring.stream_care import StreamCare


def letters(care: StreamCare, name: str, *, late: bool = False) -> tuple[str, str, list[Letter]]:
    """A stream's full name, the topic of its letters, and these, oldest first. Raises UnknownName."""
    _, spec = care.find(name)
    plan = care.plan(spec)
    topic = plan.late if late else plan.dead_letters
    return spec.full_name, topic, letters_of(care.topics, care.clock, topic)


def preview(care: StreamCare, name: str, offsets: Sequence[int], *, again: bool) -> tuple[str, list[Letter]]:
    """A stream's full name, and the letters that would be sent. Raises Refused, UnknownName."""
    stream, topic, found = letters(care, name)
    return stream, chosen(found, topic, offsets, again=again)


def send(care: StreamCare, name: str, offsets: Sequence[int], edits: Mapping[int, bytes], *, again: bool) -> list[Sent]:
    """Send letters again. Raises Refused, UnknownName, Fenced; nothing was sent then."""
    _, spec = care.find(name)
    topic = care.plan(spec).dead_letters
    return Redrive(care.topics, care.clock, spec.full_name, topic, edits).send(offsets, again=again)
