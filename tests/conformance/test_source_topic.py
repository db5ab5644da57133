"""Topics as sources of batches, over every adapter of the port `topic`: each message in one batch, none lost unseen."""

from __future__ import annotations

import os
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness import topic_feeds
from harness.archiving import kept
from harness.forking import ran
from harness.project import Project
from harness.topic_feeds import Taken, take, told
from harness.topics import Place
from tidemill import sources
from tidemill.model.errors import DataError, UnknownName
from tidemill.model.run import RunState
from tidemill.ports.topic import Partition, TopicSpec
from tidemill.testing.faults import DIED
from tidemill.wiring.topics import lent_topics

HOUR = 3_600_000
PLACE = ("_partition", "_offset", "id")


def numbered(first: int, many: int) -> list[bytes | None]:
    return [b'{"id": %d}' % n for n in range(first, first + many)]


def now(place: Place) -> int:
    return int(place.clock.now().timestamp() * 1000)


def ids(taken: Taken) -> list[int]:
    return [row["id"] for row in taken.rows]


def test_batches_take_each_message_once_in_order_with_all_that_it_has(place: Place) -> None:
    topic = place.topic(3)
    feed = sources.topic(topic, fields=("partition", "offset", "timestamp", "key", "headers"))
    empty = take(place, feed)
    assert (empty.parts, empty.rows) == ({}, [])
    stamp, headers = now(place), [("h", b"1"), ("h", None)]
    place.send(topic, numbered(0, 6), partitions=[0, 1, 0, 1, 0, 0], timestamps=[stamp + n for n in range(6)],
               keys=[b"k", None, b"", b"k", b"k", b"k"], headers=[headers, [], [], [], [], []])  # fmt: skip
    first = take(place, feed, empty.bookmark)
    assert told(first.rows, *PLACE) == [(0, 0, 0), (0, 1, 2), (0, 2, 4), (0, 3, 5), (1, 0, 1), (1, 1, 3)]
    assert told(first.rows[:2], "_key", "_headers") == [
        ("k", [{"name": "h", "value": b"1"}, {"name": "h", "value": None}]),
        ("", []),
    ]
    assert first.rows[4]["_key"] is None
    assert first.rows[5]["_timestamp"] == datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=stamp + 3)
    place.send(topic, numbered(6, 3), partitions=[2, 1, 2])
    second = take(place, feed, first.bookmark)
    assert told(second.rows, *PLACE) == [(1, 2, 7), (2, 0, 6), (2, 1, 8)]
    assert take(place, feed, second.bookmark).parts == {}
    # The same ranges again, though the topic has more.
    assert take(place, feed, empty.bookmark, first.bookmark).rows == first.rows
    assert take(place, feed, first.bookmark, second.bookmark).rows == second.rows
    latest = take(place, sources.topic(topic, start="latest"))
    assert latest.parts == {}
    place.send(topic, numbered(9, 1), partitions=0)
    assert ids(take(place, feed, latest.bookmark)) == [9]


def test_a_batch_ends_after_so_many_messages_or_with_its_interval(place: Place) -> None:
    topic = place.topic(2)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    hours = [1, 2, 30, 3, 23, 24, 25]
    stamps = [int((start + timedelta(hours=hour)).timestamp() * 1000) for hour in hours]
    place.send(topic, numbered(0, 7), partitions=[0, 0, 0, 0, 1, 1, 1], timestamps=stamps)
    few = sources.topic(topic, max_messages=3)
    bookmark, seen = None, []
    for count in (3, 3, 1, 0):
        taken = take(place, few, bookmark)
        assert len(taken.rows) == count
        assert take(place, few, bookmark, taken.bookmark).rows == taken.rows
        seen += told(taken.rows, "_partition", "_offset")
        bookmark = taken.bookmark
    assert sorted(seen) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2)]
    daily = sources.topic(topic, until="interval")
    first = take(place, daily)
    assert ids(first) == [0, 1, 4]  # up to the first of its partition that is a later day's
    assert ids(take(place, daily, first.bookmark, end=start + timedelta(days=2))) == [2, 3, 5, 6]


