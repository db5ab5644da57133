"""Promises of embedded topics that only their database, or real processes, can break."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from harness.examples import few
from harness.postgres import Postgres
from harness.topics import Place, read, values
from tidemill.adapters.localfs.bell import PipeBell
from tidemill.adapters.sql import topics_reader
from tidemill.adapters.sql.bell import NotifyBell
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.adapters.sql.topics import SqlTopics
from tidemill.adapters.system.clock import SystemClock
from tidemill.model.errors import DataError, Fenced, UnknownName
from tidemill.ports.bell import Bell
from tidemill.ports.metadata import Tx
from tidemill.ports.topic import Member, Partition, Position, TopicSpec
from tidemill.testing.clock import ManualClock

DAY = timedelta(days=1)
OpenStore = Callable[..., SqlMetadata]


@pytest.fixture
def place(store: SqlMetadata, clock: ManualClock) -> Iterator[Place]:
    topics = SqlTopics(store, clock, own_time=False)
    made = Place(topics, clock, lambda _partition, _before: None)
    yield made
    made.close()


@pytest.fixture
def topics(place: Place) -> SqlTopics:
    assert isinstance(place.topics, SqlTopics)
    return place.topics


def working(place: Place, tasks: int) -> Member:
    """A member that has all tasks of a group."""
    member = place.member("g", tasks)
    place.until(lambda: member.poll(lambda _tasks: None, lambda _tasks: None, 0) or len(member.tasks) == tasks)
    return member


# -- one transaction


def test_a_commit_is_one_transaction_with_whatever_else_is_to_count(
    place: Place, topics: SqlTopics, store: SqlMetadata
) -> None:
    topic = place.topic()
    here = Partition(topic, 0)
    member, writer = working(place, 1), place.writer("exactly-once")
    began: list[str] = []
    writer.send(topic, [b"a"])

    @event.listens_for(store._engines.writer, "commit")
    def note(_connection: Any) -> None:
        began.append("commit")

    writer.commit({here: Position(1)}, member, lambda tx: tx.events.add("published", {}, place.clock.now()) and None)
    assert began == ["commit"]
    assert topics.in_metadata
    with store.read() as tx:
        assert len(tx.events.pending("published")) == 1
    assert values(place, topic, 1) == [b"a"]
    assert topics.committed("g", [here]) == {here: Position(1)}


@pytest.mark.parametrize("guarantee", ["exactly-once", "at-least-once"])
def test_what_shares_the_transaction_can_stop_it(
    place: Place, topics: SqlTopics, store: SqlMetadata, guarantee: Any
) -> None:
    topic = place.topic()
    here = Partition(topic, 0)
    member, writer = working(place, 1), place.writer(guarantee)
    if guarantee == "exactly-once":
        writer.send(topic, [b"a"])

    def fail(tx: Tx) -> None:
        tx.events.add("published", {}, place.clock.now())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        writer.commit({here: Position(1)}, member, fail)
    with store.read() as tx:
        assert tx.events.pending("published") == []
    assert topics.committed("g", [here]) == {}
    assert place.reader({here: 0}).read(10, 0.1) == []
    writer.commit({here: Position(1)}, member)
    assert topics.committed("g", [here]) == {here: Position(1)}


def test_wherever_a_commit_fails_nothing_of_it_is_there_and_again_it_counts_once(
    place: Place, topics: SqlTopics, store: SqlMetadata
) -> None:
    topic = place.topic(2)
    both = {Partition(topic, n): Position(7, "n") for n in range(2)}
    member, writer = working(place, 2), place.writer("exactly-once")
    for n in (1, 0):
        writer.send(topic, [b"a", b"b"], partitions=n)
    countdown = [-1]

    @event.listens_for(store._engines.writer, "before_cursor_execute")
    def fail(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        countdown[0] -= 1
        if countdown[0] == 0:
            raise ZeroDivisionError(statement)

    def commit(at: int) -> bool:
        countdown[0] = at
        try:
            writer.commit(both, member, lambda tx: tx.events.add("published", {}, place.clock.now()) and None)
        except ZeroDivisionError:
            return False
        finally:
            countdown[0] = -1
        return True

    points = 0
    while not commit(points + 1):
        points += 1
        info = topics.describe(topic)
        assert info is not None
        assert info.end == (0, 0)
        assert topics.committed("g", list(both)) == {}
    assert points >= 8
    for n in range(2):
        assert read(place, place.reader({Partition(topic, n): 0}), 2)[Partition(topic, n)].offsets == [0, 1]
    assert topics.committed("g", list(both)) == both
    with store.read() as tx:
        assert len(tx.events.pending("published")) == 1


def test_a_fenced_writer_never_reaches_what_shares_the_transaction(place: Place, store: SqlMetadata) -> None:
    earlier = place.writer("exactly-once", "w")
    place.writer("exactly-once", "w")
    with pytest.raises(Fenced):
        earlier.commit({}, None, lambda _tx: pytest.fail("reached"))


def test_projects_of_one_database_do_not_see_each_others_topics(
    place: Place, database: str, open_store: OpenStore
) -> None:
    topic = place.topic()
    place.send(topic, [b"a"])
    other = SqlTopics(open_store(database, "other"), place.clock)
    assert other.names() == []
    other.create(TopicSpec(topic, 3))
    assert values(place, topic, 1) == [b"a"]
    info = other.describe(topic)
    assert info is not None
    assert info.end == (0, 0, 0)


def test_a_writer_finds_a_topic_that_was_made_again_with_another_number_of_partitions(
    place: Place, topics: SqlTopics
) -> None:
    topic = place.topic(2)
    writer = place.writer()
    writer.send(topic, [b"a"], partitions=1)
    topics.delete(topic)
    with pytest.raises(UnknownName):
        writer.send(topic, [b"b"])
    topics.create(TopicSpec(topic))
    writer.send(topic, [b"c"])
    topics.delete(topic)
    topics.create(TopicSpec(topic))
    writer.send(topic, [b"d"])
    assert values(place, topic, 1) == [b"d"]


# -- waiting


@pytest.fixture
def bells(backend: Postgres | None, database: str, tmp_path: Path) -> Callable[[], Bell]:
    """Bells as a project with that database has them."""
    return lambda: NotifyBell(database, "topics") if backend else PipeBell(tmp_path / "bells")


def test_a_reader_at_rest_asks_the_database_next_to_nothing(
    backend: Postgres | None, database: str, bells: Callable[[], Bell]
) -> None:
    """On SQLite, without any bell, it looks at a counter; on PostgreSQL it sleeps until the bell, a second at most."""
    clock, said = SystemClock(), []
    with SqlMetadata(database, "project", clock) as metadata:
        topics = SqlTopics(metadata, clock, bells=bells if backend else None)
        topics.create(TopicSpec("t"))
        reader = topics.reader()
        reader.take({Partition("t", 0): 0})
        assert reader.read(10, 0.2) == []

        def executes(_: object, __: object, statement: str, *___: object) -> None:
            said.append(statement)

        event.listen(Engine, "before_cursor_execute", executes)
        try:
            assert reader.read(10, 1.5) == []
        finally:
            event.remove(Engine, "before_cursor_execute", executes)
        reader.close()
    assert len(said) <= (8 if backend else 0), said


def test_a_waiting_reader_is_woken_by_the_bell(
    place: Place, store: SqlMetadata, bells: Callable[[], Bell], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics_reader, "_BELL", 30.0)  # without a ring it would not look for so long
    belled = SqlTopics(store, SystemClock(), own_time=False, bells=bells)
    topic = place.topic()
    reader, writer = belled.reader(), belled.writer("w")
    reader.take({Partition(topic, 0): 0})
    assert reader.read(1, 0.05) == [], "it listens now"
    later = threading.Timer(0.2, writer.send, [topic, [b"a"]])
    began = time.monotonic()
    later.start()
    assert [list(one.values) for one in reader.read(1, 25)] == [[b"a"]]
    assert time.monotonic() - began < 20
    later.join()
    for one in (reader, writer):
        one.close()


# -- what goes


def test_messages_older_than_the_retention_go_and_newer_stay(place: Place, topics: SqlTopics) -> None:
    topic = place.topic(2, retention=DAY)
    old = int((place.clock.now() - 2 * DAY).timestamp() * 1000)
    for _ in range(3):
        place.send(topic, [b"old"] * 5, partitions=0, timestamps=[old] * 5)
    place.send(topic, [b"new"] * 2, partitions=0)
    reader = place.reader({Partition(topic, 0): 0})
    assert topics.tidy(place.clock.now()) == 15
    assert topics.tidy(place.clock.now()) == 0
    found = read(place, reader, 2)[Partition(topic, 0)]
    assert (found.offsets, found.values) == ([15, 16], [b"new"] * 2)
    assert reader.lost() == {Partition(topic, 0): (0, 15)}
    assert topics.tidy(place.clock.now() + 2 * DAY) == 2
    info = topics.describe(topic)
    assert info is not None
    assert (info.first, info.end) == ((17, 0), (17, 0))
    place.send(topic, [b"next"], partitions=0)
    assert values(place, topic, 1) == [b"next"]


def test_messages_without_a_timestamp_are_as_old_as_their_sending(place: Place, topics: SqlTopics) -> None:
    topic = place.topic(retention=DAY)
    place.send(topic, [b"a"], timestamps=[-1])
    assert topics.tidy(place.clock.now()) == 0
    assert read(place, place.reader({Partition(topic, 0): 0}), 1)[Partition(topic, 0)].timestamps == [-1]
    assert topics.tidy(place.clock.now() + 2 * DAY) == 1


def test_compaction_keeps_the_newest_of_each_key_and_tombstones_for_a_day(place: Place, topics: SqlTopics) -> None:
    topic = place.topic(cleanup="compact")
    here = Partition(topic, 0)
    place.send(topic, [b"1", b"2", b"3", None], keys=[b"a", b"b", b"a", b"b"])
    assert topics.tidy(place.clock.now()) == 2
    found = read(place, place.reader({here: 0}), 2)[here]
    assert (found.offsets, found.keys, found.values) == ([2, 3], [b"a", b"b"], [b"3", None])
    assert topics.tidy(place.clock.now() + DAY) == 1
    found = read(place, place.reader({here: 0}), 1)[here]
    assert (found.offsets, found.values) == ([2], [b"3"])
    place.send(topic, [b"4"], keys=[b"b"])
    assert read(place, place.reader({here: 0}), 2)[here].offsets == [2, 4]


def test_a_message_without_a_key_is_refused_where_only_the_newest_of_each_key_is_kept(place: Place) -> None:
    topic = place.topic(cleanup="compact")
    with pytest.raises(DataError, match="without one"):
        place.send(topic, [b"a", b"b"], keys=[b"k", None])


@settings(max_examples=few(15), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(
            st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), st.none() | st.binary(max_size=3)),
            min_size=1,
            max_size=8,
        ),
        min_size=1,
        max_size=8,
    ),
    data=st.data(),
)
def test_whenever_it_is_compacted_a_reader_that_has_come_anywhere_ends_with_the_same_values(
    place: Place, topics: SqlTopics, batches: list[list[tuple[bytes, bytes | None]]], data: st.DataObject
) -> None:
    topic = place.topic(cleanup="compact")
    here = Partition(topic, 0)
    wanted: dict[bytes, bytes | None] = {}
    state: dict[bytes, bytes | None] = {}
    at, sent = 0, 0

    def advance(limit: int) -> None:
        nonlocal at
        reader = place.reader({here: at})
        for one in reader.read(limit, 0):
            assert one.offsets[0] >= at
            state.update({key: value for key, value in zip(one.keys, one.values, strict=True) if key is not None})
            at = one.offsets[-1] + 1
        reader.close()

    for batch in batches:
        keys, bodies = zip(*batch, strict=True)
        place.send(topic, list(bodies), keys=list(keys))
        sent += len(batch)
        wanted.update(batch)
        if data.draw(st.booleans()):
            topics.tidy(place.clock.now())
        advance(data.draw(st.integers(1, 5)))
    topics.tidy(place.clock.now())
    advance(1000)
    assert {k: v for k, v in state.items() if v is not None} == {k: v for k, v in wanted.items() if v is not None}
    left = read(place, place.reader({here: 0}), 1)[here]
    assert left.offsets == sorted(set(left.offsets))
    assert dict(zip(left.keys, left.values, strict=True)) | {} == wanted


def test_small_blocks_are_joined_by_compaction(place: Place, topics: SqlTopics, store: SqlMetadata) -> None:
    topic = place.topic(cleanup="compact")
    for i in range(50):
        place.send(topic, [b"x"], keys=[b"%d" % i])
    assert topics.tidy(place.clock.now()) == 0
    with store._engines.reader.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM topic_blocks").scalar() == 1
    found = read(place, place.reader({Partition(topic, 0): 17}), 33)[Partition(topic, 0)]
    assert found.offsets == list(range(17, 50))


# -- how it asks


def test_every_lookup_of_topics_uses_an_index(tmp_path: Path, sqlite_template: Path, clock: ManualClock) -> None:
    """Asked of SQLite's planner for each statement that topics send; a scan of a table would be told as SCAN."""
    path = tmp_path / "m.db"
    path.write_bytes(sqlite_template.read_bytes())
    sent: list[tuple[str, Any]] = []
    with SqlMetadata(f"sqlite:///{path}", "project", clock, durable=False) as store:

        @event.listens_for(store._engines.writer, "before_cursor_execute")
        def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
            sent.append((statement, parameters[0] if many else parameters))

        topics = SqlTopics(store, clock)
        place = Place(topics, clock, lambda _partition, _before: None)
        topic, compacted = place.topic(2, retention=DAY), place.topic(cleanup="compact")
        member, writer = place.member("g", 2), place.writer("exactly-once")
        member.poll(lambda _tasks: None, lambda _tasks: None, 1)
        writer.send(topic, [b"a", b"b"])
        writer.commit({Partition(topic, 0): Position(1)}, member)
        member.committed([Partition(topic, 0)])
        place.send(compacted, [b"a", None], keys=[b"k", b"k"])
        place.reader({Partition(topic, 0): 0, Partition(topic, 1): 0}).read(10, 0)
        topics.at(topic, 5)
        topics.tidy(clock.now() + 3 * DAY)
        member.close()
        topics.reset("g", {Partition(topic, 0): None, Partition(topic, 1): 3})
        topics.names()
        topics.delete(topic)
        place.close()
    lookups = {s: p for s, p in sent if s.split()[0] in ("SELECT", "UPDATE", "DELETE") and "tidemill_version" not in s}
    assert len(lookups) > 20
    connection = sqlite3.connect(path)
    scans = {
        (plan[3], statement)
        for statement, parameters in lookups.items()
        for plan in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters)
        if plan[3].startswith("SCAN") and "USING" not in plan[3]
    }
    assert scans == set()


