"""Whole runs of pipelines that are fed from a database: batches, re-runs, lag with upsert, failures on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.databases import NAME, Shop, shop
from harness.postgres import Postgres
from harness.project import Project
from tidemill import sources
from tidemill.authoring.pipeline import Pipeline
from tidemill.model.errors import DataError, UnknownName


@pytest.fixture
def db(postgres: Postgres, tmp_path: Path) -> Iterator[Shop]:
    """A PostgreSQL database with orders."""
    with shop("postgresql", tmp_path, postgres) as made:
        made.execute(
            "CREATE TABLE orders (id int PRIMARY KEY, total numeric(9,2), updated_at timestamptz NOT NULL)",
            "INSERT INTO orders VALUES (1, 1.50, '2026-01-01 10:00Z'), (2, 2.50, '2026-01-01 11:00Z')",
        )
        yield made


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project."""
    made = Project(tmp_path / "lake")
    yield made
    made.close()


def with_upsert(project: Project) -> Pipeline:
    p = project.pipeline()
    p.source(sources.sql(NAME, "public.orders", cursor="updated_at", lag="2h"))

    @p.table(key="id", write="upsert", order="updated_at")
    def current(orders):  # type: ignore[no-untyped-def]
        return orders

    return p


def bookmark(project: Project) -> object:
    with project.services.metadata.read() as tx:
        return tx.bookmarks.get("shop", "orders").value


pytestmark = pytest.mark.postgres


def test_a_table_of_current_rows_follows_the_database(project: Project, db: Shop) -> None:
    p = with_upsert(project)
    assert project.run(p, "2026-01-01").ok
    assert bookmark(project) == {"type": "timestamptz", "value": "2026-01-01T11:00:00+00:00"}
    db.execute(
        "UPDATE orders SET total = 9, updated_at = '2026-01-02 08:00Z' WHERE id = 1",
        "INSERT INTO orders VALUES (3, 3, '2026-01-01 09:30Z')",  # committed late, within the lag
    )
    assert project.run(p, "2026-01-02").ok
    rows = project.rows("select id, total::varchar as total from shop.current order by id")
    assert [tuple(row.values()) for row in rows] == [(1, "9.00"), (2, "2.50"), (3, "3.00")]
    # The feed has the rows of the lag twice, each in its batch.
    assert [row["id"] for row in project.rows("select id from shop.orders order by id, updated_at")] == [1, 1, 2, 2, 3]


def test_a_run_that_fails_moves_nothing_and_reads_the_same_again(project: Project, db: Shop) -> None:
    p = project.pipeline()
    p.source(sources.sql(NAME, "public.orders", cursor="updated_at", where="1 / (total - 2.5) < 100"))
    report = project.run(p, "2026-01-01")
    assert isinstance(report.error, DataError)
    assert "division by zero" in str(report.error)
    assert bookmark(project) is None
    db.execute("UPDATE orders SET total = 7 WHERE id = 2")
    assert project.run(p, "2026-01-01").ok
    assert [row["id"] for row in project.rows("select id from shop.orders order by id")] == [1, 2]


def test_the_archive_is_read_again_and_not_the_database(project: Project, db: Shop) -> None:
    p = project.pipeline()
    p.source(sources.sql(NAME, "public.orders"))
    assert project.run(p, "2026-01-01").ok
    db.execute("DROP TABLE orders")
    assert project.run(p, "2026-01-01").ok
    assert len(project.rows("select * from shop.orders")) == 2
    report = project.run(p, "2026-01-01", refetch=True)
    assert isinstance(report.error, UnknownName)
    assert len(project.rows("select * from shop.orders")) == 2


def test_a_refetch_asks_for_the_range_of_its_batch(project: Project, db: Shop) -> None:
    p = project.pipeline()
    p.source(sources.sql(NAME, "public.orders", cursor="id"))
    assert project.run(p, "2026-01-01").ok
    db.execute("INSERT INTO orders VALUES (3, 3, now())")
    assert project.run(p, "2026-01-01", refetch=True).ok
    assert bookmark(project) == {"type": "long", "value": "2"}
    assert len(project.rows("select * from shop.orders")) == 2
    assert project.run(p, "2026-01-02").ok
    assert [row["id"] for row in project.rows("select id from shop.orders order by id")] == [1, 2, 3]


def test_a_column_that_comes_and_one_that_grows_evolve_the_table(project: Project, db: Shop) -> None:
    p = project.pipeline()
    p.source(sources.sql(NAME, "public.orders", cursor="updated_at"))
    assert project.run(p, "2026-01-01").ok
    db.execute(
        "ALTER TABLE orders ADD note text, ALTER total TYPE numeric(12,2), ALTER id TYPE bigint",
        "INSERT INTO orders VALUES (5000000000, 1234567890.12, '2026-01-02 01:00Z', 'x')",
    )
    assert project.run(p, "2026-01-02").ok
    types = {row["column_name"]: row["column_type"] for row in project.rows("describe shop.orders")}
    assert (types["id"], types["total"], types["note"]) == ("BIGINT", "DECIMAL(12,2)", "VARCHAR")
    db.execute("ALTER TABLE orders DROP note", "INSERT INTO orders VALUES (6, 1, '2026-01-03 01:00Z')")
    assert project.run(p, "2026-01-03").ok
    assert [row["note"] for row in project.rows("select note from shop.orders order by updated_at")] == [
        None, None, "x", None,
    ]  # fmt: skip


def test_rows_from_the_future_wait_for_their_time(project: Project, db: Shop) -> None:
    db.execute("INSERT INTO orders VALUES (3, 3, now() + interval '1 day')")
    p = project.pipeline()
    p.source(sources.sql(NAME, "public.orders", cursor="updated_at"))
    assert project.run(p, "2026-01-01").ok
    assert [row["id"] for row in project.rows("select id from shop.orders order by id")] == [1, 2]
    db.execute("INSERT INTO orders VALUES (4, 4, clock_timestamp())")
    assert project.run(p, "2026-01-02").ok
    assert [row["id"] for row in project.rows("select id from shop.orders order by id")] == [1, 2, 4]
