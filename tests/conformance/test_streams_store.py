"""Promises of the port `streams`: what processes tell is there until they end, or have been silent for long."""

from __future__ import annotations

from datetime import timedelta

from harness.records import START
from tidemill.adapters.sql.store import SqlMetadata


def test_the_newest_of_each_process_is_kept(store: SqlMetadata) -> None:
    with store.write() as tx:
        tx.streams.tell("cars.means", "one-0", START, {"messages": 1})
        tx.streams.tell("cars.means", "one-1", START, {"messages": 2})
        tx.streams.tell("cars.fast", "one-0", START, {"messages": 3})
        tx.streams.tell("cars.means", "one-0", START + timedelta(seconds=5), {"messages": 4})
    with store.read() as tx:
        assert tx.streams.told("cars.means") == [{"messages": 4}, {"messages": 2}]
        assert tx.streams.told() == [{"messages": 3}, {"messages": 4}, {"messages": 2}]


def test_who_has_ended_or_was_silent_for_long_is_forgotten(store: SqlMetadata) -> None:
    with store.write() as tx:
        for number in range(3):
            tx.streams.tell("cars.means", f"one-{number}", START + timedelta(hours=number), {"n": number})
        tx.streams.forget("cars.means", "one-2")
        tx.streams.forget("cars.means", "unknown")
        tx.streams.forget_before(START + timedelta(minutes=1))
    with store.read() as tx:
        assert tx.streams.told() == [{"n": 1}]
