"""How a database gets the schema of this code: made whole where it is new, migrated by Alembic where it is older.

Alembic takes 250 ms to import, so it is imported only where there is something to migrate.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError

from tidemill.adapters.sql.engine import Engines
from tidemill.adapters.sql.failures import MIGRATE
from tidemill.adapters.sql.schema import REVISION, iceberg_namespaces, iceberg_tables, schema_for, version
from tidemill.model.errors import SettingsError

SCRIPTS = Path(__file__).with_name("migrations")

#: The key of PostgreSQL's advisory lock that migrations of one database hold, so that they are serial.
_LOCK_KEY = 0x7469_6465_6D69_6C6C  # "tidemill"


def revision_of(connection: Connection) -> str | None:
    """The revision that the database has; None where Tidemill has made no tables yet.

    A failed look ends the transaction on PostgreSQL: nothing else can follow in it.
    """
    try:
        return connection.execute(select(version.c.version_num)).scalar()
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == "42P01" or "no such table" in str(error.orig):
            return None
        raise


def must_be_current(found: str | None, where: str) -> None:
    """Raise `SettingsError` unless the database has the schema of this code."""
    if found == REVISION:
        return
    if found is None:
        raise SettingsError("The metadata database has no tables of Tidemill yet.", where=where, hint=MIGRATE)
    if not _is_older(found):
        raise SettingsError(
            f"The metadata database has schema {found}, newer than this Tidemill knows ({REVISION}).",
            where=where,
            hint="pip install --upgrade tidemill",
        )
    raise SettingsError(
        f"The metadata database has schema {found}; this Tidemill needs {REVISION}.", where=where, hint=MIGRATE
    )


def bring_up_to_date(engines: Engines) -> None:
    """Give the database the schema of this code, unless it has it. Any number of processes may try at once.

    Raises:
        SettingsError: its schema is newer, or the database is another application's.
    """
    with _alone(engines) as connection:
        found = revision_of(connection) if inspect(connection).has_table(version.name) else None
        if found is None:
            _create(connection)
        elif _is_older(found):
            run_migrations(connection)
        else:
            must_be_current(found, engines.where)


def run_migrations(connection: Connection, *, scripts: Path = SCRIPTS, to: str = "head") -> None:
    """Run Alembic's migrations within the connection's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def _is_older(found: str) -> bool:
    return found.isdecimal() and int(found) < int(REVISION)


def _create(connection: Connection) -> None:
    # All at once from `schema.py`, a few ms; a test proves that the migrations give exactly the same.
    schema = schema_for(connection.dialect.name)
    iceberg = (iceberg_tables, iceberg_namespaces)
    _adopt_catalog(connection)
    schema.create_all(connection, tables=iceberg)
    # Without a look whether they exist: a table `events` of somebody else must be an error, not adopted.
    schema.create_all(connection, tables=[t for t in schema.sorted_tables if t not in iceberg], checkfirst=False)
    version.create(connection)
    connection.execute(insert(version).values(version_num=REVISION))


def _adopt_catalog(connection: Connection) -> None:
    """Bring a catalog that PyIceberg made before us from its layout v0 to v1."""
    look, table = inspect(connection), iceberg_tables.name
    if look.has_table(table) and all(column["name"] != "iceberg_type" for column in look.get_columns(table)):
        connection.execute(text("ALTER TABLE iceberg_tables ADD COLUMN iceberg_type VARCHAR(5)"))


@contextmanager
def _alone(engines: Engines) -> Iterator[Connection]:
    """A transaction in which nobody else changes the schema."""
    with engines.changer.connect() as connection:
        if engines.sqlite:
            # Alembic alters a SQLite table by making it anew; references to it must not follow the old one. The
            # setting cannot change within a transaction, so it goes to the driver before ours begins.
            raw = connection.connection.driver_connection
            assert raw is not None
            raw.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
                    assert not broken, f"a migration left references to nothing: {broken[:3]}"
            finally:
                raw.execute("PRAGMA foreign_keys=ON")
        else:
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
                yield connection
