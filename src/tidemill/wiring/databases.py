"""Databases as sources: from a connection to the adapter that reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tidemill.model.cdc import Cdc
from tidemill.model.databases import DatabaseSource, database_shown
from tidemill.model.errors import SettingsError, UnknownName
from tidemill.model.pipeline import SourceSpec
from tidemill.plan.sql_feed import Sql, render_sql
from tidemill.plan.template import variables_of
from tidemill.ports.slots import Slots
from tidemill.ports.source import ExtractRequest, Source
from tidemill.wiring.outside import of_libpq
from tidemill.wiring.secrets import connection_of, connections_of
from tidemill.wiring.settings import Settings

if TYPE_CHECKING:
    from tidemill.adapters.databases.database import Database

_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")


def open_database_feed(spec: SourceSpec, source: DatabaseSource, settings: Settings) -> Source:
    """What extracts a table or a query.

    Raises:
        UnknownName: there is no such connection.
        SettingsError: it has no address of a database.
    """
    from tidemill.adapters.databases.source import DatabaseFeed

    def render(template: str, request: ExtractRequest) -> Sql:
        return render_sql(template, variables_of(request.batch, request.parameters), where=spec.place)

    try:
        database = database_of(_connection(source.connection, settings), settings)
    except (SettingsError, UnknownName) as error:
        error.where = error.where or spec.place
        raise
    return DatabaseFeed(spec.name, source, database, render, spec.place)


def open_changes(spec: SourceSpec, source: Cdc, settings: Settings) -> Source:
    """What extracts the changes of a database.

    Raises:
        UnknownName: there is no such connection.
        SettingsError: it is none of PostgreSQL.
    """
    from tidemill.adapters.databases.cdc import CdcFeed

    try:
        return CdcFeed(spec.name, source, of_postgres(source.connection, settings), spec.place)
    except (SettingsError, UnknownName) as error:
        error.where = error.where or spec.place
        raise


def open_slots(connection: str, settings: Settings) -> Slots:
    """The replication slots of a connection's server. Raises UnknownName, SettingsError."""
    from tidemill.adapters.databases.slots import ServerSlots

    return ServerSlots(of_postgres(connection, settings))


def of_postgres(name: str, settings: Settings) -> Mapping[str, Any]:
    """What libpq takes, of a connection. Raises UnknownName, SettingsError."""
    found = _connection(name, settings)
    if found["conn_type"] not in _POSTGRES:
        raise SettingsError(
            f'"{found["conn_id"]}" is a connection of {found["conn_type"]}, and changes are those of PostgreSQL.',
            hint="postgresql://user:password@host/database",
        )
    return of_libpq(found)


def _connection(name: str, settings: Settings) -> Mapping[str, Any]:
    if "://" in name:
        return connection_of(database_shown(name), name)
    found = connections_of(settings).get(name)
    if found is None:
        error = UnknownName.of("connection", name, ())
        error.hint = f"set TIDEMILL_CONN_{name.upper()}=postgresql://user:password@host/database"
        raise error
    return found


def database_of(found: Mapping[str, Any], settings: Settings) -> Database:
    """The database of a connection. Raises SettingsError: it names none."""
    kind = str(found["conn_type"])
    if kind in _POSTGRES:
        from tidemill.adapters.databases.postgres import PostgresDatabase

        return PostgresDatabase(of_libpq(found))
    if kind == "redshift":
        from tidemill.wiring.redshift import open_redshift_database

        return open_redshift_database(found, settings.objects, connections_of(settings))
    if kind in ("sqlite", "duckdb"):
        if not found["schema"]:
            raise SettingsError(f'The connection "{found["conn_id"]}" names no file.', hint=f"{kind}:///data/shop.db")
        path = settings.root / str(found["schema"])
        if kind == "sqlite":
            from tidemill.adapters.databases.sqlite import SqliteDatabase

            return SqliteDatabase(path)
        from tidemill.adapters.databases.duckdb import DuckDatabase

        return DuckDatabase(path)
    from tidemill.adapters.databases.alchemy import AlchemyDatabase

    return AlchemyDatabase(found)
