"""Dead letters of a project's streams, by the names that people use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidemill.flow.stream.redrive import Chosen, Letter, Redrive, letters_of
from tidemill.model.errors import DataError, Refused, UnknownName
from tidemill.model.frame.topic import Topic
from tidemill.wiring.codecs import registry_of
from tidemill.wiring.messages import codec_of
from tidemill.wiring.stream_care import StreamCare
from tidemill.wiring.stream_rows import encoded


def letters(care: StreamCare, name: str, *, late: bool = False) -> tuple[str, str, list[Letter]]:
    """A stream's full name, the topic of its letters, and these, oldest first. Raises UnknownName."""
    _, spec = care.find(name)
    plan = care.plan(spec)
    topic = plan.late if late else plan.dead_letters
    return spec.full_name, topic, letters_of(care.topics, care.clock, topic)


def send(
    care: StreamCare, name: str, offsets: Sequence[int], edits: Mapping[int, bytes], *, again: bool,
    each: bool = False, dry_run: bool = False,
) -> tuple[str, Chosen]:  # fmt: skip
    """Send letters again; gives the stream's full name, and what was sent.

    Args:
        care: the project's streams.
        name: of the stream.
        offsets: of the letters; none: all that were not sent again yet.
        edits: values to send instead, by offset: as messages of the topic are written, or a JSON object of its columns.
        again: also letters that were sent again before.
        each: leave out those that cannot be sent, and tell why, instead of sending none.
        dry_run: only look what would be sent.

    Raises:
        DataError: a new value is no message of its topic.
        Refused, UnknownName, Fenced: see `Redrive`. Nothing was sent then.
    """
    _, spec = care.find(name)
    topic = care.plan(spec).dead_letters
    read = {one.name: one for one in spec.topics.values()}
    fitting, keys = dict(edits), {}
    for letter in letters_of(care.topics, care.clock, topic) if edits else ():
        if letter.offset in edits and letter.origin is not None and letter.origin.topic in read:
            declared, value = read[letter.origin.topic], edits[letter.offset]
            fitting[letter.offset] = _fitting(care, declared, value)
            if (key := _new_key(care, declared, value)) is not None:
                keys[letter.offset] = key
    redrive = Redrive(care.topics, care.clock, spec.full_name, topic, fitting, keys)
    act = redrive.plan if dry_run else redrive.send
    try:
        return spec.full_name, act(offsets, again=again, each=each)
    except UnknownName:
        _see_in_time(care, spec.full_name, offsets)
        raise


def _see_in_time(care: StreamCare, name: str, offsets: Sequence[int]) -> None:
    """Raise Refused where what is no letter is a row that came too late: these have a topic of their own."""
    late = {one.offset for one in letters(care, name, late=True)[2]}
    if missed := [offset for offset in offsets if offset in late]:
        raise Refused(
            f"Letter {missed[0]} is a row that came too late: sent again it would be late again.",
            hint=f"raise lateness= of its topic, or grace= of the window: tidemill stream reset {name} counts it",
        ) from None


def _new_key(care: StreamCare, topic: Topic, value: bytes) -> bytes | None:
    """The key that an edit gives, where the columns of the key are read from there; None: the message's stays."""
    if topic.key_codec is None:
        return None
    try:
        keys = encoded(topic, [value], registry=registry_of(care.settings.streams)).keys
    except DataError:
        return None
    return None if keys is None else keys[0]


def _fitting(care: StreamCare, topic: Topic, value: bytes) -> bytes:
    """A new value as a message of its topic: as it is, or made of a JSON object. Raises DataError."""
    registry = registry_of(care.settings.streams)
    bad = codec_of(topic, registry).decode([value]).bad
    if not bad:
        return value
    try:
        return encoded(topic, [value], registry=registry).values[0] or value
    except DataError:
        raise DataError(
            f'The new value does not fit topic "{topic.name}": {bad[0].error}',
            hint="a JSON object with the topic's columns, or a file with the message as it is to be",
        ) from None
