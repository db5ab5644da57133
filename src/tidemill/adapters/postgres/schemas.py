"""Port `schemas` on PostgreSQL: its tables as the catalog has them, and revisions, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from tidemill.adapters.postgres.text import postgres_type
from tidemill.model.migration import Existing, Migration, SqlColumn, SqlTable
from tidemill.model.types import Type
from tidemill.plan.landing import quoted_name
from tidemill.plan.revisions import create_versions, must_begin, noted, reading_views
from tidemill.plan.sql import quote

if TYPE_CHECKING:
    import psycopg

_COLUMNS = """
    SELECT attname, format_type(atttypid, atttypmod), NOT attnotnull FROM pg_attribute
    WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


class PostgresSchemas:
    """See the port.

    Args:
        opened: connects, within the destination's limits; what is not committed is rolled back.
    """

    dialect = "postgresql"

    def __init__(self, opened: Callable[[], AbstractContextManager[psycopg.Connection[Any]]]) -> None:
        self._opened = opened

    def type_name(self, kind: Type, length: int = 0) -> str:
        """What PostgreSQL calls a type; no text has a length."""
        return postgres_type(kind)

    def existing(self, tables: Iterable[str]) -> Existing:
        """Those of the tables that there are, and views that read them."""
        with self._opened() as connection:
            made, ids = {}, {}
            for table in tables:
                id_ = _id(connection, quoted_name(table))
                if id_ is not None:
                    rows = connection.execute(_COLUMNS, [id_]).fetchall()
                    made[table] = SqlTable(table, tuple(SqlColumn(*row) for row in rows))
                    ids[id_] = table
            # So that queries of views say the schemas of all that they read.
            connection.execute("SET LOCAL search_path = pg_catalog")
            return Existing(made, reading_views(ids, lambda query: connection.execute(query.encode()).fetchall()))

    def applied(self, versions: str) -> tuple[str, ...]:
        """The revisions that are noted."""
        with self._opened() as connection:
            if _id(connection, quote(versions)) is None:
                return ()
            return tuple(row[0] for row in connection.execute(noted(versions).encode()).fetchall())

    def apply(self, migration: Migration) -> None:
        """Do one step."""
        with self._opened() as connection:
            for part in migration.parts:
                connection.autocommit = not part.atomic
                if part.atomic:
                    # Two who begin at the same time do one after the other, and the second finds it done.
                    connection.execute("SELECT pg_advisory_xact_lock(hashtext($1))", [migration.versions])
                    connection.execute(create_versions(migration.versions).encode())
                    found = connection.execute(noted(migration.versions).encode()).fetchall()
                    must_begin(migration, [row[0] for row in found])
                for statement in part.statements:
                    connection.execute(statement.encode())
                if part.atomic:
                    connection.commit()
            connection.autocommit = False


def _id(connection: psycopg.Connection[Any], name: str) -> int | None:
    found = connection.execute("SELECT to_regclass($1)::oid", [name]).fetchone()
    return None if found is None else found[0]
