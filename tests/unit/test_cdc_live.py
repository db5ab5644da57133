"""Changes as they are committed, over the replication protocol: each once, whoever ends when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg.conninfo
import pytest

from harness.postgres import Postgres
from tidemill import live
from tidemill.adapters.databases import cdc_live
from tidemill.adapters.databases.cdc_live import CdcLive
from tidemill.model.errors import DataError, Unreachable

pytestmark = pytest.mark.postgres


class Orders:
    """A table that is followed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.slot = f"live_{url.rpartition('_')[2]}"
        self.execute("CREATE TABLE orders (id int PRIMARY KEY, t text); CREATE PUBLICATION p FOR ALL TABLES")
        spec = live.cdc("shop_db", "orders", slot=self.slot, publication="p")
        self.source = CdcLive(spec, psycopg.conninfo.conninfo_to_dict(url))

    def execute(self, *statements: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = on")
            for statement in statements:
                connection.execute(statement.encode())

    def confirmed(self) -> Any:
        with psycopg.connect(self.url, autocommit=True) as connection:
            query = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = %s"
            return connection.execute(query, [self.slot]).fetchone()

    def opened(self, position: Any = None) -> Any:
        """The reading; a session that has just ended is noticed by the server a little later."""
        until = time.monotonic() + 120
        while True:
            try:
                return self.source.open(position)
            except Unreachable:
                assert time.monotonic() < until
                time.sleep(0.02)


@pytest.fixture
def orders(postgres: Postgres) -> Iterator[Orders]:
    found = Orders(postgres.new_database())
    yield found
    with psycopg.connect(found.url, autocommit=True) as connection:
        query = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s"
        connection.execute(query, [found.slot])


def read(reading: Any, rows: int) -> tuple[list[tuple[str, int]], Any]:
    """So many changes, and the position behind them."""
    found: list[tuple[str, int]] = []
    position = None
    until = time.monotonic() + 120
    while len(found) < rows:
        assert time.monotonic() < until, found
        taken = reading.read(0.2)
        if taken is not None:
            position = taken.position
            if taken.rows is not None:
                found += [(row["_op"], row["id"]) for row in taken.rows.to_pylist()]
                assert len(taken.timestamps) == taken.rows.num_rows
    return found, position


def test_changes_come_and_the_slot_follows_the_commits(orders):
    """What is not committed comes again; what is, never; and the server forgets only then."""
    reading = orders.opened()
    orders.execute("INSERT INTO orders VALUES (1, 'a'), (2, 'b')", "UPDATE orders SET t = 'c' WHERE id = 1")
    before = orders.confirmed()
    wanted = [("i", 1), ("i", 2), ("u", 1)]
    found, _ = read(reading, 3)
    assert found == wanted
    reading.close()
    assert orders.confirmed() == before
    reading = orders.opened()
    found, position = read(reading, 3)
    assert found == wanted
    reading.committed()
    orders.execute("DELETE FROM orders WHERE id = 2")
    found, _ = read(reading, 1)
    reading.close()
    assert found == [("d", 2)]
    assert orders.confirmed() != before
    reading = orders.opened(position)
    orders.execute("TRUNCATE orders", "ALTER TABLE orders ADD COLUMN n int", "INSERT INTO orders VALUES (9, 'x', 1)")
    found, _ = read(reading, 3)
    reading.close()
    assert [op for op, _ in found] == ["d", "t", "i"]


def test_a_transaction_is_cut_where_it_is_large(orders, monkeypatch):
    """Positions lie within it; from each, what follows comes once."""
    monkeypatch.setattr(cdc_live, "_MOST", 7)
    reading = orders.opened()
    orders.execute("INSERT INTO orders SELECT n, 'x' FROM generate_series(1, 40) n", "DELETE FROM orders WHERE id = 40")
    wanted = [*(("i", n) for n in range(1, 41)), ("d", 40)]
    found: list[tuple[str, int]] = []
    position = None
    while len(found) < 41:
        some, position = read(reading, 1)
        found += some
        reading.committed()
        reading.close()
        reading = orders.opened(position)
    assert found == wanted
    reading.close()


def test_a_slot_that_is_gone_is_told(orders):
    """A position without its slot is a gap."""
    reading = orders.opened()
    orders.execute("INSERT INTO orders VALUES (1, 'a')")
    _, position = read(reading, 1)
    reading.close()
    until = time.monotonic() + 120
    while True:
        try:
            orders.execute(f"SELECT pg_drop_replication_slot('{orders.slot}')")
            break
        except psycopg.errors.ObjectInUse:
            assert time.monotonic() < until
            time.sleep(0.02)
    with pytest.raises(DataError, match="changes since the last batch are lost"):
        orders.source.open(position)
