"""Conformance of the port `source` on databases: one test a promise, over every kind that `sources.sql` reads."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import services
from harness.databases import NAME, Shop, shop, values
from harness.examples import few
from tidemill import sources
from tidemill.model.errors import DataError, DefinitionError, Refused, SettingsError, UnknownName, Unreachable

KINDS = ["sqlite", "duckdb", pytest.param("postgresql", marks=pytest.mark.postgres), "mariadb"]
ORDERS = "CREATE TABLE orders (id BIGINT PRIMARY KEY, name VARCHAR(100), seen BIGINT NOT NULL)"


@pytest.fixture(params=KINDS)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """An empty database of each kind."""
    kind = request.param
    server = request.getfixturevalue({"postgresql": "postgres"}.get(kind, kind)) if kind in SERVERS else None
    if kind == "sqlite":
        services.note_used(request, "SQLite", sqlite3.sqlite_version)
    with shop(kind, tmp_path, server) as made:
        yield made


SERVERS = ("postgresql", "mariadb")


def fill(db: Shop, rows: list[tuple[Any, ...]]) -> None:
    db.execute(f"INSERT INTO orders VALUES {values(rows)}")


def test_a_table_is_read_whole(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "a", 1), (2, None, 2), (3, "", 3)])
    assert sorted(db.read(sources.sql(NAME, "orders"))) == [(1, "a", 1), (2, None, 2), (3, "", 3)]
    assert db.last is None


def test_columns_come_in_the_order_in_which_they_are_named(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "a", 7)])
    (piece,) = db.pieces(sources.sql(NAME, "orders", columns=["seen", "id"]))
    assert (piece.column_names, piece.to_pylist()) == (["seen", "id"], [{"seen": 7, "id": 1}])


def test_a_table_without_rows_tells_its_columns(db: Shop) -> None:
    db.execute(ORDERS)
    (piece,) = db.pieces(sources.sql(NAME, "orders"))
    assert (piece.num_rows, piece.column_names) == (0, ["id", "name", "seen"])
    assert [str(field.type) for field in piece.schema] == ["int64", "string", "int64"]


def test_a_query_is_rendered_for_its_interval(db: Shop) -> None:
    db.execute(
        "CREATE TABLE sales (id INTEGER, sold DATE)", "INSERT INTO sales VALUES (1, '2026-01-01'), (2, '2026-01-02')"
    )
    query = "select id from sales where sold = '{{ ds }}' -- of the day"
    assert db.read(sources.sql(NAME, query=query, name="sales")) == [(1,)]
    assert db.read(sources.sql(NAME, "sales", columns=["id"], where="sold > '{{ ds }}' -- later")) == [(2,)]


def test_query_and_condition_may_hold_what_drivers_take_for_places_of_values(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "50% :off ?", 1), (2, "%s $1", 2)])
    query = "select id, name, '100% :x ? $1 %s %(a)s' as more from orders where name like '%:off%'"
    assert db.read(sources.sql(NAME, query=query, name="o")) == [(1, "50% :off ?", "100% :x ? $1 %s %(a)s")]
    late = sources.sql(NAME, "orders", where="name like '\x25s%'", cursor="seen")
    assert [row[0] for row in db.read(late)] == [2]


NASTY = ["'; drop table orders; --", "\\'; drop table orders; --", '"', "\\", "a'b''c", "%s :x $1 ?", "é😀\n"]


@pytest.mark.parametrize("text", NASTY)
def test_values_stay_values(db: Shop, text: str) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "plain", 1)])
    source = sources.sql(NAME, "orders", where="name <> {{ params.name | bind }}")
    assert [row[0] for row in db.read(source, name=text)] == [1]
    assert db.read(source, name="plain") == []
    with pytest.raises(Refused, match="not written into SQL") if text != "é😀\n" else pytest.raises(Refused):
        db.read(sources.sql(NAME, "orders", where="name <> '{{ params.name }}'"), name=text)
    assert db.read(sources.sql(NAME, "orders"))


@pytest.mark.parametrize("name", ['odd " name', "odd ` name", "o'dd", "a:b", "100%", "%s", "select", "é"])
def test_names_stay_names(db: Shop, name: str) -> None:
    quoted = f"`{name.replace('`', '``')}`" if db.kind == "mariadb" else '"' + name.replace('"', '""') + '"'
    # The driver that fills the test's table formats only where it is given values.
    db.execute(f"CREATE TABLE {quoted} ({quoted} BIGINT PRIMARY KEY)", f"INSERT INTO {quoted} VALUES (1), (2)")
    source = sources.sql(NAME, name, columns=[name], cursor=name, parallel=2, chunk_rows=1)
    assert sorted(db.read(source)) == [(1,), (2,)]
    assert db.last == {"type": "long", "value": "2"}


def test_names_that_do_not_exist_are_told_with_the_nearest(db: Shop) -> None:
    db.execute(ORDERS)
    for wrong in ('orders"; drop table orders; --', "ordrs"):
        with pytest.raises(UnknownName, match="There is no table"):
            db.read(sources.sql(NAME, wrong))
    with pytest.raises(UnknownName) as error:
        db.read(sources.sql(NAME, "ordrs"))
    assert "orders" in str(error.value.hint)
    assert error.value.where is not None
    for option in ({"columns": ["nmae"]}, {"cursor": "nmae"}, {"key": "nmae"}):
        with pytest.raises(UnknownName) as error:
            db.read(sources.sql(NAME, "orders", **option))  # type: ignore[arg-type]
        assert '"name"' in str(error.value.hint)
    with pytest.raises(DataError, match="nmae"):
        db.read(sources.sql(NAME, "orders", where="nmae = 1"))


WRITES = [
    "select 1 as a) q; drop table orders; select * from (select 1 as a",
    "select 1 as a; drop table orders",
    "select 1 as a) q; commit; drop table orders; --",
    "with gone as (delete from orders returning id) select * from gone",
    "delete from orders",
]


@pytest.mark.parametrize("query", WRITES)
def test_nothing_can_be_written(db: Shop, query: str) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "a", 1)])
    with pytest.raises(DataError):
        db.read(sources.sql(NAME, query=query, name="o"))
    with pytest.raises(DataError):
        db.read(sources.sql(NAME, "orders", where=f"1 = 1) or id in ({query}"))
    assert db.read(sources.sql(NAME, "orders")) == [(1, "a", 1)]


def test_two_columns_of_one_name_are_refused(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "a", 1)])
    source = sources.sql(NAME, query='select id, id as "ID" from orders', name="o")
    if db.kind in SERVERS:
        with pytest.raises(DataError, match=r"two columns|Duplicate column"):
            db.read(source)
    else:  # these give the second another name
        (piece,) = db.pieces(source)
        assert len(set(map(str.lower, piece.column_names))) == 2


def test_a_cursor_goes_on_where_it_ended(db: Shop) -> None:
    db.execute(ORDERS)
    source = sources.sql(NAME, "orders", cursor="seen")
    assert (db.read(source), db.last) == ([], None)
    fill(db, [(1, "a", 1), (2, "b", 5)])
    assert sorted(db.read(source)) == [(1, "a", 1), (2, "b", 5)]
    assert (db.last) == {"type": "long", "value": "5"}
    assert (db.read(source, db.last), db.last) == ([], {"type": "long", "value": "5"})
    fill(db, [(3, "c", 6)])
    assert db.read(source, db.last) == [(3, "c", 6)]
    db.execute("DELETE FROM orders WHERE seen > 4")
    assert (db.read(source, db.last), db.last) == ([], {"type": "long", "value": "6"})


def test_a_late_commit_within_the_lag_is_read(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "a", 10), (2, "b", 20)])
    source = sources.sql(NAME, "orders", cursor="seen", lag=15)
    db.read(source)
    fill(db, [(3, "late", 12), (4, "too late", 4)])
    assert sorted(db.read(source, db.last)) == [(1, "a", 10), (2, "b", 20), (3, "late", 12)]


def test_a_run_again_reads_its_own_range(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "a", 1), (2, "b", 2), (3, "c", 3)])
    source = sources.sql(NAME, "orders", cursor="seen")
    one, two = ({"type": "long", "value": str(number)} for number in (1, 2))
    assert db.read(source, one, until=two) == [(2, "b", 2)]
    assert db.last == two


def test_a_long_history_comes_in_batches(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(number, "a", number // 3) for number in range(20)])
    source = sources.sql(NAME, "orders", cursor="seen", max_rows=5, lag=2)
    bookmark, ends, seen = None, [], set()
    for _ in range(10):
        seen |= {row[0] for row in db.read(source, bookmark)}
        if db.last == bookmark:
            break
        bookmark = db.last
        ends.append(int(bookmark["value"]))
    assert seen == set(range(20))
    assert ends == [1, 3, 5, 6]


def test_rows_without_a_cursor_are_refused_unless_left_out(db: Shop) -> None:
    db.execute(
        "CREATE TABLE orders (id BIGINT PRIMARY KEY, seen BIGINT)", "INSERT INTO orders VALUES (1, 1), (2, NULL)"
    )
    with pytest.raises(DataError, match="1 rows of shop_db orders have no seen"):
        db.read(sources.sql(NAME, "orders", cursor="seen"))
    assert db.read(sources.sql(NAME, "orders", cursor="seen", where="seen is not null")) == [(1, 1)]


def test_a_bookmark_of_another_type_is_refused(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "a", 1)])
    source = sources.sql(NAME, "orders", cursor="seen")
    for bookmark in ({"type": "date", "value": "2026-01-01"}, {"type": "string", "value": "x"}, 5, {"type": "long"}):
        with pytest.raises(Refused):
            db.read(source, bookmark)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="lag"):
        db.read(sources.sql(NAME, "orders", cursor="seen", lag="5m"), {"type": "long", "value": "1"})


def test_text_and_times_are_cursors(db: Shop) -> None:
    moment = {"mariadb": "DATETIME(6)"}.get(db.kind, "TIMESTAMP")
    db.execute(
        f"CREATE TABLE orders (id BIGINT, code VARCHAR(20) NOT NULL, moment {moment} NOT NULL, day DATE NOT NULL)"
    )
    rows = [
        (1, "a-1", "2026-01-01 10:00:00.000001", "2026-01-01"),
        (2, "a-2", "2026-01-01 10:00:00.000002", "2026-01-02"),
        (3, "b-1", "2026-01-01 10:10:00.000000", "2026-01-03"),
    ]
    db.execute(f"INSERT INTO orders VALUES {values(rows[:2])}")
    for column, lag, kind in (("code", None, "string"), ("moment", "4m", "timestamp"), ("day", "36h", "date")):
        source = sources.sql(NAME, "orders", cursor=column, lag=lag, columns=["id"])
        assert sorted(db.read(source)) == [(1,), (2,)], column
        assert db.last["type"] == ("string" if db.kind == "sqlite" else kind)
        again = sorted(db.read(source, db.last))
        assert again == ([] if lag is None else [(1,), (2,)]), column
        bookmark = db.last
        db.execute(f"INSERT INTO orders VALUES {values(rows[2:])}")
        # Four minutes back from the bookmark, and two days.
        assert sorted(db.read(source, bookmark)) == ([(3,)] if lag is None else [(1,), (2,), (3,)]), column
        db.execute("DELETE FROM orders WHERE id = 3")


def test_chunks_are_the_table_cut_by_its_key(db: Shop) -> None:
    db.execute(ORDERS)
    rows = [(number * 7, f"n{number}", number % 10) for number in range(-30, 70)]
    fill(db, rows)
    for chunk in (100, 99, 33):
        source = sources.sql(NAME, "orders", parallel=3, chunk_rows=chunk)
        found = db.pieces(source)
        assert sorted(tuple(row.values()) for piece in found for row in piece.to_pylist()) == sorted(rows)
        if db.kind in SERVERS and chunk < 100:
            assert len(found) == -(-len(rows) // chunk)
            firsts = [sorted(piece.column("id").to_pylist()) for piece in found]
            assert firsts == sorted(firsts)  # in the order of the key, whoever was first
    narrow = sources.sql(NAME, "orders", parallel=2, chunk_rows=10, where="seen = 3", columns=["name"])
    assert sorted(db.read(narrow)) == sorted((name,) for _, name, seen in rows if seen == 3)


def test_rows_without_a_key_are_in_a_chunk_too(db: Shop) -> None:
    db.execute("CREATE TABLE orders (id BIGINT, word VARCHAR(10))")
    rows = [(1, "b"), (None, "x"), (2, "B"), (None, None), (2, "b"), (2, "é")]
    db.execute(f"INSERT INTO orders VALUES {values(rows)}")
    for key in ("id", "word"):
        found = db.read(sources.sql(NAME, "orders", key=key, parallel=2, chunk_rows=1))
        assert sorted(found, key=repr) == sorted(rows, key=repr)
    if db.kind in SERVERS:
        with pytest.raises(DefinitionError, match="no primary key of one column"):
            db.read(sources.sql(NAME, "orders", parallel=2))


def test_columns_that_change_between_two_batches(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "a", 1)])
    source = sources.sql(NAME, "orders", cursor="seen")
    db.read(source)
    db.execute("ALTER TABLE orders ADD COLUMN more DOUBLE PRECISION")
    db.execute("INSERT INTO orders VALUES (2, 'b', 2, 0.5)")
    (piece,) = db.pieces(source, db.last)
    assert piece.to_pylist() == [{"id": 2, "name": "b", "seen": 2, "more": 0.5}]


CHANGES = st.lists(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), max_size=6), max_size=4)


@pytest.mark.parametrize("kind", KINDS)
@given(batches=CHANGES, lag=st.integers(0, 3), chunk=st.integers(2, 4))
@settings(max_examples=few(5), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_cut_of_changes_into_batches_gives_the_table(
    kind: str, postgres_of: Callable[[str], Any], batches: list[Any], lag: int, chunk: int
) -> None:
    """Each key's newest row, batch by batch, is what the table holds, where no row is later than the lag."""
    with tempfile.TemporaryDirectory() as folder, shop(kind, Path(folder), postgres_of(kind)) as db:
        db.execute(ORDERS)
        source = sources.sql(NAME, "orders", cursor="seen", lag=lag, parallel=2, chunk_rows=chunk)
        state: dict[int, tuple[Any, ...]] = {}
        truth: dict[int, tuple[Any, ...]] = {}
        clock = itertools.count(10)
        bookmark = None
        for changes in batches:
            for key, late in changes:
                # Never above what was read less the lag, and never the same key twice with an older cursor.
                moment = next(clock)
                row = (key, f"v{moment}", moment - min(late, max(lag - 1, 0)) if key not in truth else moment)
                db.execute(f"DELETE FROM orders WHERE id = {key}")
                fill(db, [row])
                truth[key] = row
            for row in db.read(source, bookmark):
                state[row[0]] = row
            bookmark = db.last
            assert state == truth


