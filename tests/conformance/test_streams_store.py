"""Promises of the port `streams`: what processes tell is there until they end, or have been silent for long; counts of
checks only grow.
"""

from __future__ import annotations

from datetime import timedelta

from harness.records import START
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.ports.streams import CheckCount


def test_the_newest_of_each_process_is_kept(store: SqlMetadata) -> None:
    with store.write() as tx:
        tx.streams.tell("cars.means", "one-0", START, {"messages": 1})
        tx.streams.tell("cars.means", "one-1", START, {"messages": 2})
        tx.streams.tell("cars.fast", "one-0", START, {"messages": 3})
        tx.streams.tell("cars.means", "one-0", START + timedelta(seconds=5), {"messages": 4})
    with store.read() as tx:
        assert tx.streams.told("cars.means") == [{"messages": 4}, {"messages": 2}]
        assert tx.streams.told() == [{"messages": 3}, {"messages": 4}, {"messages": 2}]


def test_pauses_are_there_until_the_stream_is_resumed(store: SqlMetadata) -> None:
    with store.write() as tx:
        assert tx.streams.paused() == frozenset()
        for stream in ("cars.means", "cars.fast", "cars.means"):
            tx.streams.pause(stream, START)
    with store.write() as tx:
        assert tx.streams.paused() == {"cars.means", "cars.fast"}
        tx.streams.resume("cars.fast")
        tx.streams.resume("cars.none")
    with store.read() as tx:
        assert tx.streams.paused() == {"cars.means"}


def test_who_has_ended_or_was_silent_for_long_is_forgotten(store: SqlMetadata) -> None:
    with store.write() as tx:
        for number in range(3):
            tx.streams.tell("cars.means", f"one-{number}", START + timedelta(hours=number), {"n": number})
        tx.streams.forget("cars.means", "one-2")
        tx.streams.forget("cars.means", "unknown")
        tx.streams.forget_before(START + timedelta(minutes=1))
    with store.read() as tx:
        assert tx.streams.told() == [{"n": 1}]


def counted(name: str, rows: int, failed: int, hour: int = 0) -> CheckCount:
    return CheckCount(START + timedelta(hours=hour), "telemetry", name, "error", rows, failed)


def test_counts_of_tasks_and_of_their_lives_are_added_up_by_hour(store: SqlMetadata) -> None:
    with store.write() as tx:
        tx.streams.count("cars.means", "1.0", 7, [counted("a", 10, 1), counted("b", 5, 0)])
        tx.streams.count("cars.means", "1.1", 7, [counted("a", 20, 2), counted("a", 4, 4, hour=1)])
        tx.streams.count("cars.means", "1.0", 8, [counted("a", 100, 10)])
        tx.streams.count("cars.fast", "1.0", 7, [counted("a", 1, 1)])
    with store.read() as tx:
        means = [("cars.means", one) for one in (counted("a", 130, 13), counted("b", 5, 0), counted("a", 4, 4, hour=1))]
        assert tx.streams.counted("cars.means") == means
        assert tx.streams.counted("cars.means", START + timedelta(hours=1)) == means[2:]
        assert tx.streams.counted() == [("cars.fast", counted("a", 1, 1)), *means]


def test_what_is_told_twice_or_late_changes_nothing(store: SqlMetadata) -> None:
    for rows, failed in ((10, 1), (30, 3), (20, 2), (30, 3)):
        with store.write() as tx:
            tx.streams.count("cars.means", "1.0", 7, [counted("a", rows, failed)])
    with store.read() as tx:
        assert tx.streams.counted() == [("cars.means", counted("a", 30, 3))]


def test_counts_of_old_hours_are_forgotten(store: SqlMetadata) -> None:
    with store.write() as tx:
        tx.streams.count("cars.means", "1.0", 7, [counted("a", 10, 1), counted("a", 20, 2, hour=2)])
        tx.streams.forget_counts(START + timedelta(hours=1))
    with store.read() as tx:
        assert [one.rows for _, one in tx.streams.counted()] == [20]
