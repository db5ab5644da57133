"""Promises of the port `xcoms`, in memory and in SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

from harness.records import start_run
from tidemill.adapters.memory.xcoms import MemoryXComs
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.ports.xcoms import XComs
from tidemill.testing.clock import ManualClock


@dataclass(frozen=True)
class Store:
    """A store of values, opened for each use, and a run."""

    open: Callable[[], AbstractContextManager[XComs]]
    run: int


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def kept(request: pytest.FixtureRequest, clock: ManualClock) -> Store:
    """Every store that there is."""
    if request.param == "memory":
        values = MemoryXComs()

        @contextmanager
        def same() -> Iterator[XComs]:
            yield values

        return Store(same, 1)
    store: SqlMetadata = request.getfixturevalue("store")
    _, run = start_run(store, clock)

    @contextmanager
    def transaction() -> Iterator[XComs]:
        with store.write() as tx:
            yield tx.xcoms

    return Store(transaction, run.id)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> object:
    """The database of a parameter of `kept`: None is SQLite."""
    return request.getfixturevalue("postgres") if "postgresql" in request.node.name else None


def test_a_value_comes_back_as_it_was_put(kept: Store) -> None:
    with kept.open() as xcoms:
        xcoms.put(kept.run, "a", -1, [("return_value", '{"ä": "\\u0000 \n"}'), ("rows", "3")])
    with kept.open() as xcoms:
        assert xcoms.get(kept.run, "a") == '{"ä": "\\u0000 \n"}'
        assert xcoms.get(kept.run, "a", "rows") == "3"


def test_what_nobody_put_is_none(kept: Store) -> None:
    with kept.open() as xcoms:
        xcoms.put(kept.run, "a", -1, [("x", "1")])
        assert xcoms.get(kept.run, "a") is None
        assert xcoms.get(kept.run, "b", "x") is None
        assert xcoms.get(kept.run, "a", "x", 0) is None
        assert xcoms.get(kept.run + 1, "a", "x") is None


def test_a_key_that_is_there_is_replaced(kept: Store) -> None:
    with kept.open() as xcoms:
        xcoms.put(kept.run, "a", -1, [("x", "1"), ("y", "2")])
        xcoms.put(kept.run, "a", -1, [("x", "3"), ("x", "4")])
        assert (xcoms.get(kept.run, "a", "x"), xcoms.get(kept.run, "a", "y")) == ("4", "2")


def test_nothing_put_is_no_error(kept: Store) -> None:
    with kept.open() as xcoms:
        xcoms.put(kept.run, "a", -1, [])
        assert xcoms.get(kept.run, "a") is None


def test_instances_come_in_the_order_of_their_indexes(kept: Store) -> None:
    """The whole task's own value is not among them."""
    with kept.open() as xcoms:
        for index in (10, 2, 0, -1):
            xcoms.put(kept.run, "m", index, [("return_value", str(index)), ("other", "x")])
        assert xcoms.all(kept.run, "m") == [(0, "0"), (2, "2"), (10, "10")]
        assert xcoms.count(kept.run, "m") == 3
        assert [xcoms.nth(kept.run, "m", at) for at in range(4)] == ["0", "2", "10", None]
        assert xcoms.all(kept.run, "nothing") == []
        assert xcoms.count(kept.run, "nothing") == 0


def test_clearing_forgets_a_task_or_one_instance(kept: Store) -> None:
    with kept.open() as xcoms:
        for index in (-1, 0, 1):
            xcoms.put(kept.run, "m", index, [("return_value", "1"), ("k", "2")])
        xcoms.put(kept.run, "other", -1, [("return_value", "1")])
        xcoms.clear(kept.run, "m", 0)
        assert xcoms.all(kept.run, "m", "k") == [(1, "2")]
        assert xcoms.get(kept.run, "m") == "1"
        xcoms.clear(kept.run, "m")
        assert xcoms.count(kept.run, "m") == 0
        assert xcoms.get(kept.run, "m", "k") is None
        assert xcoms.get(kept.run, "other") == "1"
        xcoms.clear(kept.run, "nothing")
