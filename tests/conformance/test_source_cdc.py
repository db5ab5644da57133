"""Conformance of the port `source` on changes of a database: one test a promise, as in `test_source_databases.py`.

Two parts of that suite do not apply. A query, a condition, a cursor with its lag, names of columns: `sources.cdc` has
none of them, the publication decides. And that a range can be asked for whenever one likes: what a slot was told to
forget cannot be had again, so a range that was published is refused, and read from the archive.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.changing import Followed, followed
from harness.databases import DAY, NAME
from harness.examples import few
from harness.postgres import Postgres
from tidemill import sources
from tidemill.authoring import registry
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.batch import Batch, BatchKey, BatchState, Bookmark
from tidemill.model.errors import DataError, DefinitionError, Refused, SettingsError, UnknownName, Unreachable
from tidemill.ports.source import ExtractRequest, RawFile, Told
from tidemill.wiring.connectors import open_connector
from tidemill.wiring.settings import Settings

pytestmark = pytest.mark.postgres

ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, name text)"
FIVE = "INSERT INTO orders SELECT n, 'n' || n FROM generate_series(1, 5) n"


class Changes:
    """Extractions from a followed database, without a lake."""

    def __init__(self, shop: Followed) -> None:
        self.shop = shop
        self.last: Bookmark = None
        self.files: list[str] = []

    def feed(self, tables: Any = ("orders",), connection: str = NAME, **options: Any) -> Any:
        """What extracts."""
        registry.clear()
        pipeline = Pipeline("shop", schedule="@daily", start=DAY.start)
        declared = sources.cdc(connection, tables, **{"slot": self.shop.slot, **options})
        pipeline.source(declared)
        spec = pipeline.spec().sources["changes"]
        return open_connector(spec, declared, Settings(self.shop.project.root, "test"), lambda text, _request: text)

    def extraction(self, bookmark: Bookmark = None, until: Bookmark = None, **options: Any) -> Any:
        """A read that has not begun."""
        batch = Batch(1, BatchKey("shop", DAY), BatchState.OPEN, DAY.end)
        return self.feed(**options).extract(ExtractRequest(batch, bookmark, until))

    def read(
        self, bookmark: Bookmark = None, until: Bookmark = None, **options: Any
    ) -> dict[str, list[dict[str, Any]]]:
        """The rows of a read by the table that they are for; `last` is then its bookmark, `files` are its pieces."""
        found: dict[str, Any] = {}
        self.files = []
        with self.extraction(bookmark, until, **options) as extraction:
            for piece in extraction:
                assert isinstance(piece, RawFile)
                self.files.append(piece.name)
                with piece.open() as stream:
                    rows = pq.read_table(io.BytesIO(stream.read())).to_pylist()
                found.setdefault(piece.name.partition(".")[0].partition("-")[0], []).extend(rows)
            self.last = extraction.bookmark_after
        return found

    def changes(self, bookmark: Bookmark = None, **options: Any) -> list[tuple[str, int]]:
        """What happened to which order."""
        return [(row["_op"], row["id"]) for row in self.read(bookmark, **options).get("orders", [])]

    def published(self) -> None:
        """The batch of the last read is published."""
        self.feed().published(self.last)

    def slots(self) -> dict[str, str]:
        """The slots of the database, and how far they are."""
        mine = "pg_replication_slots WHERE database = current_database()"
        return dict(self.shop.rows(f"SELECT slot_name, confirmed_flush_lsn::text FROM {mine}"))


@pytest.fixture
def db(postgres: Postgres, tmp_path: Path) -> Iterator[Changes]:
    with followed(postgres, tmp_path / "project", ORDERS) as shop:
        yield Changes(shop)


def test_a_table_is_read_whole(db: Changes) -> None:
    db.shop.execute(FIVE)
    found = db.read()
    assert [(row["_op"], row["id"], row["name"]) for row in found["orders"]] == [("r", n, f"n{n}") for n in range(1, 6)]
    assert [row["changes"] for row in found["transactions"]] == [5]
    assert db.last is not None


def test_a_table_without_rows_tells_its_columns(db: Changes) -> None:
    with db.extraction() as extraction:
        tables = {}
        for piece in extraction:
            with piece.open() as stream:
                tables[piece.name.partition(".")[0]] = pq.read_table(io.BytesIO(stream.read()))
    assert tables["orders"].num_rows == 0
    assert tables["orders"].column_names[:2] == ["id", "name"]
    assert str(tables["orders"].schema.field("id").type) == "int32"


NASTY = "'; drop table orders; --\\ \"%s :x $1 ?é😀\n"


def test_values_stay_values(db: Changes) -> None:
    with psycopg.connect(db.shop.url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = on")
        connection.execute("INSERT INTO orders VALUES (1, %s)", [NASTY])
        found = db.read()["orders"]
        db.published()
        connection.execute("INSERT INTO orders VALUES (2, %s)", [NASTY])
    found += db.read(db.last)["orders"]
    assert [row["name"] for row in found] == [NASTY, NASTY]


@pytest.mark.parametrize("name", ['odd " name', "o'dd", "100% %s :x"])
def test_names_stay_names(db: Changes, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    db.shop.execute(
        f"CREATE TABLE {quoted} ({quoted} int PRIMARY KEY)", f"INSERT INTO {quoted} VALUES (1), (2)",
        f"CREATE PUBLICATION {quoted} FOR TABLE {quoted}",
    )  # fmt: skip
    options: dict[str, Any] = {"tables": [name], "publication": name, "key": name, "parallel": 2, "chunk_rows": 1}
    (found,) = (rows for table, rows in db.read(**options).items() if table != "transactions")
    db.feed(**options).published(db.last)
    db.shop.execute(f"INSERT INTO {quoted} VALUES (3)")
    (more,) = (rows for table, rows in db.read(db.last, **options).items() if table != "transactions")
    assert [row[name] for row in found + more] == [1, 2, 3]


def test_names_that_do_not_exist_are_told_with_the_nearest(db: Changes) -> None:
    with pytest.raises(UnknownName) as error:
        db.read(tables=["order"])
    assert "orders" in str(error.value.hint)
    assert error.value.where is not None
    with pytest.raises(SettingsError, match="no publication") as missing:
        db.read(publication="nowhere")
    assert missing.value.where is not None
    assert db.slots() == {}


def test_a_bookmark_goes_on_where_it_ended(db: Changes) -> None:
    db.shop.execute(FIVE)
    db.read()
    db.published()
    db.shop.execute("UPDATE orders SET name = 'x' WHERE id = 2", "DELETE FROM orders WHERE id = 3")
    assert db.changes(db.last) == [("u", 2), ("d", 3)]
    db.shop.execute("INSERT INTO orders VALUES (6, 'n6')")
    # Whether the server was told or not: the bookmark decides.
    assert db.changes(db.last) == [("i", 6)]
    db.published()
    assert db.changes(db.last) == []


def test_looking_takes_nothing_away(db: Changes) -> None:
    """A batch that fails, and one that is given up in the middle: the next read from the same bookmark has it all."""
    db.shop.execute(FIVE)
    db.read()
    db.published()
    begin = db.last
    db.shop.execute("INSERT INTO orders VALUES (6, 'n6')")
    before = db.slots()
    with db.extraction(begin) as extraction:
        next(iter(extraction))
    assert db.changes(begin) == db.changes(begin) == [("i", 6)]
    assert db.slots() == before


def test_a_run_again_reads_its_own_range(db: Changes) -> None:
    """Also what another one was to read is left out; once it is published it is the archive's."""
    db.shop.execute(FIVE)
    db.read()
    db.published()
    begin = db.last
    db.shop.execute("INSERT INTO orders VALUES (6, 'n6')")
    db.read(begin)
    end = db.last
    db.shop.execute("INSERT INTO orders VALUES (7, 'n7')")
    assert [row["id"] for row in db.read(begin, end)["orders"]] == [6]
    db.read(end)
    db.published()
    with pytest.raises(Refused, match="has forgotten") as error:
        db.read(begin, end)
    assert "replay" in str(error.value.hint)
    with pytest.raises(Refused, match="cannot be taken again"):
        db.read(None, begin)


