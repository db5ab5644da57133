"""A process dies in the midst of a transaction. Where it has sent its positions, the broker tells nobody of them for a
minute; where it has sent changes of state, nobody can read what others have added since. One that stands still has its
state open. Other tasks go on meanwhile.
"""

from __future__ import annotations

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

import tidemill as tm
from harness.poison import Driven, pipeline, topic_name
from harness.topics import Ledger, Peer, Place, memory_place, settle
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


@pytest.mark.parametrize("where", ["on the same computer", "on another computer"])
def test_state_behind_a_transaction_that_is_open_is_waited_for(
    kafka_topics: Place, kafka_servers: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    place = kafka_topics
    monkeypatch.setattr(asking, "LATER", 0.2)
    with pipeline() as p:
        source = tm.topic(topic_name(), {"car": "string"}, key="car")

        @p.stream(source, to=tm.topic(topic_name()), every="50ms")
        def counts(t: tm.Frame) -> tm.Frame:
            return t.count_window(2, by="car").agg(n=tm.agg.count()).final()

        first = Driven(place, counts)
        first.begin()
        first.feed(source.name, [{"car": "a"}])
        first.work()
        dead = Producer({"bootstrap.servers": kafka_servers, "transactional.id": topic_name(), "log_level": 0})
        dead.init_transactions(20)
        dead.begin_transaction()
        dead.produce(f"{first.spec.full_name}.stage1.changelog", b"never counts", b"some key", 0)
        assert not dead.flush(20)
        first.feed(source.name, [{"car": "b"}])
        first.work()
        first.stop()
        with Driven(place, counts, first.states if where == "on the same computer" else None) as second:
            second.feed(source.name, [{"car": "a"}, {"car": "b"}])
            process = second.begin()
            second.work(lambda: process._asking._held)
            assert not second.rows(second.written())
            dead.abort_transaction(20)
            second.work(lambda: second.has(second.written(), 2))
            assert sorted((row["car"], row["n"]) for row in second.rows(second.written())) == [("a", 2), ("b", 2)]


def test_state_that_another_process_has_open_holds_up_its_own_task_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "LATER", 0.01)
    with memory_place() as place, pipeline() as p:
        source = tm.topic(topic_name(), {"car": "string"}, key="car", partitions=2)

        @p.stream(source, to=tm.topic(topic_name()), every="50ms")
        def counts(t: tm.Frame) -> tm.Frame:
            return t.count_window(1, by="car").agg(n=tm.agg.count()).final()

        with Driven(place, counts) as driven:
            others = driven.states.open(f"{driven.spec.full_name}/stage1.1")
            driven.begin()
            driven.feed(source.name, [{"car": "a"}, {"car": "b"}], partitions=[0, 1])
            driven.work(lambda: driven.has(driven.written(), 1))
            others.close()
            driven.work(lambda: driven.has(driven.written(), 2))
            assert [row["car"] for row in driven.rows(driven.written())] == ["a", "b"]
