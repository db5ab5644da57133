"""Conformance of the port `topic`: messages, offsets, topics, writers. One test a promise, over every adapter.

Groups of members are in `test_topic_groups.py`, over the same adapters (`conftest.py`).
"""

from __future__ import annotations

import os
import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.topics import PATIENCE, Place, Read, nothing, read, values
from tidemill.model.errors import DataError, DefinitionError, Fenced, Refused, UnknownName
from tidemill.ports.topic import Partition, Position, TopicSpec

HOUR = 3_600_000


def numbered(many: int, start: int = 0) -> list[bytes | None]:
    return [b"%d" % i for i in range(start, start + many)]


def now(place: Place) -> int:
    return int(place.clock.now().timestamp() * 1000)


# -- reading


def test_messages_of_a_partition_come_in_order_each_once(place: Place) -> None:
    topic = place.topic(3)
    writer = place.writer()
    for start in range(0, 3000, 500):
        writer.send(topic, numbered(500, start), partitions=[i % 3 for i in range(500)])
    writer.flush()
    found = read(place, place.reader({Partition(topic, n): 0 for n in range(3)}), 3000, limit=170)
    for number in range(3):
        sent = [b"%d" % i for i in range(3000) if i % 500 % 3 == number]
        assert found[Partition(topic, number)].values == sent
        assert found[Partition(topic, number)].offsets == list(range(len(sent)))


def test_reading_begins_at_the_position_given(place: Place) -> None:
    topic = place.topic()
    place.send(topic, numbered(100))
    found = read(place, place.reader({Partition(topic, 0): 60}), 40)[Partition(topic, 0)]
    assert (found.offsets, found.values) == (list(range(60, 100)), numbered(40, 60))


def test_a_partition_that_is_being_read_goes_on_from_a_new_position(place: Place) -> None:
    topic = place.topic()
    place.send(topic, numbered(50))
    reader = place.reader({Partition(topic, 0): 0})
    read(place, reader, 20, limit=20)
    reader.take({Partition(topic, 0): 5})
    assert read(place, reader, 45)[Partition(topic, 0)].offsets == list(range(5, 50))
    reader.take({Partition(topic, 0): 48})
    assert read(place, reader, 2)[Partition(topic, 0)].offsets == [48, 49]


def test_no_read_gives_more_than_its_limit_and_none_is_lost_by_it(place: Place) -> None:
    topic = place.topic(2)
    place.send(topic, numbered(90), partitions=[i % 2 for i in range(90)])
    reader = place.reader({Partition(topic, n): 0 for n in range(2)})
    found = read(place, reader, 90, limit=7)  # which checks the limit
    assert sorted(v for one in found.values() for v in one.values) == sorted(numbered(90))


def test_a_partition_with_much_to_read_does_not_starve_another(place: Place) -> None:
    topic = place.topic(2)
    # 10 MB that cannot be compressed: more than the 1 MB of a partition that any broker hands over at a time.
    place.send(topic, [os.urandom(500) for _ in range(20_000)], partitions=0)
    place.send(topic, numbered(20), partitions=1)
    reader = place.reader({Partition(topic, n): 0 for n in range(2)})
    seen = {0: 0, 1: 0}

    def step() -> bool:
        for one in reader.read(500, 0.1):
            seen[one.partition.number] += len(one)
        return seen[1] == 20

    place.until(step)
    assert seen[0] <= 10_000


def test_a_reader_waits_no_longer_than_it_is_told(place: Place) -> None:
    topic = place.topic()
    reader = place.reader({Partition(topic, 0): 0})
    began = place.clock.monotonic()
    assert reader.read(10, 0.5) == []
    assert 0.4 <= place.clock.monotonic() - began < 30
    place.send(topic, [b"a"])
    began = place.clock.monotonic()
    assert read(place, reader, 1)[Partition(topic, 0)].values == [b"a"]
    assert place.clock.monotonic() - began < PATIENCE / 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is measured as Linux tells it")
