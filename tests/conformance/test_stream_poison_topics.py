"""Topics that go, come again, or grow under a stream: it stops and says what to do; nothing is skipped or doubled."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import tidemill as tm
from harness.poison import Driven, pipeline, topic_name
from harness.topics import PATIENCE, Place, kafka_place
from tidemill.adapters.memory.state import MemoryStates
from tidemill.authoring.streams import Stream
from tidemill.flow.stream import inputs
from tidemill.flow.stream.resetting import do_reset, plan_reset
from tidemill.model.errors import Refused, RunFailed, TidemillError
from tidemill.ports.topic import Partition, TopicSpec

COLUMNS = {"car": "string", "v": "long"}


@pytest.fixture
def hasty() -> float:
    """Seconds that a broker has: to a client, a topic that is gone is one that has no leader yet, for as long."""
    return 5


@pytest.fixture
def kafka_topics(kafka_servers: str, request: pytest.FixtureRequest) -> Iterator[Place]:
    """Topics of the session's Kafka; a test that asks for `hasty` has less patience with it."""
    patience = request.getfixturevalue("hasty") if "hasty" in request.fixturenames else 20
    with kafka_place(kafka_servers, patience) as made:
        yield made


@pytest.fixture
def p() -> Iterator[tm.Pipeline]:
    with pipeline() as made:
        yield made


def summing(p: tm.Pipeline, *, partitions: int = 1, **options: Any) -> Stream:
    """A sum for each car."""
    topic = tm.topic(topic_name(), COLUMNS, key="car", partitions=partitions, idle="1s")

    @p.stream(topic, to=tm.topic(topic_name()), **options)
    def sums(t: tm.Frame) -> tm.Frame:
        return t.reduce("car", {"sum": 0}, lambda state, row: {"sum": state["sum"] + row["v"]})

    return sums


def copying(p: tm.Pipeline) -> Stream:
    topic = tm.topic(topic_name(), COLUMNS, partitions=1)

    @p.stream(topic, to=tm.topic(topic_name()))
    def copied(t: tm.Frame) -> tm.Frame:
        return t.filter(t["v"] > 0)

    return copied


def rows(*numbers: int) -> list[dict[str, Any]]:
    return [{"car": "a", "v": number} for number in numbers]


def summed(driven: Driven) -> int:
    found: int = driven.rows(driven.written())[-1]["sum"]
    return found


def reset(driven: Driven) -> None:
    plan, _ = driven.maker.plan(driven.spec)
    do_reset(plan_reset(plan, driven.place.topics, driven.states, "earliest"), plan, driven.place.topics, driven.states)


def begun(place: Place, stream: Stream, *numbers: int, **more: Any) -> Driven:
    """A stream that has worked on some rows."""
    driven = Driven(place, stream, **more)
    driven.begin()
    driven.feed(driven.read(), rows(*numbers))
    driven.work()
    return driven


def stops(driven: Driven, error: type[TidemillError] = RunFailed) -> str:
    """What the stream says as it stops."""
    process, driven.process = driven.process, None
    assert process is not None
    until = driven.place.clock.monotonic() + 2 * PATIENCE
    with pytest.raises(error) as raised:
        process.run(lambda: driven.place.clock.monotonic() > until)
    return str(raised.value)


def made_again(driven: Driven, partitions: int = 1) -> None:
    name = driven.read()
    driven.place.topics.delete(name)
    driven.place.topics.create(TopicSpec(name, partitions))


@pytest.mark.usefixtures("hasty")
def test_a_topic_that_is_deleted_while_it_is_read_stops_the_stream(place: Place, p: tm.Pipeline) -> None:
    with begun(place, summing(p), 1, 2) as driven:
        name = driven.read()
        place.topics.delete(name)
        told = stops(driven)
        assert name in told
        assert f"tidemill stream reset {driven.spec.full_name}" in told


