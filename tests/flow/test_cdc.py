"""`sources.cdc`: the state, the history and the log of tables that somebody else writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import tidemill as tm
from harness.changing import SLOT, Followed, followed
from harness.postgres import Postgres
from tidemill.model.errors import DataError, Refused, SettingsError, UnknownName

pytestmark = pytest.mark.postgres

ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, region text, total numeric(9,2), body text)"
COLUMNS = "id, region, total, body"
ABSORB = {"on_failure": "absorb"}
SOME = "INSERT INTO orders SELECT n, 'north', n, 'x' FROM generate_series(1, 5) n"


@pytest.fixture
def shop(postgres: Postgres, tmp_path: Path) -> Iterator[Followed]:
    with followed(postgres, tmp_path, ORDERS) as found:
        yield found


def test_a_snapshot_then_changes(shop):
    """State, log and transactions, through updates of a key and several changes of a row in one transaction."""
    shop.execute(SOME)
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


def test_a_truncate_ends_all_rows(shop):
    """Rows before it are gone, those after it are there; a batch that is run again changes nothing."""
    shop.execute(SOME)
    tables = {"write": "upsert"}
    shop.run(**tables)
    shop.together(
        "INSERT INTO orders VALUES (6, 'a', 1, 'x')", "TRUNCATE orders", "INSERT INTO orders VALUES (2, 'b', 2, 'y')"
    )
    report = shop.run(**tables)
    assert shop.difference("orders", COLUMNS) == (0, 0)
    shop.execute("INSERT INTO orders VALUES (1, 'c', 3, 'z')")
    shop.run(**tables)
    assert shop.difference("orders", COLUMNS) == (0, 0)
    before = shop.project.table("shop.orders")
    again = shop.again(report, **tables)
    assert again.ok, again.error
    assert shop.project.table("shop.orders") == before


def test_values_that_are_not_sent_stay(shop):
    """An update sends no large value that it does not change: the one before counts, also in the same batch."""
    large = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 400) n)"
    shop.execute(SOME, f"UPDATE orders SET body = {large} WHERE id <= 2")
    shop.run()
    shop.execute("UPDATE orders SET total = 7 WHERE id = 1")
    shop.run()
    assert shop.difference("orders", COLUMNS) == (0, 0)
    unsent = shop.project.rows("select _unchanged as u from shop.changes__orders where _op = 'u' and total = 7")
    assert unsent == [{"u": ["body"]}]
    shop.execute(
        f"INSERT INTO orders VALUES (7, 'new', 1, {large} || 'seven')",
        "UPDATE orders SET region = 'newer' WHERE id = 7",
        "UPDATE orders SET body = NULL WHERE id = 2",
        "UPDATE orders SET region = 'q' WHERE id = 2",
        "UPDATE orders SET total = 8 WHERE id = 1",
    )
    shop.run()
    assert shop.difference("orders", COLUMNS) == (0, 0)


def test_a_key_that_changes_beside_an_unsent_value_is_refused(shop):
    """What its row has cannot be told then; with REPLICA IDENTITY FULL it can."""
    large = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 400) n)"
    shop.execute(SOME, f"UPDATE orders SET body = {large} WHERE id <= 2")
    shop.run()
    shop.execute("UPDATE orders SET id = 100 WHERE id = 1")
    with pytest.raises(DataError, match=r"has changed the key of public.orders(.|\n)*REPLICA IDENTITY FULL"):
        shop.run()
    shop.execute("ALTER TABLE orders REPLICA IDENTITY FULL")
    shop.slot += "_2"
    shop.run(publication=shop.slot[:-2], feed=ABSORB)
    assert shop.difference("orders", COLUMNS) == (0, 0)
    shop.execute("UPDATE orders SET id = 200 WHERE id = 2", "DELETE FROM orders WHERE id = 100")
    shop.run(publication=shop.slot[:-2], feed=ABSORB)
    assert shop.difference("orders", COLUMNS) == (0, 0)


def test_history_has_every_version(shop):
    """SCD2: valid from the commit; deletes and truncates end versions."""
    options = {"write": "history"}
    shop.execute(SOME)
    shop.run(**options)
    shop.execute("UPDATE orders SET total = 70 WHERE id = 1", "DELETE FROM orders WHERE id = 2")
    shop.run(**options)
    current = "(select * from shop.orders where is_current)"
    assert shop.difference("orders", COLUMNS, of=current) == (0, 0)
    versions = shop.project.rows("select id, total, is_current from shop.orders where id <= 2 order by id, valid_from")
    assert [tuple(map(str, row.values())) for row in versions] == [
        ("1", "1.00", "False"), ("1", "70.00", "True"), ("2", "2.00", "False"),
    ]  # fmt: skip
    shop.together("TRUNCATE orders", "INSERT INTO orders VALUES (9, 'z', 1, NULL)")
    shop.run(**options)
    assert shop.difference("orders", COLUMNS, of=current) == (0, 0)
    assert len(shop.project.rows("select * from shop.orders")) == 7
    times = shop.project.rows("select count(*) as n from shop.orders where valid_to <= valid_from")
    assert times == [{"n": 0}]


def test_columns_that_come_go_and_are_renamed(shop):
    """A Relation message in the middle of a batch: columns are added, what is gone is null."""
    shop.execute(SOME)
    shop.run()
    shop.execute(
        "UPDATE orders SET total = 3 WHERE id = 1",
        "ALTER TABLE orders ADD COLUMN colour text, ADD COLUMN made timestamptz",
        "UPDATE orders SET colour = 'red', made = '2026-01-01 10:00+02' WHERE id = 1",
        "ALTER TABLE orders DROP COLUMN body",
        "INSERT INTO orders VALUES (6, 'south', 1.5, 'blue', NULL)",
        "ALTER TABLE orders RENAME COLUMN region TO place",
        "INSERT INTO orders VALUES (7, 'east', 1.5, 'blue', now())",
    )
    shop.run()
    changed = "where id in (1, 6, 7)"
    assert shop.difference(
        f"(select * from orders {changed}) o", "id, total, colour, made", f"shop.orders {changed}"
    ) == (0, 0)
    rows = shop.project.rows("select id, region, place from shop.orders where id > 5 order by id")
    assert [tuple(row.values()) for row in rows] == [(6, "south", None), (7, None, "east")]


def test_several_tables_move_together(postgres, tmp_path):
    """One slot, one feed: a log and a state for each table, an empty one included; one of them by its log alone."""
    tables = [
        ORDERS,
        "CREATE TABLE items (shop int, item text, n int, PRIMARY KEY (shop, item))",
        "CREATE TABLE noise (id int primary key)",
    ]
    with followed(postgres, tmp_path, *tables) as shop:
        options = {
            "tables": ["orders", "public.items", "noise"],
            "key": {"items": ["shop", "item"]},
            "write": {"orders": "upsert", "items": "history", "noise": "append"},
        }
        shop.execute(SOME)
        shop.run(**options)
        assert shop.project.rows("select count(*) as n from shop.items") == [{"n": 0}]
        shop.together(
            "INSERT INTO items VALUES (1, 'nail', 5)", "DELETE FROM orders WHERE id = 1", "INSERT INTO noise VALUES (1)"
        )
        shop.run(**options)
        assert shop.difference("orders", COLUMNS) == (0, 0)
        assert shop.difference("items", "shop, item, n") == (0, 0)
        assert "shop.noise" not in shop.project.tables()
        seen = shop.project.rows(
            "select _lsn, _seq from shop.changes__items union all select _lsn, _seq from shop.changes__noise "
            "union all select _lsn, _seq from shop.changes__orders where _op = 'd' order by _seq"
        )
        assert len({row["_lsn"] for row in seen}) == 1
        assert [row["_seq"] for row in seen] == [0, 1, 2]


def test_the_slot_moves_after_the_publish(shop):
    """Up to the bookmark, and what is not published stays; a replay asks no server."""
    shop.execute(SOME)
    shop.run()
    assert shop.rows(f"select count(*) from pg_replication_slots where slot_name = '{shop.slot}'") == [(1,)]
    shop.execute("UPDATE orders SET total = 3")
    bad = shop.pipeline()
    bad.expect("orders", [tm.expect(tm.col("total") > 5, name="large")])
    report = shop.project.run(bad)
    assert not report.ok
    (at,) = shop.rows(f"select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{shop.slot}'")
    assert at[0] == shop.bookmark()["lsn"]
    again = shop.again(report)
    assert again.ok
    (now,) = shop.rows(f"select confirmed_flush_lsn::text from pg_replication_slots where slot_name = '{shop.slot}'")
    assert now[0] == shop.bookmark()["lsn"] != at[0]
    assert shop.difference("orders", COLUMNS) == (0, 0)
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("SELECT pg_drop_replication_slot(%s)", [shop.slot])
    before = shop.project.table("shop.orders")
    assert shop.again(report).ok
    assert shop.project.table("shop.orders") == before
    refetched = shop.again(report, refetch=True)
    assert isinstance(refetched.error, DataError | Refused)


def test_a_lost_slot_is_told_and_another_name_begins_anew(shop):
    """No gap goes unseen; the new snapshot takes away what was deleted meanwhile."""
    shop.execute(SOME)
    shop.run()
    shop.execute(
        f"SELECT pg_drop_replication_slot('{shop.slot}')",
        "DELETE FROM orders WHERE id < 3",
        "INSERT INTO orders VALUES (9)",
    )
    with pytest.raises(DataError, match=r"is gone: changes since the last batch are lost(.|\n)*_2"):
        shop.run()
    shop.slot += "_2"
    shop.run(publication=shop.slot[:-2], feed=ABSORB)
    assert shop.difference("orders", COLUMNS) == (0, 0)
    begins = "(select max(_lsn) from shop.changes where _xid is null)"
    log = shop.project.rows(f"select _op, _seq, id from shop.changes__orders where _lsn = {begins} order by _seq")
    assert [tuple(row.values()) for row in log] == [("t", -1, None), ("r", 0, 3), ("r", 1, 4), ("r", 2, 5), ("r", 3, 9)]
    shop.execute("UPDATE orders SET region = 'z' WHERE id = 9")
    shop.run(publication=shop.slot[:-2], feed=ABSORB)
    assert shop.difference("orders", COLUMNS) == (0, 0)
    shop.execute(f"SELECT pg_replication_slot_advance('{shop.slot}', pg_current_wal_lsn())")
    shop.execute(
        "UPDATE orders SET region = 'y'", f"SELECT pg_replication_slot_advance('{shop.slot}', pg_current_wal_lsn())"
    )
    with pytest.raises(DataError, match="was moved by somebody else"):
        shop.run(publication=shop.slot[:-2], feed=ABSORB)


MISSING = {
    "publication": (
        (),
        {"publication": "nowhere"},
        SettingsError,
        r"no publication(.|\n)*CREATE PUBLICATION",
    ),
    "table": ((), {"tables": ["order"]}, UnknownName, r'(.|\n)*"public.orders"'),
    "key": ((), {"key": "region"}, SettingsError, r"declared as region, and PostgreSQL tells rows apart by id"),
    "primary key": (
        ("CREATE TABLE bare (id int)",),
        {"tables": ["bare"]},
        SettingsError,
        r"has no primary key(.|\n)*REPLICA IDENTITY FULL",
    ),
    "table of the publication": (
        ("CREATE PUBLICATION few FOR TABLE orders", "CREATE TABLE more (id int primary key)"),
        {"tables": ["orders", "more"], "publication": "few"},
        SettingsError,
        r'not in the publication "few"(.|\n)*ADD TABLE',
    ),
}


@pytest.mark.parametrize(("prepare", "options", "kind", "match"), MISSING.values(), ids=list(MISSING))
def test_what_is_missing_is_told(shop, prepare, options, kind, match):
    """Each with what to try; and no slot is left behind."""
    shop.execute(*prepare)
    with pytest.raises(kind, match=match):
        shop.run(**options)
    assert shop.rows("select count(*) from pg_replication_slots where database = current_database()") == [(0,)]


def test_a_slot_of_somebody_else_is_left_alone(shop):
    """One that is there before the first batch is published is none of ours."""
    shop.execute(f"SELECT pg_create_logical_replication_slot('{shop.slot}', 'pgoutput')")
    with pytest.raises(DataError, match=r"somebody else's(.|\n)*drop"):
        shop.run()
    assert shop.rows(f"select count(*) from pg_replication_slots where slot_name = '{shop.slot}'") == [(1,)]
    assert SLOT in shop.slot


def test_a_long_lag_comes_in_several_batches(shop):
    """`max_changes` bounds a batch; transactions stay whole."""
    shop.execute(SOME)
    shop.run()
    inserts = (
        f"INSERT INTO orders SELECT {n} * 10 + m, 'x', 1, NULL FROM generate_series(1, 4) m" for n in range(50, 65)
    )
    shop.execute(*inserts)
    sizes = []
    for _ in range(3):
        shop.run(max_changes=40)
        sizes.append(shop.project.rows("select count(*) as n from shop.changes")[0]["n"] - 1)
    assert sizes == [7, 14, 15]
    assert shop.difference("orders", COLUMNS) == (0, 0)