def test_what_waits_in_memory_is_bounded_however_much_there_is_to_read(place: Place) -> None:
    topic = place.topic()
    body = b"x" * 20_000
    for start in range(0, 3000, 250):
        place.send(topic, [body + b"%d" % i for i in range(start, start + 250)])  # 60 MB in all
    reader = place.reader({Partition(topic, 0): 0}, ahead=200)
    before = resident()
    for _ in range(20):
        read(place, reader, 10, limit=10)
    assert resident() - before < 30_000_000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_paused_partition_gives_nothing_and_goes_on_after_its_last_message(place: Place) -> None:
    topic = place.topic(2)
    place.send(topic, numbered(100), partitions=[i % 2 for i in range(100)])
    first, second = Partition(topic, 0), Partition(topic, 1)
    reader = place.reader({first: 0, second: 0})
    before = read(place, reader, 20, limit=10)
    reader.pause([first])
    given = len(before[first].values) if first in before else 0
    rest = 50 - len(before.get(second, Read()).values)
    assert set(read(place, reader, rest)) == {second}
    place.send(topic, [b"late"], partitions=0)
    assert reader.read(10, 0.3) == []
    reader.resume([first])
    after = read(place, reader, 51 - given)
    assert after[first].offsets == list(range(given, 51))
    assert set(after) == {first}


def test_a_dropped_partition_is_read_no_more(place: Place) -> None:
    topic = place.topic(2)
    reader = place.reader({Partition(topic, 0): 0, Partition(topic, 1): 0})
    reader.drop([Partition(topic, 0)])
    place.send(topic, numbered(10), partitions=[i % 2 for i in range(10)])
    assert set(read(place, reader, 5)) == {Partition(topic, 1)}
    assert reader.read(10, 0.3) == []
    reader.take({Partition(topic, 0): 2})
    assert read(place, reader, 3)[Partition(topic, 0)].offsets == [2, 3, 4]


def test_the_end_of_what_can_be_read_is_known_after_reading(place: Place) -> None:
    topic = place.topic()
    place.send(topic, numbered(30))
    reader = place.reader({Partition(topic, 0): 0})
    read(place, reader, 10, limit=10)
    place.until(lambda: reader.ends().get(Partition(topic, 0)) == 30 or reader.read(1, 0))
    assert reader.ends() == {Partition(topic, 0): 30}


def test_a_position_that_is_no_longer_kept_is_told_and_the_oldest_message_comes(place: Place) -> None:
    topic = place.topic(2, retention=timedelta(hours=1))
    old = now(place) - 2 * HOUR
    place.send(topic, numbered(20), partitions=0, timestamps=[old] * 20)
    place.send(topic, numbered(5, 20), partitions=0)
    place.forget(Partition(topic, 0), 20)
    reader = place.reader({Partition(topic, 0): 3, Partition(topic, 1): 0})
    assert read(place, reader, 5)[Partition(topic, 0)].offsets == [20, 21, 22, 23, 24]
    assert reader.lost() == {Partition(topic, 0): (3, 20)}
    assert reader.lost() == {}, "told once"
    info = place.topics.describe(topic)
    assert info is not None
    assert (info.first, info.end) == ((20, 0), (25, 0))


def test_an_unknown_topic_or_partition_cannot_be_taken(place: Place) -> None:
    topic = place.topic()
    reader = place.reader()
    for wrong in (Partition("nowhere", 0), Partition(topic, 1)):
        with pytest.raises(UnknownName):
            reader.take({wrong: 0})


def test_a_reader_of_a_topic_that_is_deleted_is_told(place: Place) -> None:
    topic = place.topic()
    place.send(topic, [b"a"])
    reader = place.reader({Partition(topic, 0): 0})
    read(place, reader, 1)
    place.topics.delete(topic)
    with pytest.raises(UnknownName):
        place.until(lambda: reader.read(10, 0.1) and None)


# -- what messages are made of


def test_keys_headers_timestamps_nulls_and_tombstones_come_back_as_they_were_sent(place: Place) -> None:
    topic = place.topic()
    keys = [b"k", None, b"", b"\x00\xff"]
    sent = [b"v", b"", None, b"\x00" * 10]
    headers = [[("a", b"1"), ("a", None), ("é", b"\xff")], [], [("b", b"")], [("a", b"2")]]
    stamps = [now(place) - i for i in range(4)]
    place.send(topic, sent, keys=keys, partitions=0, timestamps=stamps, headers=headers)
    found = read(place, place.reader({Partition(topic, 0): 0}), 4)[Partition(topic, 0)]
    assert (found.keys, found.values, found.timestamps, found.headers) == (keys, sent, stamps, headers)


def test_a_message_without_a_timestamp_gets_the_time_of_sending(place: Place) -> None:
    topic = place.topic()
    before = now(place)
    place.send(topic, [b"a"])
    [stamp] = read(place, place.reader({Partition(topic, 0): 0}), 1)[Partition(topic, 0)].timestamps
    assert before <= stamp <= now(place) + 1


# Values of Kafka's own test of `Utils.murmur2`.
HASHES = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


