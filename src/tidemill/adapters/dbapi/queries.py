"""Port `queries` on PostgreSQL: a transaction that only reads, and a cursor on the server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from tidemill.model.errors import DataError, SettingsError, Unreachable
from tidemill.model.types import (
    BINARY,
    BOOLEAN,
    DATE,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    Decimal,
    Type,
)
from tidemill.ports.queries import Answer

#: Rows that come at a time, and seconds that a server has to take a connection.
_AT_A_TIME, _TIMEOUT = 2000, 20
_TYPES: dict[str, Type] = {
    "bool": BOOLEAN, "int2": INT, "int4": INT, "int8": LONG, "oid": LONG, "float4": FLOAT, "float8": DOUBLE,
    "date": DATE, "time": TIME, "timestamp": TIMESTAMP, "timestamptz": TIMESTAMPTZ, "bytea": BINARY,
}  # fmt: skip


class PostgresQueries:
    """A PostgreSQL database.

    Args:
        parts: what libpq takes: host, port, user, password, dbname ...
    """

    dialect = "postgres"

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts

    @contextmanager
    def ask(self, sql: str, most: int | None) -> Iterator[Answer]:
        """Run one query."""
        try:
            import psycopg
        except ImportError:
            raise SettingsError("PostgreSQL needs a driver.", hint='pip install "tidemill[postgres]"') from None
        try:
            given = {"connect_timeout": _TIMEOUT, "application_name": "tidemill", **self._parts}
            with closing(psycopg.connect(**given)) as connection:
                connection.read_only = True
                # Only what gives rows can have a cursor on the server: SHOW has none.
                shows = sql.lower().startswith("show")
                with connection.cursor() if shows else connection.cursor("tidemill") as cursor:
                    if isinstance(cursor, psycopg.ServerCursor):
                        cursor.itersize = _AT_A_TIME if most is None else min(most, _AT_A_TIME)
                    cursor.execute(sql)
                    columns = tuple((str(one.name), _type(one)) for one in cursor.description or ())
                    yield Answer(columns, (_row(row, columns) for row in cursor))
        except psycopg.errors.QueryCanceled as error:
            raise DataError(f"PostgreSQL has stopped the query: {str(error).strip()}") from None
        except psycopg.OperationalError as error:
            raise Unreachable(f"PostgreSQL does not answer: {str(error).strip()}.") from None
        except psycopg.Error as error:
            raise DataError(f"PostgreSQL refuses it: {str(error).strip()}") from None


def _type(column: Any) -> Type:
    import psycopg

    found = psycopg.postgres.types.get(column.type_code)
    name = found.name if found is not None and column.type_code == found.oid else ""
    if name == "numeric" and column.precision and 0 <= (column.scale or 0) <= column.precision <= 38:
        return Decimal(column.precision, column.scale or 0)
    return _TYPES.get(name, STRING)


def _row(row: Sequence[Any], columns: Sequence[tuple[str, Type]]) -> list[Any]:
    return [_text(v) if kind == STRING else v for v, (_, kind) in zip(row, columns, strict=True)]


def _text(value: Any) -> str | None:
    """What is text already, or has no type of ours: as JSON where it has parts."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