def test_messages_of_open_and_aborted_transactions_are_not_taken(place: Place) -> None:
    topic = place.topic()
    place.send(topic, numbered(0, 2))
    aborted = place.writer("exactly-once")
    aborted.send(topic, numbered(100, 2))
    aborted.abort()
    committed = place.writer("exactly-once")
    committed.send(topic, numbered(2, 2))
    committed.commit({})
    feed = sources.topic(topic)
    # A broker tells readers of a transaction a moment after its writer: they are in a later batch then.
    place.until(lambda: ids(take(place, feed)) == [0, 1, 2, 3], "for the transaction to be told")
    first = take(place, feed)
    open_ = place.writer("exactly-once")
    open_.send(topic, numbered(4, 2))
    second = take(place, feed, first.bookmark)
    assert second.rows == []
    open_.commit({})
    place.until(lambda: ids(take(place, feed, second.bookmark)) == [4, 5], "for the transaction to be told")


def test_what_the_topic_lost_before_it_was_read_fails_or_is_told(place: Place) -> None:
    topic = place.topic(2, retention=timedelta(hours=1))
    feed = sources.topic(topic)
    place.send(topic, numbered(0, 2), partitions=0, timestamps=[now(place) - 2 * HOUR] * 2)
    first = take(place, feed)
    place.send(topic, numbered(2, 3), partitions=0, timestamps=[now(place) - 2 * HOUR] * 3)
    place.send(topic, numbered(5, 2), partitions=[0, 1])
    place.forget(Partition(topic, 0), 5)
    with pytest.raises(
        DataError, match=r"\[0\]: messages 2 to 4 were removed before they were read; .* is 5"
    ) as failed:
        take(place, feed, first.bookmark)
    assert "on_loss" in str(failed.value.hint)
    assert failed.value.where
    going_on = take(place, sources.topic(topic, on_loss="warn"), first.bookmark)
    assert told(going_on.rows, *PLACE) == [(0, 5, 5), (1, 0, 6)]
    (lost,) = going_on.rejected
    assert lost == (f"{topic}[0]", 2, '{"from": 2, "to": 5}', "messages 2 to 4 were removed before they were read")
    assert take(place, feed, going_on.bookmark).rows == []


def test_a_topic_that_was_made_again_fails_or_is_read_from_its_beginning(place: Place) -> None:
    topic = place.topic()
    feed = sources.topic(topic)
    place.send(topic, numbered(0, 3))
    first = take(place, feed)
    place.topics.delete(topic)
    with pytest.raises(UnknownName, match="no topic"):
        take(place, feed, first.bookmark)
    place.topics.create(TopicSpec(topic, 2))
    place.send(topic, numbered(10, 5), partitions=[0, 0, 0, 0, 1])
    with pytest.raises(DataError, match="was deleted and made again since it was read"):
        take(place, feed, first.bookmark)
    warned = sources.topic(topic, on_loss="warn")
    second = take(place, warned, first.bookmark)
    assert told(second.rows, *PLACE) == [(0, 0, 10), (0, 1, 11), (0, 2, 12), (0, 3, 13), (1, 0, 14)]
    assert [(file, error) for file, _, _, error in second.rejected] == [
        (topic, "the topic was made again: what was not read of the one before is lost")
    ]
    assert take(place, warned, second.bookmark).parts == {}
    assert take(place, feed, first.bookmark, second.bookmark).rows == second.rows
    with pytest.raises(DataError, match="no longer has the messages of this batch"):
        take(place, warned, None, first.bookmark)


def test_what_the_topic_has_forgotten_comes_from_its_archive(sqlite_template: Path, tmp_path: Path) -> None:
    with kept("sqlite", sqlite_template, tmp_path) as a:
        a.make(2)
        feed, there = sources.topic("t"), (a.both, a.clock)
        a.send(numbered(0, 3), 0)
        a.send(numbered(3, 2), 1)
        first = take(there, feed)
        assert sorted(ids(first)) == [0, 1, 2, 3, 4]
        a.send(numbered(5, 3), 0)
        assert a.archive() == 8
        a.clock.advance(100)
        a.forget(50)
        a.send(numbered(8, 2), 0)
        info = a.topics.describe("t")
        assert info is not None
        assert info.first == (6, 2), "the test is about messages that are removed"
        with pytest.raises(DataError, match="messages 3 to 5 were removed"):
            take((a.topics, a.clock), feed, first.bookmark)
        second = take(there, feed, first.bookmark)
        assert told(second.rows, *PLACE) == [(0, n - 2, n) for n in range(5, 10)], "from one into the other"
        assert take(there, feed, None, first.bookmark).rows == first.rows
        assert sorted(ids(take(there, feed))) == [*range(10)], "a new feed begins where the archive does"
        assert take(there, feed, second.bookmark).parts == {}