def test_keys_go_to_the_partitions_that_kafkas_default_partitioner_gives_them(place: Place) -> None:
    topic = place.topic(7)
    place.send(topic, list(HASHES), keys=list(HASHES))
    found = read(place, place.reader({Partition(topic, n): 0 for n in range(7)}), len(HASHES))
    went = {key: partition.number for partition, one in found.items() for key in one.values}
    assert went == {key: (number & 0x7FFFFFFF) % 7 for key, number in HASHES.items()}


def test_messages_without_a_key_are_spread_over_the_partitions(place: Place) -> None:
    topic = place.topic(2)
    writer = place.writer()
    for start in range(0, 4000, 100):
        writer.send(topic, numbered(100, start))
        writer.flush()
    found = read(place, place.reader({Partition(topic, n): 0 for n in range(2)}), 4000)
    assert len(found) == 2
    assert sorted(v for one in found.values() for v in one.values if v) == sorted(v for v in numbered(4000) if v)


message = st.tuples(
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=200),
    st.lists(st.tuples(st.sampled_from(["a", "b", "long name"]), st.none() | st.binary(max_size=5)), max_size=2),
    st.integers(1, 2**41),  # 0 is now, to Kafka's client
)


@settings(max_examples=few(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=st.lists(st.lists(message, min_size=1, max_size=30), min_size=1, max_size=4), limit=st.integers(1, 50))
def test_whatever_is_sent_comes_back(place: Place, sent: list[list[tuple]], limit: int) -> None:
    topic = place.topic()
    writer = place.writer()
    for batch in sent:
        keys, bodies, headers, stamps = (list(column) for column in zip(*batch, strict=True))
        writer.send(topic, bodies, keys=keys, headers=headers, timestamps=stamps, partitions=0)
    writer.flush()
    flat = [one for batch in sent for one in batch]
    found = read(place, place.reader({Partition(topic, 0): 0}), len(flat), limit)[Partition(topic, 0)]
    assert list(zip(found.keys, found.values, found.headers, found.timestamps, strict=True)) == flat


def test_a_message_that_is_too_large_is_refused_and_nothing_of_its_call_is_sent(place: Place) -> None:
    topic = place.topic(options={"max.message.bytes": "2000"})
    writer = place.writer()
    with pytest.raises(DataError):
        writer.send(topic, [b"small", b"x" * 5000])
        writer.flush()
    place.send(topic, [b"next"])
    assert values(place, topic, 1) == [b"next"]


def test_sending_to_a_topic_that_is_not_there_is_refused(place: Place) -> None:
    with pytest.raises(UnknownName):
        place.send(f"nowhere-{uuid.uuid4().hex}", [b"a"])


# -- topics


def test_a_topic_is_described_as_it_is(place: Place) -> None:
    assert place.topics.describe("nowhere") is None
    topic = place.topic(3)
    place.send(topic, numbered(4), partitions=[0, 2, 2, 2])
    info = place.topics.describe(topic)
    assert info is not None
    assert (info.name, info.partitions, info.first, info.end, info.cleanup) == (topic, 3, (0,) * 3, (1, 0, 3), "delete")
    compacted = place.topics.describe(place.topic(cleanup="compact"))
    assert compacted is not None
    assert compacted.cleanup == "compact"


def test_making_a_topic_twice_finds_it_and_another_shape_is_refused(place: Place) -> None:
    topic = place.topic(2)
    place.send(topic, [b"a"], partitions=1)
    assert place.topics.create(TopicSpec(topic, 2)).end == (0, 1)
    with pytest.raises(Refused, match="partitions"):
        place.topics.create(TopicSpec(topic, 3))
    with pytest.raises(Refused):
        place.topics.create(TopicSpec(topic, 2, "compact"))
    assert values(place, topic, 1, number=1) == [b"a"]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "..", "x" * 250, "é"])
def test_a_name_that_cannot_be_a_topics_is_refused_at_once(name: str) -> None:
    with pytest.raises(DefinitionError, match="cannot name a topic"):
        TopicSpec(name)


def test_topics_are_listed_in_order_until_they_are_deleted(place: Place) -> None:
    made = sorted(place.topic() for _ in range(3))
    assert [name for name in place.topics.names() if name in made] == made
    place.topics.delete(made[1])
    place.until(lambda: made[1] not in place.topics.names())
    assert place.topics.describe(made[1]) is None
    with pytest.raises(UnknownName):
        place.topics.delete(made[1])


def test_a_topic_that_is_deleted_and_made_again_is_empty(place: Place) -> None:
    topic = place.topic()
    place.send(topic, numbered(3))
    place.topics.delete(topic)
    place.until(lambda: place.topics.describe(topic) is None)
    place.topics.create(TopicSpec(topic))
    place.send(topic, [b"new"])
    assert values(place, topic, 1) == [b"new"]


