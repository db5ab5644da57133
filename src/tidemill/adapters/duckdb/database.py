"""One locked, in-memory DuckDB for one query: it can open the data files of that query and nothing else.

A database of its own costs 11 ms and buys that a query sees neither the files, views, functions nor settings of
another one, and that its memory goes back when it ends.
"""
# ruff: noqa: S608 - names are quoted and values written as literals by plan/sql.py

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tidemill.adapters.duckdb.types import duckdb_type
from tidemill.model.errors import DefinitionError
from tidemill.model.table import BATCH_ID, Scan
from tidemill.plan.sql import literal, quote
from tidemill.ports.engine import Rows, WithFiles

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: The catalog's name has a space, which no pipeline's name can have: `memory`, DuckDB's own, would be ambiguous.
_CATALOG = "tidemill lake"
#: Names that DuckDB resolves as its own catalogs and schemas before ours.
_TAKEN = frozenset({"temp", "system", "pg_catalog", "information_schema"})
_FILE_SCHEME = "file://"


def open_database(settings: Mapping[str, str | int]) -> DuckDBPyConnection:
    """A new database with `settings`; it has external access until `lock`."""
    import duckdb

    connection = duckdb.connect(":memory:", config={"python_enable_replacements": False, **settings})
    connection.execute(f"ATTACH ':memory:' AS {quote(_CATALOG)}; USE {quote(_CATALOG)}; DETACH memory")
    connection.execute("SET TimeZone = 'UTC'; SET errors_as_json = true")
    return connection


def hold(connection: DuckDBPyConnection, memory: int) -> None:
    """Let the database hold about that many bytes for each of its threads, and for two at least."""
    found = connection.execute("SELECT current_setting('threads')").fetchone()
    assert found is not None
    connection.execute(f"SET memory_limit = '{int(memory) * max(int(found[0]), 2)}B'")


def lock(connection: DuckDBPyConnection, files: Iterable[str]) -> None:
    """Let the database open `files` only, from now on and for good."""
    allowed = ", ".join(literal(f) for f in files)
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
    connection.execute("SET allow_community_extensions = false; SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def look_in(connection: DuckDBPyConnection, namespace: str | None) -> None:
    """Look bare names up in `namespace`, then among the bare inputs."""
    if namespace:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(_CATALOG)}.{quote(namespace)}")
        path = ",".join(f"{quote(_CATALOG)}.{quote(schema)}" for schema in (namespace, "main"))
        connection.execute(f"SET search_path = {literal(path)}")


def view_head(name: str) -> str:
    """What stands before the SELECT of the view `name` (`pipeline.table` or bare)."""
    namespace, table = _parts(name)
    return f"CREATE VIEW {quote(_CATALOG)}.{quote(namespace)}.{quote(table)} AS "


def define(connection: DuckDBPyConnection, name: str, sql: str) -> None:
    """Make `name` a view of `sql`."""
    namespace, _ = _parts(name)
    if namespace.lower() in _TAKEN:
        raise DefinitionError(
            f'Tables of a pipeline called "{namespace}" cannot be read in SQL: the engine uses that name itself.',
            hint="rename the pipeline",
        )
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quote(_CATALOG)}.{quote(namespace)}")
    connection.execute(view_head(name) + sql)


def columns(connection: DuckDBPyConnection) -> list[str]:
    """The names of all columns of what is defined."""
    sql = f"SELECT DISTINCT column_name FROM duckdb_columns() WHERE database_name = {literal(_CATALOG)}"
    return [name for (name,) in connection.execute(sql).fetchall()]


def _parts(name: str) -> tuple[str, str]:
    namespace, dot, table = name.partition(".")
    return (namespace, table) if dot else ("main", name)


def define_input(connection: DuckDBPyConnection, name: str, value: Scan | WithFiles | Rows | Any) -> None:
    """Make `name` a view of a scan, of rows, or of Arrow data."""
    if isinstance(value, Scan | WithFiles):
        define(connection, name, scan_sql(value))
        return
    own = f"arrow input {name}"
    connection.register(own, _as_arrow(connection, value) if isinstance(value, Rows) else value)
    define(connection, name, f"SELECT * FROM {quote(own)}")


def _as_arrow(connection: DuckDBPyConnection, value: Rows) -> Any:
    """Rows as an Arrow table; DuckDB says which Arrow types it takes for the columns' types."""
    import pyarrow as pa

    nulls = ", ".join(f"NULL::{duckdb_type(c.type)} AS {quote(c.name)}" for c in value.schema)
    schema = connection.sql(f"SELECT {nulls}").to_arrow_table().schema
    columns = zip(*value.rows, strict=True) if value.rows else ((),) * len(schema)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


def paths(value: Scan | WithFiles | Any) -> tuple[str, ...]:
    """The files that an input is read from, as DuckDB opens them."""
    if isinstance(value, WithFiles):
        value = value.scan
    return tuple(_local(f.path) for f in _files(value)) if isinstance(value, Scan) else ()


def scan_sql(value: Scan | WithFiles) -> str:
    """The SELECT that reads a scan: columns by field id, of the schema's types, in its order."""
    scan, file_column = (value.scan, value.column) if isinstance(value, WithFiles) else (value, None)
    files = _files(scan)
    if not files:
        nulls = [f"NULL::{duckdb_type(c.type)} AS {quote(c.name)}" for c in scan.schema]
        nulls += [f"NULL::VARCHAR AS {quote(file_column)}"] if file_column else []
        return f"SELECT {', '.join(nulls)} WHERE false"
    chosen = [quote(c.name) for c in scan.schema]
    if file_column:
        prefix = f"'{_FILE_SCHEME}' || " if files[0].path.startswith(_FILE_SCHEME) else ""
        chosen.append(f"{prefix}filename AS {quote(file_column)}")
    names = ", ".join(literal(_local(f.path)) for f in files)
    text = (
        f"SELECT {', '.join(chosen)} FROM read_parquet([{names}], schema = MAP {{{_fields(scan)}}}, "
        f"hive_partitioning = false)"
    )
    if scan.batch_id is not None and any(f.batch_id is None for f in files):
        text += f" WHERE {quote(BATCH_ID)} = {int(scan.batch_id)}"
    return text


def _files(scan: Scan) -> list[Any]:
    """The files of a scan, without those that are of another batch."""
    return [f for f in scan.files if scan.batch_id is None or f.batch_id in (None, scan.batch_id)]


def _fields(scan: Scan) -> str:
    """Field id -> name and type. Parts of nested columns are matched by name: `model.types` gives them no ids."""
    fields = []
    for column in scan.schema:
        if column.field_id is None:
            raise DefinitionError(
                f'Column "{column.name}" of {scan.name} has no field id, so no file can be read for it.'
            )
        kind = literal(duckdb_type(column.type))
        fields.append(f"{column.field_id}: {{name: {literal(column.name)}, type: {kind}, default_value: NULL}}")
    return ", ".join(fields)


def _local(path: str) -> str:
    return path.removeprefix(_FILE_SCHEME)
