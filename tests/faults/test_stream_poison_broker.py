"""A broker that is away, stops in between, or lets nobody in: nothing is lost or doubled, and the log stays short."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

import tidemill as tm
from harness import kafka, services
from harness.poison import Driven, pipeline, topic_name
from harness.programs import CannotStart
from harness.topics import Place, kafka_place, values
from tidemill.adapters.kafka.topics import KafkaTopics
from tidemill.adapters.sqlitestate.state import SqliteStates
from tidemill.ports.topic import TopicSpec


@pytest.fixture
def p() -> Iterator[tm.Pipeline]:
    with pipeline() as made:
        yield made


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[kafka.Kafka]:
    """A broker that tests of this file kill."""
    try:
        with kafka.running() as made:
            yield made
    except CannotStart as error:
        services.missing("Kafka", str(error))


@pytest.fixture
def place(cluster: kafka.Kafka, request: pytest.FixtureRequest) -> Iterator[Place]:
    services.note_used(request, "Kafka", kafka.VERSION)
    with kafka_place(cluster.servers) as made:
        yield made


@contextmanager
def at_work(driven: Driven) -> Iterator[None]:
    """The stream runs in a thread of its own meanwhile, with little patience."""
    stop = threading.Event()
    place = driven.place
    hasty = KafkaTopics({"bootstrap.servers": place.topics._settings.servers}, patience=timedelta(seconds=2))  # type: ignore[attr-defined]
    driven.maker._topics = hasty
    process = driven.begin()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            process.run(stop.is_set)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        driven.process = None
    assert not errors, errors


def restarted(broker: kafka.Program) -> None:
    broker.kill()
    threading.Event().wait(6)  # longer than the stream's patience (2 s): it goes back to its checkpoint, more than once
    broker.start()


def stopped(broker: kafka.Program) -> None:
    assert broker.process is not None
    os.killpg(broker.process.pid, signal.SIGSTOP)
    threading.Event().wait(6)
    os.killpg(broker.process.pid, signal.SIGCONT)


def test_a_writer_in_a_transaction_ends_while_the_broker_is_away(place: Place, cluster: kafka.Kafka) -> None:
    """Its client would wait for the broker without a limit; what it has sent never counts."""
    topic = place.topic()
    hasty = KafkaTopics({"bootstrap.servers": cluster.servers}, patience=timedelta(seconds=2))
    writer = hasty.writer("one", "exactly-once")
    writer.send(topic, [b'{"v": 1}'])
    broker = cluster.brokers[0].process
    assert broker is not None
    os.killpg(broker.pid, signal.SIGSTOP)
    try:
        ending = threading.Thread(target=writer.close, daemon=True)
        ending.start()
        ending.join(60)
        assert not ending.is_alive()
    finally:
        os.killpg(broker.pid, signal.SIGCONT)
    successor = place.topics.writer("one", "exactly-once")
    successor.send(topic, [b'{"v": 2}'])
    successor.commit({})
    successor.close()
    assert values(place, topic, 1) == [b'{"v": 2}']


@pytest.mark.parametrize("away", [restarted, stopped])
def test_a_broker_that_goes_and_comes_back_changes_no_result(
    place: Place, cluster: kafka.Kafka, p: tm.Pipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    away: Callable[[kafka.Program], None],
) -> None:  # fmt: skip
    source = tm.topic(topic_name(), {"car": "string", "v": "long"}, key="car", partitions=2)

    @p.stream(source, to=tm.topic(topic_name()), every="200ms")
    def sums(t: tm.Frame) -> tm.Frame:
        return t.count_window(1, by="car").agg(v=tm.agg.sum("v")).final()

    driven = Driven(place, sums, SqliteStates(tmp_path))
    with at_work(driven):
        sent = []

        def feed(numbers: range) -> None:
            driven.feed(
                source.name, [{"car": f"c{n % 5}", "v": n} for n in numbers], keys=[b"c%d" % (n % 5) for n in numbers]
            )
            sent.extend(numbers)

        feed(range(500))
        place.until(lambda: len(driven.rows(driven.written())) >= 500)
        feed(range(500, 1_000))
        away(cluster.brokers[0])
        feed(range(1_000, 1_500))
        place.until(lambda: len(driven.rows(driven.written())) >= 1_500)
    assert sorted(row["v"] for row in driven.rows(driven.written())) == sent
    told = [record.getMessage() for record in caplog.records if record.name == "tidemill"]
    assert len(told) <= 4, told


def test_a_partition_whose_broker_is_away_waits_alone(request: pytest.FixtureRequest, p: tm.Pipeline) -> None:
    """Three brokers, of which each has the only copy of a partition: the others are written, read and committed
    meanwhile, by a stream that is at work. One that begins meanwhile waits for the broker as a whole: it asks of what
    topics it would be.
    """
    try:
        cluster = kafka.running(brokers=3)
        made = cluster.__enter__()
    except CannotStart as error:
        services.missing("Kafka", str(error))
        return
    services.note_used(request, "Kafka (3 brokers)", kafka.VERSION)
    try:
        with kafka_place(made.servers) as place:
            lone_partition(place, made, p)
    finally:
        cluster.__exit__(None, None, None)


def lone_partition(place: Place, cluster: kafka.Kafka, p: tm.Pipeline) -> None:
    source = tm.topic(topic_name(), {"v": "long"}, partitions=3)

    @p.stream(source, to=tm.topic(topic_name()), every="100ms")
    def copied(t: tm.Frame) -> tm.Frame:
        return t.filter(t["v"] > 0)

    place.topics.create(TopicSpec(source.name, 3, replicas=1))
    admin = AdminClient({"bootstrap.servers": cluster.servers})

    def leader() -> int:
        found: int = admin.list_topics(timeout=20).topics[source.name].partitions[1].leader
        return found

    with Driven(place, copied) as driven:
        out, broker = driven.written(), cluster.brokers[leader() - 1]
        driven.feed(source.name, [{"v": 1}, {"v": 2}, {"v": 3}], partitions=[0, 1, 2])
        process = driven.begin()
        driven.work(lambda: driven.has(out, 3))
        broker.kill()
        place.until(lambda: leader() < 0, "for the broker to be missed")
        driven.feed(source.name, [{"v": 10}, {"v": 30}], partitions=[0, 2])
        driven.work(lambda: driven.has(out, 5))
        broker.start()
        driven.feed(source.name, [{"v": 20}], partitions=1)
        driven.work(lambda: driven.has(out, 6))
        assert sorted(row["v"] for row in driven.rows(out)[3:5]) == [10, 30]
        assert process.counts.restarts == 0