# -- members whose process is gone


def test_nobody_waits_for_a_member_whose_process_is_known_to_be_gone(store: SqlMetadata, clock: ManualClock) -> None:
    """Its tasks are free at once, what it commits after that is refused, and its group may be reset."""
    gone: set[str] = set()
    here = Partition("t", 0)

    def topics_of(holder: str) -> SqlTopics:
        return SqlTopics(store, clock, own_time=False, holder=holder, alive=lambda other: other not in gone)

    dead, other = topics_of("dead"), topics_of("other")
    dead.create(TopicSpec("t"))
    taken: dict[str, frozenset[int]] = {}
    members = {}
    for name, topics in (("dead", dead), ("other", other)):
        members[name] = topics.member("g", 1)
        members[name].poll(lambda tasks, name=name: taken.update({name: tasks}), lambda _: None, 0)
    assert taken == {"dead": frozenset({0})}
    gone.add("dead")
    clock.advance(1)
    members["other"].poll(lambda tasks: taken.update({"other": tasks}), lambda _: None, 0)
    assert taken["other"] == frozenset({0}), "a second later, in a session of ten"
    with pytest.raises(Fenced):
        dead.writer("w").commit({here: Position(1)}, members["dead"])
    gone.add("other")
    other.reset("g", {here: 0})
