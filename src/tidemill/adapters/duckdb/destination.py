"""Port `destination` on a DuckDB file. It is open only while something is loaded, so that others can read it."""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemill.adapters.duckdb.database import hold
from tidemill.adapters.duckdb.errors import has_no_room
from tidemill.adapters.duckdb.schemas import DuckSchemas
from tidemill.adapters.duckdb.types import duckdb_type
from tidemill.model.errors import Conflict, ContractError, DataError, TidemillError, Unreachable
from tidemill.model.table import Schema, WriteMode, split_name
from tidemill.model.types import Type
from tidemill.plan.landing import (
    CREATE_POSITIONS,
    NUMBER,
    POSITIONS,
    STAGE,
    any_row,
    creating,
    entering,
    fitting,
    no_options,
    not_ours,
    quoted_name,
    type_of,
    without_batches,
    without_key,
    without_keys,
)
from tidemill.plan.sql import quote_all
from tidemill.ports.destination import Load, MirrorLost, NoRoom, TableLoad, may_change

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: Bytes that DuckDB holds for each thread where rows are only added; with the rest it goes to the disk. Without a limit
#: it keeps in memory what was not committed: 4M rows took 760 MB. To find keys it needs memory by the number of rows.
_HELD = 128 << 20
_COLUMNS = """
    SELECT column_name, data_type FROM duckdb_columns()
    WHERE database_name = current_database() AND schema_name = coalesce($1, current_schema()) AND table_name = $2
"""


class DuckDestination:
    """See the port.

    Args:
        path: of the file; it is made if it is missing, its folder is not.
    """

    by_key = True

    def __init__(self, path: Path) -> None:
        self._path = path

    def position(self, source: str) -> str | None:
        """How far a source has come."""
        if not self._path.exists():
            return None
        with self._opened() as connection:
            connection.execute(CREATE_POSITIONS)
            return _position(connection, source)

    def load(self, load: Load) -> int:
        """Load tables in one transaction."""
        with self._opened() as connection:
            if all(table.write is not WriteMode.UPSERT and not table.gone for table in load.tables):
                hold(connection, _HELD)
            connection.execute(CREATE_POSITIONS)
            connection.begin()
            found = _position(connection, load.source)
            if found != load.before:
                raise Conflict(f'"{load.source}" is at {found} in {self._path.name}, not at {load.before}.')
            rows = sum(_enter(connection, table) for table in load.tables)
            connection.execute(
                f"INSERT INTO {POSITIONS} VALUES ($1, $2, now())"
                " ON CONFLICT (source) DO UPDATE SET position = excluded.position, moved_at = excluded.moved_at",
                [load.source, load.after],
            )
            connection.commit()
        return rows

    def schemas(self) -> DuckSchemas:
        """Its tables, for revisions."""
        return DuckSchemas(self._path, self._opened)

    def close(self) -> None:
        """Nothing is open."""

    @contextmanager
    def _opened(self) -> Iterator[DuckDBPyConnection]:
        import duckdb

        try:
            connection = duckdb.connect(str(self._path), config={"python_enable_replacements": False})
        except duckdb.Error as error:
            self._look_for_room(error)
            hint = None if self._path.parent.is_dir() else f"mkdir -p {self._path.parent}"
            raise Unreachable(f"The database {self._path.name} does not open: {error}", hint=hint) from None
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        except TidemillError:
            raise
        except duckdb.IOException as error:
            self._look_for_room(error)
            raise Unreachable(f"The database {self._path.name} cannot be written: {error}") from None
        except duckdb.Error as error:
            self._look_for_room(error)
            raise DataError(f"The database {self._path.name} refuses it: {error}") from None
        finally:
            connection.close()  # what was not committed is rolled back

    def _look_for_room(self, error: Exception) -> None:
        """Raise NoRoom where an error, of whatever class (a commit's is none of input and output), comes of that."""
        if has_no_room(str(error)):
            raise NoRoom(f"The disk of the database {self._path}", error) from None


def _position(connection: DuckDBPyConnection, source: str) -> str | None:
    found = connection.execute(f"SELECT position FROM {POSITIONS} WHERE source = $1", [source]).fetchone()
    return None if found is None else str(found[0])