def test_what_is_published_may_be_told_again_and_late(db: Changes) -> None:
    """An older bookmark moves nothing back, one of another slot moves nothing, and none at all is no error."""
    feed = db.feed()
    assert isinstance(feed, Told)
    db.shop.execute(FIVE)
    db.read()
    first = db.last
    assert list(db.slots()) == [f"{db.shop.slot}_new"]
    feed.published(first)
    feed.published(first)
    db.shop.execute("INSERT INTO orders VALUES (6, 'n6')")
    db.read(first)
    feed.published(db.last)
    there = db.slots()
    assert there == {db.shop.slot: db.last["lsn"]}  # type: ignore[index, call-overload]
    for bookmark in (first, None, {**first, "slot": "another"}):  # type: ignore[dict-item]
        feed.published(bookmark)
    assert db.slots() == there


def test_a_snapshot_that_is_given_up_leaves_no_slot(db: Changes) -> None:
    db.shop.execute(FIVE)
    for options in ({}, {"parallel": 2, "chunk_rows": 2}):
        with db.extraction(**options) as extraction:
            next(iter(extraction))
        assert db.slots() == {}


def test_a_bookmark_of_another_source_is_refused(db: Changes) -> None:
    for bookmark in ({"type": "long", "value": "1"}, 5, {"slot": db.shop.slot, "lsn": "x", "at": 1, "tables": []}):
        with pytest.raises(DataError, match="none of a replication slot"):
            db.read(bookmark)  # type: ignore[arg-type]


