"""A process dies between sending its positions and committing them: the broker tells nobody of them for a minute, and
the tasks of others go on meanwhile.
"""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import tidemill as tm
from harness.poison import Driven, pipeline, topic_name
from harness.topics import Ledger, Peer, Place, settle
from tidemill.flow.stream import asking
from tidemill.model.errors import Unreachable
from tidemill.ports.topic import Partition, Position, TopicSpec


def dead_in_between(servers: str, group: str, partition: Partition) -> Producer:
    """A transaction with a position that nobody has committed yet."""
    dead = Producer({"bootstrap.servers": servers, "transactional.id": f"dead-{group}", "log_level": 0})
    dead.init_transactions(20)
    dead.begin_transaction()
    names = Consumer({"bootstrap.servers": servers, "group.id": group})
    dead.send_offsets_to_transaction([TopicPartition(*partition, 1)], names.consumer_group_metadata(), 20)
    names.close()
    return dead


def test_positions_that_nobody_tells_hold_up_their_own_task_alone(
    kafka_topics: Place, kafka_servers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = kafka_topics
    monkeypatch.setattr(asking, "QUICKLY", 0.2)
    monkeypatch.setattr(asking, "LATER", 0.2)
    with pipeline() as p:
        source = tm.topic(topic_name(), {"v": "long"}, partitions=2)

        @p.stream(source, to=tm.topic(topic_name()), every="50ms")
        def copied(t: tm.Frame) -> tm.Frame:
            return t.filter(t["v"] > 0)

        with Driven(place, copied) as driven:
            place.topics.create(TopicSpec(source.name, 2))
            dead = dead_in_between(kafka_servers, driven.spec.full_name, Partition(source.name, 1))
            driven.feed(source.name, [{"v": 1}, {"v": 10}, {"v": 11}], partitions=[0, 1, 1])
            driven.begin()
            driven.work(lambda: driven.has(driven.written(), 1))
            dead.commit_transaction(20)
            driven.work(lambda: driven.has(driven.written(), 2))
            assert [row["v"] for row in driven.rows(driven.written())] == [1, 11]


def test_a_member_that_is_not_told_positions_in_time_keeps_its_place(kafka_topics: Place, kafka_servers: str) -> None:
    place, group = kafka_topics, topic_name()
    here = Partition(place.topic(), 0)
    peer = Peer(place, Ledger(), group, 1)
    settle(place, [peer], 1)
    dead = dead_in_between(kafka_servers, group, here)
    began = place.clock.monotonic()
    with pytest.raises(Unreachable):
        peer.member.committed([here], 0.3)
    assert place.clock.monotonic() - began < 1.5, "the session is 2 s"
    peer.poll()
    assert peer.mine() == {0}
    dead.commit_transaction(20)
    assert peer.member.committed([here]) == {here: Position(1)}
