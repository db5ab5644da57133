"""DuckDB files as databases that are read: Arrow is what it gives. While a file is read, nobody can write it."""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.databases.database import Column, Relation, told, unknown_table
from tidemill.model.errors import DataError, TidemillError, Unreachable
from tidemill.plan.sql import quote
from tidemill.plan.sql_feed import Bound, Sql

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_ROWS = 65_536
#: Arrow's forms of these are none that a table has (an interval of months), or lose something (a time's zone, a bit's
#: length): they come as the text that DuckDB writes.
_AS_TEXT = re.compile(r"\b(INTERVAL|BIT|TIME WITH TIME ZONE|UHUGEINT|HUGEINT|UNION|VARIANT|GEOMETRY|BIGNUM)\b")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")


class DuckDatabase:
    """See the port.

    Args:
        path: of the file.
    """

    name = "DuckDB"
    parallel = False  # one connection uses all cores

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: DuckDBPyConnection

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Open the file for reading."""
        import duckdb

        try:
            self._connection = duckdb.connect(
                str(self._path), read_only=True, config={"python_enable_replacements": False}
            )
        except duckdb.Error as error:
            raise Unreachable(f"The database {self._path.name} does not open: {told(error)}.") from None
        with closing(self._connection), self._explained():
            self._connection.execute("SET TimeZone = 'UTC'")
            self._connection.execute("SET threads = 2")
            self._connection.begin()
            yield

    def quoted(self, name: str) -> str:
        """A name in SQL."""
        return quote(name)

    def columns(self, relation: Relation) -> list[Column]:
        """The columns of a table or query."""
        if relation.table:
            self._must_exist(relation.table)
        text, values = _bound(("DESCRIBE SELECT * FROM ", *relation.sql, " AS tidemill_q"))
        with self._explained():
            found = [(str(row[0]), str(row[1])) for row in self._connection.execute(text, values).fetchall()]
            shown = {name: _shown(name, declared) for name, declared in found}
            wanted = ", ".join(shown.values())
            text, values = _bound((f"SELECT {wanted} FROM ", *relation.sql, " AS tidemill_q LIMIT 0"))
            answer: Any = self._connection.sql(text, params=values)
            kinds = answer.to_arrow_table().schema
        fixed = self._fixed(relation)
        return [
            Column(
                name,
                declared,
                pa.uuid() if declared == "UUID" else kinds.field(name).type,
                shown[name],
                name not in fixed,
            )
            for name, declared in found
        ]

    def _must_exist(self, table: Sequence[str]) -> None:
        query = (
            "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal"
            " UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1, 2"
        )
        with self._explained():
            known = [(str(row[0]), str(row[1])) for row in self._connection.execute(query).fetchall()]
        wanted = (table[-2] if len(table) > 1 else "main", table[-1])
        if tuple(map(str.lower, wanted)) not in {(schema.lower(), name.lower()) for schema, name in known}:
            raise unknown_table(table, known)

    def _fixed(self, relation: Relation) -> set[str]:
        """Columns that are never null."""
        if not relation.table:
            return set()
        query = (
            "SELECT column_name FROM duckdb_columns() WHERE NOT is_nullable AND table_name = $name"
            " AND schema_name = $schema AND database_name = current_database()"
        )
        schema = relation.table[-2] if len(relation.table) > 1 else "main"
        with self._explained():
            found = self._connection.execute(query, {"name": relation.table[-1], "schema": schema}).fetchall()
        return {str(row[0]) for row in found}

    def key(self, relation: Relation) -> str | None:
        """Nobody asks: one connection reads."""
        return None

    def row(self, statement: Sql) -> tuple[Any, ...] | None:
        """The first row of an answer. By Arrow: DuckDB's own way to Python wants a package for time zones."""
        text, values = _bound(statement)
        with self._explained():
            answer: Any = self._connection.sql(text, params=values)
            rows = answer.to_arrow_table().slice(0, 1).to_pydict()
        return tuple(values[0] for values in rows.values()) if all(rows.values()) else None

    def now(self) -> str:
        """The moment, by this computer's clock."""
        return "now()"

    def stands(self) -> bool:
        """Whether the file is open."""
        return True

    def reader(self) -> DuckReader:
        """The same connection."""
        return DuckReader(self)

    def answer(self, statement: Sql) -> Iterator[pa.RecordBatch]:
        """All rows, in batches."""
        text, values = _bound(statement)
        with self._explained():
            answer: Any = self._connection.sql(text, params=values)
            yield from answer.to_arrow_reader(_ROWS)

    def interrupt(self) -> None:
        """Stop what is being answered."""
        with contextlib.suppress(Exception):
            self._connection.interrupt()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except TidemillError:
            raise
        except duckdb.IOException as error:
            raise Unreachable(f"The database {self._path.name} cannot be read: {told(error)}.") from None
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise DataError(f"The database {self._path.name} refuses it: {told(error)}.") from None


class DuckReader:
    """Reads by the connection that was opened."""

    def __init__(self, database: DuckDatabase) -> None:
        self._database = database

    def read(self, statement: Sql, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
        """The rows."""
        schema = pa.schema([(column.name, column.kind) for column in columns])
        for batch in self._database.answer(statement):
            arrays = [_as(array, column) for array, column in zip(batch.columns, columns, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    def cancel(self) -> None:
        """Stop the read of another thread."""
        self._database.interrupt()

    def close(self) -> None:
        """The connection is closed by who opened it."""


def _shown(name: str, declared: str) -> str:
    shown = quote(name)
    if declared == "UUID":
        return f"unhex(replace({shown}::VARCHAR, '-', '')) AS {shown}"
    if declared in ("HUGEINT", "UHUGEINT"):
        # Sums are of this type. Longer ones than a decimal has digits are refused by the cast.
        return f"{shown}::DECIMAL(38,0) AS {shown}"
    return f"{shown}::VARCHAR AS {shown}" if _AS_TEXT.search(_QUOTED.sub("", declared)) else shown


def _as(array: Any, column: Column) -> Any:
    """What came, in the column's type."""
    if isinstance(column.kind, pa.UuidType):
        return pa.ExtensionArray.from_storage(column.kind, array.cast(pa.binary(16)))
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        limits = pc.min_max(array.cast(pa.int64() if pa.types.is_timestamp(kind) else pa.int32())).as_py()
        largest = 2 ** (kind.bit_width - 1) - 1
        if limits["min"] is not None and (limits["max"] == largest or limits["min"] <= -largest):
            raise DataError(
                f'Column "{column.name}" ({column.declared}) has infinity, which no table can hold.',
                hint=f'leave it out by where="isfinite({column.name})"',
            )
    return array


def _bound(statement: Sql) -> tuple[str, dict[str, Any]]:
    """A statement and its values by names."""
    values: dict[str, Any] = {}
    text = ""
    for part in statement:
        if isinstance(part, Bound):
            name = f"tidemill_{len(values)}"
            values[name] = part.value
            text += f"${name}"
        else:
            text += part
    return text, values