def test_chunks_are_the_table_cut_by_its_key(db: Changes) -> None:
    """Whichever connection is first, rows are numbered as one would; what has no key of one column is read by one."""
    db.shop.execute(
        "INSERT INTO orders SELECT n * 7 - 100, 'n' || n FROM generate_series(1, 100) n",
        "CREATE TABLE pairs (a int, b int, PRIMARY KEY (a, b))", "INSERT INTO pairs VALUES (1, 1), (1, 2), (2, 1)",
        "CREATE TABLE nothing (id int PRIMARY KEY)",
    )  # fmt: skip
    tables = {"tables": ["orders", "pairs", "nothing"], "key": {"pairs": ["a", "b"]}}
    for chunk, files in ((100, 1), (33, 4)):
        found = db.read(parallel=3, chunk_rows=chunk, **tables)
        orders = [row["id"] for row in sorted(found["orders"], key=lambda row: row["_seq"])]
        assert orders == [n * 7 - 100 for n in range(1, 101)]
        assert sorted(row["_seq"] for table in ("orders", "pairs") for row in found[table]) == list(range(103))
        assert (len(found["pairs"]), found["nothing"]) == (3, [])
        assert sum(name.startswith("orders.") for name in db.files) == files
        assert found["transactions"][0]["changes"] == 103
    with pytest.raises(DefinitionError, match="all connections"):
        db.feed(parallel=33)


def test_chunks_are_of_one_snapshot_and_nothing_after_it_is_missed(db: Changes) -> None:
    """Rows that are written while chunks are read come as changes, and only so."""
    db.shop.execute("INSERT INTO orders SELECT n, 'old' FROM generate_series(1, 40) n")
    rows = []
    with db.extraction(parallel=2, chunk_rows=5) as extraction:
        for number, piece in enumerate(extraction):
            if number == 0:
                db.shop.together("UPDATE orders SET name = 'new'", "INSERT INTO orders VALUES (0, 'new'), (99, 'new')")
            with piece.open() as stream:
                if piece.name.startswith("orders"):
                    rows += pq.read_table(io.BytesIO(stream.read())).to_pylist()
        db.last = extraction.bookmark_after
    assert [(row["id"], row["name"]) for row in rows] == [(n, "old") for n in range(1, 41)]
    db.published()
    changed = db.read(db.last)["orders"]
    assert sorted((row["_op"], row["id"]) for row in changed) == [
        ("i", 0),
        ("i", 99),
        *(("u", n) for n in range(1, 41)),
    ]