@pytest.fixture
def postgres_of(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """The server of a kind; None: it is a file."""
    names = {"postgresql": "postgres", "mariadb": "mariadb"}
    return lambda kind: request.getfixturevalue(names[kind]) if kind in names else None


# Who asks, and where -------------------------------------------------------------------------------------------------


def test_a_connection_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with shop("sqlite", tmp_path, None) as db, pytest.raises(UnknownName, match="nowhere") as error:
        db.read(sources.sql("nowhere", "orders"))
    assert "TIDEMILL_CONN_NOWHERE" in str(error.value.hint)


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_file_that_is_not_there_is_unreachable_and_not_made(kind: str, tmp_path: Path) -> None:
    with shop(kind, tmp_path, None) as db, pytest.raises(Unreachable):
        db.read(sources.sql(NAME, "orders"))
    assert list(tmp_path.iterdir()) == []


def test_an_address_stands_for_a_connection_and_shows_no_secret(db: Shop) -> None:
    db.execute(ORDERS)
    fill(db, [(1, "a", 1)])
    source = sources.sql(db.url, "orders")
    assert db.read(source) == [(1, "a", 1)]
    if db.kind in SERVERS:
        assert db.server.password not in f"{source} {source!r}"


@pytest.mark.parametrize("kind", ["mariadb", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_wrong_logins_are_the_users_and_absent_servers_may_come_back(
    kind: str, postgres_of: Callable[[str], Any], tmp_path: Path
) -> None:
    with shop(kind, tmp_path, postgres_of(kind)) as db:
        db.execute(ORDERS)
        wrong = [db.url.replace(db.server.password, "hunter2hunter2"), db.url.replace("tidemill:", "nobody:")]
        wrong.append(db.url.rpartition("/")[0] + "/nowhere")
        for url in wrong:
            with pytest.raises(SettingsError, match="refuses the login") as error:
                db.read(sources.sql(url, "orders"))
            assert "hunter2" not in str(error.value)
        with pytest.raises(Unreachable):
            db.read(sources.sql(db.url.replace(f":{db.server.port}/", ":1/"), "orders"))


def test_an_unknown_kind_of_database_is_told(tmp_path: Path) -> None:
    with shop("sqlite", tmp_path, None) as db, pytest.raises(SettingsError, match="nosuchdb"):
        db.read(sources.sql("nosuchdb://host/db", "orders"))