@pytest.mark.parametrize("more", [1, 5])
def test_a_topic_that_was_made_again_is_not_counted_with_the_state_of_the_old_one(
    place: Place, p: tm.Pipeline, more: int
) -> None:
    """However many messages it has: fewer than before, or so many that the old position is among them."""
    with begun(place, summing(p), 1, 2, 3) as driven:
        driven.stop()
        made_again(driven)
        driven.feed(driven.read(), rows(*[10] * more))
        driven.begin()
        told = stops(driven)
        assert f'"{driven.read()}" was deleted and made again' in told
        assert f"tidemill stream reset {driven.spec.full_name}" in told
        assert summed(driven) == 6
        reset(driven)
        driven.begin()
        driven.work()
        assert summed(driven) == 10 * more


def test_a_stream_that_bears_losses_goes_on_with_the_topic_that_was_made_again(place: Place, p: tm.Pipeline) -> None:
    with begun(place, summing(p, errors={"lost": "skip"}), 1, 2) as driven:
        driven.stop()
        made_again(driven)
        driven.feed(driven.read(), rows(10))
        driven.begin()
        driven.work()
        assert summed(driven) == 13


def test_a_topic_made_again_with_other_partitions_is_refused_by_state(place: Place, p: tm.Pipeline) -> None:
    with begun(place, summing(p), 1, 2) as driven:
        driven.stop()
        made_again(driven, 3)
        # The changelog has as many partitions as the topic had.
        with pytest.raises((Refused, RunFailed)) as raised:
            driven.begin()
            driven.work(lambda: False)
        assert "stream reset" in str(raised.value) or "partitions" in str(raised.value)


def test_a_stream_without_memory_begins_with_what_a_topic_that_was_made_again_has(place: Place, p: tm.Pipeline) -> None:
    with begun(place, copying(p), 1, 2) as driven:
        driven.stop()
        made_again(driven, 2)
        driven.feed(driven.read(), rows(3), partitions=0)
        driven.feed(driven.read(), rows(4), partitions=1)
        driven.begin()
        driven.work()
        assert sorted(row["v"] for row in driven.rows(driven.written())) == [1, 2, 3, 4]