def test_the_first_message_that_is_not_older_than_a_time_is_found(place: Place) -> None:
    topic = place.topic(2)
    base = now(place) - HOUR
    place.send(topic, numbered(10), partitions=0, timestamps=[base + i * 1000 for i in range(10)])
    assert place.topics.at(topic, base - 5) == (0, 0)
    assert place.topics.at(topic, base + 3000) == (3, 0)
    assert place.topics.at(topic, base + 3001) == (4, 0)
    assert place.topics.at(topic, base + 60_000) == (10, 0)


# -- writers


def test_at_least_once_messages_are_there_without_a_commit(place: Place) -> None:
    topic = place.topic()
    writer = place.writer()
    writer.send(topic, numbered(3))
    writer.flush()
    assert values(place, topic, 3) == numbered(3)
    writer.abort()
    assert values(place, topic, 3) == numbered(3)


def test_messages_that_nobody_flushes_come_all_the_same(place: Place) -> None:
    topic = place.topic()
    writer = place.writer()
    writer.send(topic, numbered(3))
    assert values(place, topic, 3) == numbered(3)


def test_exactly_once_messages_are_not_there_before_the_commit_and_then_all_together(place: Place) -> None:
    first, second = place.topic(2), place.topic()
    writer = place.writer("exactly-once")
    writer.send(first, numbered(10), partitions=[i % 2 for i in range(10)])
    writer.send(second, numbered(2))
    writer.flush()
    assert nothing(place, first, 0)
    assert nothing(place, first, 1)
    assert nothing(place, second)
    writer.commit({})
    assert values(place, first, 5, number=1) == [b"1", b"3", b"5", b"7", b"9"]
    assert values(place, first, 5) == [b"0", b"2", b"4", b"6", b"8"]
    assert values(place, second, 2) == numbered(2)
    writer.send(second, numbered(1, 2))
    writer.commit({})
    assert values(place, second, 3) == numbered(3)


def test_aborted_messages_are_never_there_and_the_writer_goes_on(place: Place) -> None:
    topic = place.topic()
    writer = place.writer("exactly-once")
    writer.send(topic, [b"dropped"])
    writer.abort()
    writer.send(topic, [b"kept"])
    writer.commit({})
    assert values(place, topic, 1) == [b"kept"]


def test_what_a_writer_did_not_commit_is_gone_when_it_is_closed(place: Place) -> None:
    topic = place.topic()
    writer = place.writer("exactly-once")
    writer.send(topic, [b"dropped"])
    writer.close()
    place.send(topic, [b"kept"])
    assert values(place, topic, 1) == [b"kept"]


def test_a_later_writer_of_the_same_identity_fences_the_earlier_one(place: Place) -> None:
    topic, identity = place.topic(), f"w-{uuid.uuid4().hex}"
    earlier = place.writer("exactly-once", identity)
    earlier.send(topic, [b"zombie"])
    later = place.writer("exactly-once", identity)
    with pytest.raises(Fenced):
        earlier.commit({})
    with pytest.raises(Fenced):
        earlier.send(topic, [b"zombie again"])
        earlier.commit({})
    later.send(topic, [b"alive"])
    later.commit({})
    assert values(place, topic, 1) == [b"alive"]
    other = place.writer("exactly-once")
    other.send(topic, [b"other"])
    other.commit({})
    assert values(place, topic, 2) == [b"alive", b"other"]


def test_an_empty_commit_is_no_error(place: Place) -> None:
    for guarantee in ("exactly-once", "at-least-once"):
        writer = place.writer(guarantee)
        writer.commit({})
        writer.flush()


def test_positions_of_nobodys_group_are_missing(place: Place) -> None:
    topic = place.topic()
    assert place.topics.committed(f"g-{uuid.uuid4().hex}", [Partition(topic, 0)]) == {}


def test_a_group_is_set_to_positions_from_outside_and_forgets_them(place: Place) -> None:
    topic, group = place.topic(2), f"g-{uuid.uuid4().hex}"
    both = [Partition(topic, 0), Partition(topic, 1)]
    place.topics.reset(group, {both[0]: 7, both[1]: 0})
    found = place.topics.committed(group, both)
    assert {one: position.offset for one, position in found.items()} == {both[0]: 7, both[1]: 0}
    place.topics.reset(group, {both[0]: None})
    assert set(place.topics.committed(group, both)) == {both[1]}
    assert found[both[0]] == Position(7)