def _enter(connection: DuckDBPyConnection, table: TableLoad) -> int:
    no_options(table.table, table.options, "DuckDB")
    have = _columns(connection, table.table)
    if not have and table.mirror and table.write is not WriteMode.REPLACE:
        raise MirrorLost(table.table)
    if have and table.first and connection.execute(any_row(table.table)).fetchone():
        raise not_ours(table.table, "the database")
    changes = _changes(table, have)
    may_change(table.kept, table.table, changes)
    for statement in changes:
        connection.execute(statement)
    if table.batches:
        connection.execute(without_batches(table.table, table.batches))
    if table.gone:
        _stage(connection, table.gone, table.columns, table.key)
        connection.execute(without_keys(table.table, table.key))
    if table.write is not WriteMode.UPSERT:
        if table.write is WriteMode.REPLACE:
            connection.execute(f"DELETE FROM {quoted_name(table.table)}")
        columns = quote_all(table.columns.names)
        into = f"INSERT INTO {quoted_name(table.table)} ({columns}) SELECT {columns} FROM tidemill_rows"
        _take(connection, table.rows, table.columns, into)
        return _changed(connection)
    _stage(connection, table.rows, table.columns, table.columns.names)
    lacking = connection.execute(without_key(table.key)).fetchone()
    if lacking is not None and lacking[0]:
        raise ContractError(f"{lacking[0]} rows for {table.table} have no {', '.join(table.key)}.")
    for statement in entering(table.table, table.columns.names, table.write, table.key, table.order):
        connection.execute(statement)
    return _changed(connection)


def _changes(table: TableLoad, have: dict[str, Type | None]) -> list[str]:
    """The statements that make the table fit, or make it anew."""
    if not have:
        return creating(table.table, table.columns, _name)
    try:
        return fitting(table.table, have, table.columns, _name)
    except ContractError:
        if not (table.mirror and table.write is WriteMode.REPLACE):
            raise
        return [f"DROP TABLE {quoted_name(table.table)}", *creating(table.table, table.columns, _name)]


def _changed(connection: DuckDBPyConnection) -> int:
    entered = connection.fetchone()
    return 0 if entered is None else int(entered[0])


def _stage(connection: DuckDBPyConnection, rows: Iterable[Any], columns: Schema, names: Iterable[str]) -> None:
    """Rows into the stage, numbered."""
    for name in (STAGE, f"{STAGE}_newest"):
        connection.execute(f"DROP TABLE IF EXISTS temp.{name}")
    chosen = Schema(tuple(columns[name] for name in names))
    numbered = f"SELECT *, row_number() OVER () AS {NUMBER} FROM tidemill_rows"
    _take(connection, rows, chosen, f"CREATE TEMPORARY TABLE {STAGE} AS {numbered}")


def _take(connection: DuckDBPyConnection, given: Iterable[Any], columns: Schema, statement: str) -> None:
    """Run a statement over `tidemill_rows`. An error of whoever gives these is raised as it is, not as DuckDB does."""
    import duckdb
    import pyarrow as pa

    failed: list[Exception] = []

    def watched() -> Iterator[Any]:
        try:
            yield from batches
        except Exception as error:
            failed.append(error)
            raise

    batches = iter(given)
    first = next(batches, None)
    if first is None:
        rows: Any = pa.table({column.name: pa.nulls(0) for column in columns})
    else:
        rows = pa.RecordBatchReader.from_batches(first.schema, chain([first], watched()))
    connection.register("tidemill_rows", rows)
    try:
        connection.execute(statement)
    except duckdb.Error:
        if failed:
            raise failed[0] from None
        raise
    connection.unregister("tidemill_rows")


def _columns(connection: DuckDBPyConnection, table: str) -> dict[str, Type | None]:
    found = connection.execute(_COLUMNS, list(split_name(table))).fetchall()
    return {name: type_of(kind, _name) for name, kind in found}


def _name(kind: Type) -> str:
    """`unknown` is the type of a column that has held only nulls: text holds whatever comes later."""
    return "VARCHAR" if str(kind) == "unknown" else duckdb_type(kind)
