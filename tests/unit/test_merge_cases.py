"""Single cases of keyed writes that the replay property would meet too rarely, and what their queries promise."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import md5
from typing import Any

import duckdb
import pytest

from tidemill.model.errors import DefinitionError
from tidemill.model.table import Schema, TableName, TableSpec, WriteMode
from tidemill.model.types import DATE, LONG
from tidemill.plan.history import History, history_schema
from tidemill.plan.merge import Upsert
from tidemill.plan.sql import quote

UPSERT = Upsert(("id",), ("id", "v", "_batch_id", "_loaded_at"))
HISTORY = History(
    ("id",), ("id", "v", "valid_from", "valid_to", "is_current", "_batch_id", "_loaded_at"), surrogate_key=None
)
INPUT_ROW = "id INT, v VARCHAR, _batch_id BIGINT, _loaded_at BIGINT, _order BIGINT, _row BIGINT, _deleted BOOLEAN"


@pytest.fixture
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        for name in ("input", "incoming", "others", "touched"):
            connection.execute(f"CREATE TABLE {name} ({INPUT_ROW})")
        yield connection


def fill(db: duckdb.DuckDBPyConnection, table: str, *rows: tuple[Any, ...]) -> None:
    """Rows are (id, v, batch, order, row[, deleted])."""
    for id, v, batch, order, row, *deleted in rows:
        db.execute(f"INSERT INTO {table} VALUES (?, ?, ?, 0, ?, ?, ?)", [id, v, batch, order, row, bool(deleted)])


def upsert_target(db: duckdb.DuckDBPyConnection, rows: str) -> None:
    db.execute(f"CREATE TABLE target AS SELECT *, 0 AS _loaded_at FROM (VALUES {rows}) t(id, v, _batch_id, _file)")
    db.execute("CREATE VIEW rewritten AS FROM target")


def history_target(db: duckdb.DuckDBPyConnection, rows: str) -> None:
    columns = "id, v, valid_from, valid_to, is_current, _batch_id, _file"
    db.execute(f"CREATE TABLE target AS SELECT *, 0 AS _loaded_at FROM (VALUES {rows}) t({columns})")


def test_a_row_without_key_or_order_is_reported_and_changes_nothing(db: duckdb.DuckDBPyConnection) -> None:
    """The row of id 1 has no order: were its key touched, the row that the table holds would be lost."""
    upsert_target(db, "(1, 'old', 1, 'a')")
    fill(db, "incoming", (1, "new", 2, None, 0), (None, "nobody", 2, 20, 1), (2, "fine", 2, 20, 2))
    errors = db.execute(f"SELECT id, v, _error FROM ({UPSERT.invalid().sql}) ORDER BY v DESC").fetchall()
    assert errors == [
        (None, "nobody", 'the key column "id" is empty'),
        (1, "new", "the column that orders the rows is empty"),
    ]
    assert db.execute(UPSERT.newest_files().sql).fetchall() == []
    assert db.execute(f"SELECT id, v FROM ({UPSERT.newest().sql}) ORDER BY id").fetchall() == [(1, "old"), (2, "fine")]


def test_only_files_with_touched_keys_are_rewritten(db: duckdb.DuckDBPyConnection) -> None:
    upsert_target(db, "(1, 'x', 1, 'a'), (2, 'x', 1, 'a'), (3, 'x', 1, 'b'), (4, 'x', 1, 'c')")
    fill(db, "incoming", (2, "y", 2, 20, 0), (9, "y", 2, 20, 1))
    fill(db, "touched", (4, "x", 1, 10, 0))
    assert db.execute(UPSERT.newest_files().sql).fetchall() == [("a",)]
    assert sorted(db.execute(UPSERT.recompute_files(("touched", "incoming")).sql).fetchall()) == [("a",), ("c",)]
    assert UPSERT.recompute(("touched", "incoming")).reads == ("rewritten", "input", "touched", "incoming")


def test_a_batch_is_newest_only_when_every_row_ranks_above_all_others(db: duckdb.DuckDBPyConnection) -> None:
    question = UPSERT.is_newest().sql
    assert db.execute(question).fetchone() == (True,)
    fill(db, "incoming", (1, "a", 2, 20, 0), (1, "b", 2, 10, 1))
    assert db.execute(question).fetchone() == (True,)
    fill(db, "others", (7, "z", 1, 10, 0))
    assert db.execute(question).fetchone() == (False,), "equal order: batch ids decide, key by key"
    db.execute("UPDATE others SET _order = 9")
    assert db.execute(question).fetchone() == (True,)


def test_history_opens_closes_and_leaves_unchanged_keys_alone(db: duckdb.DuckDBPyConnection) -> None:
    """A dimension that arrives whole every day costs only what changed: file c is not named."""
    history_target(
        db,
        "(1, 'x', 10, NULL, true, 1, 'a'), (2, 'x', 10, NULL, true, 1, 'b'), (3, 'x', 10, NULL, true, 1, 'c'), "
        "(1, 'w', 5, 10, false, 1, 'd')",
    )
    fill(db, "incoming", (1, "y", 2, 20, 0), (2, "x", 2, 20, 1, True), (3, "x", 2, 20, 2), (4, "n", 2, 20, 3))
    files = [f for (f,) in db.execute(HISTORY.newest_files().sql).fetchall()]
    assert sorted(files) == ["a", "b"]
    db.execute(f"CREATE VIEW rewritten AS FROM target WHERE list_contains({files}, _file)")
    rows = db.execute(f"SELECT * EXCLUDE (_loaded_at) FROM ({HISTORY.newest().sql}) ORDER BY ALL").fetchall()
    assert rows == [
        (1, "x", 10, 20, False, 1),
        (1, "y", 20, None, True, 2),
        (2, "x", 10, 20, False, 1),
        (4, "n", 20, None, True, 2),
    ]


def test_a_late_row_splits_the_version_that_it_falls_into(db: duckdb.DuckDBPyConnection) -> None:
    history_target(db, "(1, 'x', 10, 30, false, 1, 'a'), (1, 'z', 30, NULL, true, 3, 'a')")
    db.execute("CREATE VIEW rewritten AS FROM target")
    fill(db, "input", (1, "x", 1, 10, 0), (1, "z", 3, 30, 0), (1, "y", 4, 20, 0))
    fill(db, "touched", (1, "y", 4, 20, 0))
    rows = db.execute(f"SELECT * EXCLUDE (_loaded_at) FROM ({HISTORY.recompute().sql}) ORDER BY valid_from").fetchall()
    assert rows == [(1, "x", 10, 20, False, 1), (1, "y", 20, 30, False, 4), (1, "z", 30, None, True, 3)]


def test_a_delete_and_a_return_at_the_same_moment_leave_one_version(db: duckdb.DuckDBPyConnection) -> None:
    """Why equal order values are not `newest`: the table alone does not show that the delete lost."""
    history_target(db, "(1, 'x', 5, 10, false, 1, 'a')")
    db.execute("CREATE VIEW rewritten AS FROM target")
    fill(db, "input", (1, "x", 1, 5, 0), (1, None, 1, 10, 1, True), (1, "x", 2, 10, 0))
    fill(db, "touched", (1, "x", 2, 10, 0))
    rows = db.execute(f"SELECT * EXCLUDE (_loaded_at) FROM ({HISTORY.recompute().sql})").fetchall()
    assert rows == [(1, "x", 5, None, True, 1)]


def test_the_surrogate_key_is_the_md5_of_key_and_valid_from(db: duckdb.DuckDBPyConnection) -> None:
    """Golden: facts keep these keys, so another DuckDB must give the same ones."""
    write = History(("a", "b"), ("sk", "a", "b", "valid_from", "_batch_id"), surrogate_key="sk")
    db.execute("""
        CREATE OR REPLACE TABLE input AS SELECT 7 AS a, 'Zürich' AS b, TIMESTAMPTZ '2013-01-02 00:00:00+00' AS _order,
        1 AS _batch_id, 0 AS _row, false AS _deleted;
        CREATE OR REPLACE TABLE touched AS FROM input; CREATE TABLE rewritten AS SELECT '' AS sk, 0 AS a, '' AS b,
        now() AS valid_from, 0 AS _batch_id LIMIT 0; SET TimeZone = 'UTC'
    """)
    (key,) = db.execute(f"SELECT sk FROM ({write.recompute().sql})").fetchone() or ()
    assert key == md5("1:77:Zürich22:2013-01-02 00:00:00+00".encode()).hexdigest()


def test_columns_may_have_any_name(db: duckdb.DuckDBPyConnection) -> None:
    odd = 'a "key"'
    write = Upsert((odd,), (odd, "select", "_batch_id"))
    db.execute(f'CREATE TABLE rewritten ({quote(odd)} INT, "select" INT, _batch_id INT)')
    values = f'1 AS {quote(odd)}, 2 AS "select", 3 AS _batch_id, 1 AS _order, 0 AS _row, false AS _deleted'
    db.execute(f"CREATE OR REPLACE TABLE incoming AS SELECT {values}")
    assert db.execute(write.newest().sql).fetchall() == [(1, 2, 3)]
    assert db.execute(write.invalid().sql).fetchall() == []


def test_the_columns_of_a_history_table() -> None:
    schema = history_schema(Schema.of({"id": "int", "v": "string", "_batch_id": "long"}), DATE, "version_id")
    assert [str(c) for c in schema] == [
        "id int", "v string", "version_id string", "valid_from date", "valid_to date", "is_current boolean",
        "_batch_id long", "_loaded_at timestamptz",
    ]  # fmt: skip
    with pytest.raises(DefinitionError, match='"valid_to", which the data has already'):
        history_schema(Schema.of({"Valid_To": "int"}), LONG)


def test_a_declared_table_gives_its_write() -> None:
    spec = TableSpec(TableName("p", "t"), WriteMode.HISTORY, ("id",), order="at", surrogate_key="sk")
    assert History.of(spec, ["id", "at"]) == History(("id",), ("id", "at"), order="at", surrogate_key="sk")