def test_a_topic_that_is_made_again_under_a_running_stream_stops_it(
    place: Place, p: tm.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the new topic has messages at the old position already: at the next look."""
    monkeypatch.setattr(inputs, "EVERY", 1.0)
    with begun(place, summing(p), 1, 2, 3) as driven:
        made_again(driven)
        driven.feed(driven.read(), rows(*[10] * 5))
        assert "stream reset" in stops(driven)
        driven.begin()
        assert "was deleted and made again" in stops(driven)
        reset(driven)
        driven.begin()
        driven.work()
        assert summed(driven) == 50


def test_partitions_that_come_under_a_running_stream_are_noticed_and_read_when_it_begins_again(
    kafka_topics: Place, kafka_servers: str, p: tm.Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other brokers' topics never grow."""
    from confluent_kafka.admin import AdminClient, NewPartitions

    monkeypatch.setattr(inputs, "EVERY", 1.0)
    with begun(kafka_topics, copying(p), 1, 2) as driven:
        admin = AdminClient({"bootstrap.servers": kafka_servers})
        for future in admin.create_partitions([NewPartitions(driven.read(), 2)]).values():
            future.result(20)
        assert "has 2 partitions now, not 1" in stops(driven)
        driven.feed(driven.read(), rows(3), partitions=1)
        driven.begin()
        driven.work()
        assert sorted(row["v"] for row in driven.rows(driven.written())) == [1, 2, 3]


# -- what a stream keeps for itself


@pytest.mark.parametrize("kept", [True, False], ids=["store kept", "store gone"])
def test_state_whose_changelog_was_deleted_is_not_begun_anew_without_a_word(
    place: Place, p: tm.Pipeline, kept: bool
) -> None:
    with begun(place, summing(p), 1, 2) as driven:
        changelog = driven.maker.plan(driven.spec)[0].changelog(1)
        driven.stop()
        place.topics.delete(changelog)
        if not kept:
            driven = Driven(place, p._streams["sums"] and _handle(p))
        driven.begin()
        told = stops(driven, TidemillError)
        assert "was deleted" in told
        assert "tidemill stream reset" in told
        reset(driven)
        driven.feed(driven.read(), rows(4))
        driven.begin()
        driven.work()
        assert summed(driven) == 7


def _handle(p: tm.Pipeline) -> Stream:
    return Stream(p, "sums", p._streams["sums"].function)  # type: ignore[arg-type]


@pytest.mark.usefixtures("hasty")
def test_a_changelog_that_is_deleted_under_a_running_stream_stops_it(place: Place, p: tm.Pipeline) -> None:
    with begun(place, summing(p), 1, 2) as driven:
        place.topics.delete(driven.maker.plan(driven.spec)[0].changelog(1))
        driven.feed(driven.read(), rows(3))
        assert "changelog" in stops(driven, TidemillError)
        assert summed(driven) == 3


def test_positions_that_were_forgotten_do_not_make_state_count_twice(place: Place, p: tm.Pipeline) -> None:
    """Kafka forgets positions of a group that has stood still for a week."""
    with begun(place, summing(p), 1, 2) as driven:
        driven.stop()
        place.topics.reset(driven.spec.full_name, {Partition(driven.read(), 0): None})
        driven.begin()
        told = stops(driven)
        assert "how far it has read" in told
        assert summed(driven) == 3
        reset(driven)
        driven.begin()
        driven.work()
        assert summed(driven) == 3


def test_state_is_recovered_from_a_changelog_that_ends_in_markers_of_aborted_transactions(
    place: Place, p: tm.Pipeline
) -> None:
    with begun(place, summing(p), 1, 2) as driven:
        changelog = driven.maker.plan(driven.spec)[0].changelog(1)
        driven.stop()
        for _ in range(3):
            writer = place.writer("exactly-once", f"w-{uuid.uuid4().hex}")
            writer.send(changelog, [b"never"], keys=[b"key"], partitions=0)
            if hasattr(writer, "_producer"):
                writer.flush()
            writer.abort()
        driven.states = MemoryStates()
        driven = Driven(place, _handle(p))
        began = place.clock.monotonic()
        driven.begin()
        driven.feed(driven.read(), rows(3))
        driven.work()
        assert summed(driven) == 6
        assert place.clock.monotonic() - began < 100


def test_state_is_recovered_from_a_compacted_changelog_with_gaps(
    kafka_topics: Place, kafka_servers: str, p: tm.Pipeline
) -> None:
    from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

    place = kafka_topics
    with Driven(place, summing(p)) as driven:
        driven.begin()
        changelog = driven.maker.plan(driven.spec)[0].changelog(1)
        quick = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.001", "delete.retention.ms": "0"}
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in quick.items()
        ]
        admin = AdminClient({"bootstrap.servers": kafka_servers})
        (done,) = admin.incremental_alter_configs(
            [ConfigResource(ConfigResource.Type.TOPIC, changelog, incremental_configs=entries)]
        ).values()
        done.result(20)
        for number in range(1, 6):
            driven.feed(driven.read(), rows(number))
            driven.work()
        driven.stop()
        info = place.topics.describe(changelog)
        assert info is not None

        def compacted() -> bool:
            place.send(changelog, [b"filler"], keys=[b"filler"])
            found = [offset for messages in driven.messages(changelog) for offset in messages.offsets]
            return any(later - earlier > 5 for earlier, later in itertools.pairwise(found)) or found[0] > 5

        place.until(compacted, "for the cleaner")
        other = Driven(place, _handle(p))
        other.begin()
        other.feed(other.read(), rows(6))
        other.work()
        assert summed(other) == 21
