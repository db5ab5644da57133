"""`sources.cdc`: the state, the history and the log of tables that somebody else writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.changing import Followed, followed
from harness.postgres import Postgres

pytestmark = pytest.mark.postgres

ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, region text, total numeric(9,2), body text)"
COLUMNS = "id, region, total, body"


@pytest.fixture
def shop(postgres: Postgres, tmp_path: Path) -> Iterator[Followed]:
    with followed(postgres, tmp_path, ORDERS) as found:
        yield found


def test_a_snapshot_then_changes(shop):
    shop.execute("INSERT INTO orders SELECT n, 'north', n, 'x' FROM generate_series(1, 5) n")
    shop.run()
    assert shop.difference("orders", COLUMNS) == (0, 0)
    shop.execute(
        "INSERT INTO orders VALUES (6, 'south', 1.5, NULL)",
        "UPDATE orders SET total = 99 WHERE id = 2",
        "DELETE FROM orders WHERE id = 3",
        "UPDATE orders SET id = 40 WHERE id = 4",
    )
    shop.together("UPDATE orders SET region = 'a' WHERE id = 1", "UPDATE orders SET region = 'b' WHERE id = 1")
    shop.run()
    assert shop.difference("orders", COLUMNS) == (0, 0)
    log = shop.project.rows("select _op, id, _seq from shop.changes__orders where _xid is not null order by _lsn, _seq")
    assert [(row["_op"], row["id"], row["_seq"]) for row in log] == [
        ("i", 6, 0), ("u", 2, 0), ("d", 3, 0), ("d", 4, 0), ("i", 40, 1), ("u", 1, 0), ("u", 1, 1),
    ]  # fmt: skip
    transactions = shop.project.rows("select changes from shop.changes order by _lsn")
    assert [row["changes"] for row in transactions] == [5, 1, 1, 1, 2, 2]
    shop.run()
    assert shop.difference("orders", COLUMNS) == (0, 0)
