"""Conformance of the port `topic`: letting go of messages that nobody needs any more, over every adapter."""

from __future__ import annotations

import pytest

from harness.topics import Place, read
from tidemill.model.errors import Refused, UnknownName
from tidemill.ports.topic import Partition


def test_messages_that_are_trimmed_go_and_those_from_the_offset_on_stay(place: Place) -> None:
    topic = place.topic(2)
    place.send(topic, [b"a"] * 10, partitions=0)
    place.send(topic, [b"b"] * 10, partitions=0)
    place.send(topic, [b"c"] * 5, partitions=1)
    place.topics.trim({Partition(topic, 0): 10})
    info = place.topics.describe(topic)
    assert info is not None
    assert (info.first, info.end) == ((10, 0), (20, 5))
    reader = place.reader({Partition(topic, 0): 0, Partition(topic, 1): 0})
    found = read(place, reader, 15)
    assert found[Partition(topic, 0)].offsets == list(range(10, 20))
    assert reader.lost() == {Partition(topic, 0): (0, 10)}
    place.topics.trim({Partition(topic, 0): 13, Partition(topic, 1): 0})
    after = place.topics.describe(topic)
    assert after is not None
    assert (10 <= after.first[0] <= 13, after.first[1], after.end) == (True, 0, (20, 5))


def test_whoever_goes_on_from_a_readers_position_has_lost_nothing_even_if_all_before_was_removed(place: Place) -> None:
    """Also where the last offsets are nobody's: markers of transactions."""
    topic = place.topic()
    zero = Partition(topic, 0)
    writer = place.writer("exactly-once")
    for values in ([b"a"] * 10, [b"b"] * 5):
        writer.send(topic, values)
        writer.commit({})
    reader = place.reader({zero: 0})
    read(place, reader, 7, limit=7)
    assert reader.positions() == {zero: 7}
    read(place, reader, 8)
    info = place.topics.describe(topic)
    assert info is not None
    place.until(lambda: reader.read(1, 0.05) == [] and reader.positions() == {zero: info.end[0]}, "for the end")
    place.topics.trim({zero: info.end[0]})
    position = reader.positions()[zero]
    place.send(topic, [b"c"])
    after = place.reader({zero: position})
    assert read(place, after, 1)[zero].values == [b"c"]
    assert after.lost() == {}


def test_what_compacts_or_is_not_there_cannot_be_trimmed(place: Place) -> None:
    topic = place.topic(cleanup="compact")
    place.send(topic, [b"0", b"1", b"2"], keys=[b"a", b"b", b"c"])
    with pytest.raises(Refused):
        place.topics.trim({Partition(topic, 0): 2})
    with pytest.raises(UnknownName):
        place.topics.trim({Partition("nowhere", 0): 1})
