"""Plain PyIceberg on the same database: it sees our refs as catalogs, and we see its commits (design, section 1)."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, ValidationException
from sqlalchemy import text

from harness.records import FLIGHTS, START
from tidemill.adapters.sql.store import SqlMetadata
from tidemill.model.branch import MAIN, RefKind, RefState
from tidemill.model.errors import Conflict
from tidemill.model.table import TableName
from tidemill.testing.clock import ManualClock

OpenStore = Callable[..., SqlMetadata]
OpenCatalog = Callable[[str], SqlCatalog]


@pytest.fixture
def open_catalog(database: str, tmp_path: Path) -> Iterator[OpenCatalog]:
    """Opens a catalog as any user of PyIceberg would: by name and URL."""
    with contextlib.ExitStack() as stack:

        def open_one(name: str) -> SqlCatalog:
            uri = database.replace("postgresql://", "postgresql+psycopg://")
            catalog = SqlCatalog(name, uri=uri, warehouse=f"file://{tmp_path}/lake")
            stack.callback(catalog.close)
            return catalog

        yield open_one


def rows(*values: int) -> pa.Table:
    return pa.table({"id": pa.array(values, pa.int64())})


def fork(store: SqlMetadata, name: str) -> None:
    with store.write() as tx:
        tx.refs.create(name, RefKind.BRANCH, now=START, pointers=tx.refs.pointers(MAIN))


def test_a_table_made_by_pyiceberg_is_a_pointer_on_main(store: SqlMetadata, open_catalog: OpenCatalog) -> None:
    catalog = open_catalog("project")
    catalog.create_namespace("flights")
    table = catalog.create_table("flights.departures", rows().schema)
    with store.read() as tx:
        assert tx.refs.pointers(MAIN) == {FLIGHTS: table.metadata_location}
    catalog.drop_table("flights.departures")
    with store.read() as tx:
        assert tx.refs.pointers(MAIN) == {}


def test_a_branch_is_a_catalog_of_its_own(store: SqlMetadata, open_catalog: OpenCatalog) -> None:
    main = open_catalog("project")
    main.create_namespace("flights")
    main.create_table("flights.departures", rows().schema).append(rows(1))
    fork(store, "work")
    branch = open_catalog("project@work")
    assert branch.list_namespaces() == [("flights",)]
    assert branch.list_tables("flights") == [("flights", "departures")]
    branch.load_table("flights.departures").append(rows(2))
    assert sorted(branch.load_table("flights.departures").scan().to_arrow()["id"].to_pylist()) == [1, 2]
    assert main.load_table("flights.departures").scan().to_arrow()["id"].to_pylist() == [1]
    with store.read() as tx:
        before, after = tx.refs.pointers(MAIN)[FLIGHTS], tx.refs.pointers("work")[FLIGHTS]
    with store.write() as tx:  # publish
        tx.refs.swap(MAIN, FLIGHTS, before, after)
        tx.refs.update("work", state=RefState.MERGED)
        tx.refs.remove_pointers("work")
    assert sorted(main.load_table("flights.departures").scan().to_arrow()["id"].to_pylist()) == [1, 2]
    assert branch.list_namespaces() == []
    with pytest.raises(NoSuchTableError):
        branch.load_table("flights.departures")


def test_a_table_that_we_make_is_one_for_pyiceberg(store: SqlMetadata, open_catalog: OpenCatalog) -> None:
    scratch = open_catalog("scratch")
    scratch.create_namespace("x")
    pointer = scratch.create_table("x.y", rows().schema).metadata_location
    with store.write() as tx:
        tx.refs.swap(MAIN, FLIGHTS, None, pointer)
    main = open_catalog("project")
    assert main.list_namespaces() == [("flights",)]
    assert main.load_table("flights.departures").metadata_location == pointer
    main.load_table("flights.departures").append(rows(1, 2))
    with store.write() as tx:
        tx.refs.swap(MAIN, FLIGHTS, tx.refs.pointers(MAIN)[FLIGHTS], None)
    assert main.list_tables("flights") == []


def test_whoever_is_late_gets_a_conflict_whether_it_is_us_or_pyiceberg(
    store: SqlMetadata, open_catalog: OpenCatalog
) -> None:
    main = open_catalog("project")
    main.create_namespace("flights")
    table = main.create_table("flights.departures", rows().schema)
    empty = table.metadata_location
    table.append(rows(1))
    with pytest.raises(Conflict, match="moved by somebody else"), store.write() as tx:
        tx.refs.swap(MAIN, FLIGHTS, empty, "ours")
    with store.write() as tx:  # undo that append, beneath a PyIceberg that still holds it
        tx.refs.swap(MAIN, FLIGHTS, table.metadata_location, empty)
    with pytest.raises((CommitFailedException, ValidationException)):  # PyIceberg tries again, then sees why
        table.append(rows(2))
    assert main.load_table("flights.departures").scan().to_arrow()["id"].to_pylist() == []


def test_views_that_other_engines_keep_in_the_catalog_are_no_tables_of_ours(store: SqlMetadata) -> None:
    with store._engines.writer.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO iceberg_tables"
                " (catalog_name, table_namespace, table_name, metadata_location, iceberg_type)"
                " VALUES ('project', 'flights', 'v', 'file://v', 'VIEW'), ('project', 'flights', 't', 'file://t', NULL)"
            )
        )
    with store.write() as tx:
        assert tx.refs.pointers(MAIN) == {TableName("flights", "t"): "file://t"}
        with pytest.raises(Conflict):
            tx.refs.swap(MAIN, TableName("flights", "v"), "file://v", None)


@pytest.mark.parametrize("layout", ["v0", "v1"])
def test_a_database_that_pyiceberg_made_first_keeps_its_tables(
    layout: str, empty_database: str, open_store: OpenStore, tmp_path: Path
) -> None:
    uri = empty_database.replace("postgresql://", "postgresql+psycopg://")
    with contextlib.closing(SqlCatalog("project", uri=uri, warehouse=f"file://{tmp_path}/lake")) as catalog:
        if layout == "v0":
            with catalog.engine.begin() as connection:
                connection.execute(text("ALTER TABLE iceberg_tables DROP COLUMN iceberg_type"))
    with contextlib.closing(SqlCatalog("project", uri=uri, warehouse=f"file://{tmp_path}/lake")) as catalog:
        catalog.create_namespace("flights")
        pointer = catalog.create_table("flights.departures", rows().schema).metadata_location
    store = open_store(empty_database)
    store.migrate()
    with store.write() as tx:
        assert tx.refs.pointers(MAIN) == {FLIGHTS: pointer}
        tx.refs.swap(MAIN, FLIGHTS, pointer, None)
        tx.refs.swap(MAIN, FLIGHTS, None, pointer)


def test_the_layout_is_pyicebergs_own(tmp_path: Path, clock: ManualClock) -> None:
    ours, theirs = tmp_path / "ours.db", tmp_path / "theirs.db"
    with SqlMetadata(f"sqlite:///{ours}", "project", clock) as store:
        store.migrate()
    SqlCatalog("project", uri=f"sqlite:///{theirs}", warehouse=f"file://{tmp_path}").close()
    for table in ("iceberg_tables", "iceberg_namespace_properties"):
        layouts = [
            sqlite3.connect(path)
            .execute(f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}')")
            .fetchall()
            for path in (ours, theirs)
        ]
        assert layouts[0] == layouts[1]