# -- whole runs


@pytest.fixture(params=["embedded", "kafka", pytest.param("postgresql", marks=pytest.mark.postgres)])
def wired(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A project, its broker embedded in SQLite or PostgreSQL, and the connection of its source: the session's Kafka."""
    if request.param == "kafka":
        servers = request.getfixturevalue("kafka_servers")
        monkeypatch.setenv("TIDEMILL_CONN_PARTNER", f"kafka://{servers}")
    url = request.getfixturevalue("postgres").new_database() if request.param == "postgresql" else None
    made = Project(tmp_path / "project", metadata_url=url)
    yield made, "partner" if request.param == "kafka" else None
    made.close()


def test_the_bookmark_moves_with_the_publish_and_a_replay_asks_no_broker(wired: Any, tmp_path: Path) -> None:
    project, connection = wired
    topic = f"shop.orders-{tmp_path.name}"

    def pipeline(**options: Any) -> Any:
        p = project.pipeline()
        p.source(sources.topic(topic, connection=connection), name="orders", **options)
        return p

    def send(*values: bytes | None) -> None:
        with lent_topics(project.settings, connection) as topics:
            topics.create(TopicSpec(topic))
            writer = topics.writer("w")
            writer.send(topic, values)
            writer.flush()
            writer.commit({})
            writer.close()

    send(b'{"id": 1}', b"broken", b'{"id": "x"}')
    failed = project.run(pipeline(columns={"id": "long"}, max_rejected=1), "2026-01-01")
    assert failed.state is RunState.FAILED
    send(b'{"id": 4}')
    assert project.run(pipeline(columns={"id": "long"}), "2026-01-01").ok  # its archived input, and no more
    quarantined = project.rows("select file, line, raw from shop.orders__quarantine order by line")
    assert [tuple(one.values()) for one in quarantined] == [
        (f"{topic}[0]", 1, "broken"),
        (f"{topic}[0]", 2, '{"id": "x"}'),
    ]
    assert project.run(pipeline(columns={"id": "long"}), "2026-01-02").ok
    assert [row["id"] for row in project.rows("select id from shop.orders order by id")] == [1, 4]
    with lent_topics(project.settings, connection) as topics:
        topics.delete(topic)
    assert (
        project.run(pipeline(columns={"id": "string"}, contract="discard_rows"), "2026-01-03").state is RunState.FAILED
    )
    replayed = project.run(pipeline(columns={"id": "long", "_offset": "long"}), "2026-01-01")
    assert replayed.ok
    assert sorted(project.table("shop.orders"))[0][:1] == (1,)
    assert project.rows("select count(*) as n from shop.orders__quarantine") == [{"n": 2}]


def test_death_at_effects_of_a_run_loses_and_doubles_no_message(tmp_path: Path) -> None:
    root, copy, report = tmp_path / "project", tmp_path / "copy", tmp_path / "report"
    project = Project(root)
    topic_feeds.send(project, 0, 5)
    assert project.run(topic_feeds.declare(project), "2026-01-01").ok
    topic_feeds.send(project, 5, 4)
    project.close()
    shutil.copytree(root, copy)
    assert ran(topic_feeds.run_to_death, root, "2026-01-02", None, report) == 0, report.read_text()
    effects = int(report.read_text())
    every = os.environ.get("TIDEMILL_DEATHS") == "all"
    half = effects // 2
    for at in range(effects) if every else [random.randrange(n * half, (n + 1) * half) for n in range(2)]:
        shutil.rmtree(root)
        shutil.copytree(copy, root)
        assert ran(topic_feeds.run_to_death, root, "2026-01-02", at, report) == DIED
        days = ["2026-01-02", "2026-01-03"]
        assert ran(topic_feeds.recover, root, days, 9, report) == 0, f"effect {at}: {report.read_text()}"