def test_columns_that_change_between_two_batches(db: Changes) -> None:
    db.shop.execute(FIVE)
    db.read()
    db.published()
    db.shop.execute("ALTER TABLE orders ADD COLUMN more float8", "INSERT INTO orders VALUES (6, 'n6', 0.5)")
    (row,) = db.read(db.last)["orders"]
    assert (row["id"], row["name"], row["more"]) == (6, "n6", 0.5)


def test_a_connection_that_does_not_exist_is_told(db: Changes) -> None:
    with pytest.raises(UnknownName, match="nowhere") as error:
        db.feed(connection="nowhere")
    assert "TIDEMILL_CONN_NOWHERE" in str(error.value.hint)
    with pytest.raises(SettingsError, match="changes are those of PostgreSQL"):
        db.feed(connection="mysql://shop:hunter2@127.0.0.1/shop")


def test_an_address_stands_for_a_connection_and_shows_no_secret(db: Changes) -> None:
    db.shop.execute(FIVE)
    assert len(db.changes(connection=db.shop.url)) == 5
    password = db.shop.url.partition("tidemill:")[2].partition("@")[0]
    declared = sources.cdc(db.shop.url, ["orders"], slot=db.shop.slot)
    assert password not in f"{declared} {declared!r}"


def test_wrong_logins_are_the_users_and_absent_servers_may_come_back(db: Changes) -> None:
    password = db.shop.url.partition("tidemill:")[2].partition("@")[0]
    port = db.shop.url.rpartition(":")[2].partition("/")[0]
    wrong = [db.shop.url.replace(password, "hunter2hunter2"), db.shop.url.rpartition("/")[0] + "/nowhere"]
    for url in wrong:
        with pytest.raises(SettingsError, match="refuses the login") as error:
            db.read(connection=url)
        assert "hunter2" not in str(error.value)
    with pytest.raises(Unreachable):
        db.read(connection=db.shop.url.replace(f":{port}/", ":1/"))


STEPS = st.lists(st.tuples(st.sampled_from("iudk"), st.integers(0, 5)), min_size=1, max_size=4)


@given(batches=st.lists(st.lists(STEPS, max_size=3), min_size=1, max_size=3), most=st.integers(1, 6))
@settings(max_examples=few(8), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_of_changes_into_batches_gives_the_table(db: Changes, batches: Any, most: int) -> None:
    """Transactions of inserts, updates, deletes and changes of keys, replayed by hand, are the table; each once."""
    db.shop.execute("DELETE FROM orders")
    db.read(db.last)
    db.published()
    state: dict[int, str] = {}
    seen: list[tuple[int, int]] = []
    clock = itertools.count()
    for transactions in batches:
        for steps in transactions:
            db.shop.together(*(_statement(step, key, next(clock)) for step, key in steps))
        # A short one, and the rest: transactions are whole in either.
        for options in ({"max_changes": most}, {}):
            for row in db.read(db.last, **options).get("orders", []):
                seen.append((row["_lsn"], row["_seq"]))
                if row["_op"] == "d":
                    del state[row["id"]]
                else:
                    state[row["id"]] = row["name"]
            db.published()
        assert state == dict(db.shop.rows("SELECT id, name FROM orders"))
    assert all(one < other for one, other in itertools.pairwise(seen))


def _statement(step: str, key: int, moment: int) -> str:
    match step:
        case "i":
            return f"INSERT INTO orders VALUES ({key}, 'v{moment}') ON CONFLICT DO NOTHING"
        case "u":
            return f"UPDATE orders SET name = 'v{moment}' WHERE id = {key}"
        case "d":
            return f"DELETE FROM orders WHERE id = {key}"
        case _:
            free = f"NOT EXISTS (SELECT 1 FROM orders WHERE id = {key + 10})"
            return f"UPDATE orders SET id = {key + 10} WHERE id = {key} AND {free}"
