"""Port `schemas` on a DuckDB file. Its views follow their tables by name, so none keeps a column from changing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.adapters.duckdb.types import duckdb_type
from tidemill.model.migration import Existing, Migration, SqlColumn, SqlTable
from tidemill.model.table import split_name
from tidemill.model.types import UNKNOWN, Type
from tidemill.plan.revisions import create_versions, must_begin, noted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_COLUMNS = """
    SELECT column_name, data_type, is_nullable FROM duckdb_columns()
    WHERE database_name = current_database() AND schema_name = coalesce($1, current_schema()) AND table_name = $2
    ORDER BY column_index
"""


class DuckSchemas:
    """See the port.

    Args:
        path: of the file.
        opened: opens it; what is not committed is rolled back.
    """

    dialect = "duckdb"

    def __init__(self, path: Path, opened: Callable[[], AbstractContextManager[DuckDBPyConnection]]) -> None:
        self._path = path
        self._opened = opened

    def type_name(self, kind: Type, length: int = 0) -> str:
        """What DuckDB calls a type; no text has a length."""
        return "VARCHAR" if kind == UNKNOWN else duckdb_type(kind)

    def existing(self, tables: Iterable[str]) -> Existing:
        """Those of the tables that there are."""
        if not self._path.exists():
            return Existing()
        with self._opened() as connection:
            found = {table: connection.execute(_COLUMNS, list(split_name(table))).fetchall() for table in tables}
        return Existing(
            {table: SqlTable(table, tuple(SqlColumn(*row) for row in rows)) for table, rows in found.items() if rows}
        )

    def applied(self, versions: str) -> tuple[str, ...]:
        """The revisions that are noted."""
        if not self._path.exists():
            return ()
        with self._opened() as connection:
            if not connection.execute(_COLUMNS, [None, versions]).fetchall():
                return ()
            return tuple(row[0] for row in connection.execute(noted(versions)).fetchall())

    def apply(self, migration: Migration) -> None:
        """Do one step. Nobody else has the file open meanwhile."""
        with self._opened() as connection:
            for part in migration.parts:
                if part.atomic:
                    connection.begin()
                    connection.execute(create_versions(migration.versions))
                    must_begin(migration, [row[0] for row in connection.execute(noted(migration.versions)).fetchall()])
                for statement in part.statements:
                    connection.execute(statement)
                if part.atomic:
                    connection.commit()
