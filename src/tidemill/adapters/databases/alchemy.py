"""MySQL, MariaDB, and whatever else SQLAlchemy has a dialect for: Python rows, by the types that it reflects.

A table's columns have the types that they were declared with; those of a query have what their values are.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tidemill.adapters.databases.database import Column, Relation, told, unknown_table
from tidemill.adapters.databases.rows import ROWS, batch_of
from tidemill.model.errors import DataError, SettingsError, TidemillError, Unreachable
from tidemill.plan.sql_feed import Bound, Sql

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

#: Drivers for schemes that name none, and the extra that has it.
_DRIVERS = {"mysql": ("mysql+pymysql", "pymysql", "mysql"), "mariadb": ("mariadb+pymysql", "pymysql", "mysql")}
#: Seconds that a server has to take a connection, and for the next rows of an answer.
_TIMEOUT, _PATIENCE = 20, 600
#: What `text()` would take for a value's place.
_COLON = re.compile(r"(?<![:\w\\]):(?=\w)")
#: MySQL's numbers of errors: who asks is refused; what was asked could succeed later.
_LOGIN = frozenset((1044, 1045, 1049, 1130, 1251, 1524, 1698, 2059, 3118))
_LATER = frozenset((1040, 1053, 1077, 1079, 1129, 1152, 1158, 1159, 1160, 1161, 1184, 1203, 1205, 1213, 1927,
                    2002, 2003, 2006, 2013, 2014, 2055, 3024, 4031))  # fmt: skip


class AlchemyDatabase:
    """See the port.

    Args:
        parts: of a connection.
    """

    parallel = True

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = parts
        scheme = str(parts["conn_type"])
        self.name = {"mysql": "MySQL", "mariadb": "MariaDB"}.get(scheme.partition("+")[0], scheme)
        self._of_mysql = scheme.partition("+")[0] in ("mysql", "mariadb")
        self._engine: Engine
        self._leader: Connection

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Connect, and begin the transaction."""
        with self._explained():
            self._engine = self._made()
        try:
            self._leader = self.connected()
            with closing(self._leader):
                yield
        finally:
            self._engine.dispose()

    def _made(self) -> Engine:
        import sqlalchemy as sa

        scheme = str(self._parts["conn_type"])
        driver, module, extra = _DRIVERS.get(scheme, (scheme, "", ""))
        query = {name: str(value) for name, value in self._parts["extra"].items()}
        url = sa.URL.create(
            driver,
            self._parts["login"] or None,
            self._parts["password"] or None,
            self._parts["host"] or None,
            self._parts["port"],
            self._parts["schema"] or None,
            query,
        )
        given: dict[str, Any] = {}
        if module == "pymysql":
            given = {"connect_timeout": _TIMEOUT, "read_timeout": _PATIENCE, "charset": "utf8mb4"}
            given = {name: value for name, value in given.items() if name not in query}
        try:
            return sa.create_engine(url, poolclass=sa.NullPool, connect_args=given)
        except ImportError as error:
            hint = f'pip install "tidemill[{extra}]"' if extra else f"install the package {error.name}"
            raise SettingsError(f"Reading from {self.name} needs a driver: {told(error)}.", hint=hint) from None
        except sa.exc.ArgumentError as error:
            known = "postgresql, mysql, mariadb, sqlite, duckdb, or what an installed dialect of SQLAlchemy takes"
            raise SettingsError(f'No database is read by "{scheme}://": {told(error)}.', hint=known) from None

    def connected(self) -> Connection:
        """A connection whose answers are of one moment."""
        with self._explained():
            made = self._engine.connect()
            try:
                if self._of_mysql:
                    made.exec_driver_sql("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    made.exec_driver_sql("SET SESSION time_zone = '+00:00'")
                    made.exec_driver_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            except BaseException:
                made.close()
                raise
        return made

    def quoted(self, name: str) -> str:
        """A name in SQL."""
        preparer = self._engine.dialect.identifier_preparer
        quoted = preparer.quote_identifier(name)
        # Doubled for drivers that format; `text()` does that, too.
        return quoted.replace("%%", "%") if getattr(preparer, "_double_percents", False) else quoted

    def columns(self, relation: Relation) -> list[Column]:
        """The columns of a table, as reflected, or of a query."""
        import sqlalchemy as sa

        if not relation.table:
            with self._explained():
                text, values = self._bound(("SELECT * FROM ", *relation.sql, " AS tidemill_q WHERE 1 = 0"))
                names = list(self._leader.execute(sa.text(text), values).keys())
            return [Column(name, "", None, self.quoted(name)) for name in names]
        schema, name = _split(relation)
        with self._explained(), warnings.catch_warnings():
            inspector = sa.inspect(self._leader)
            try:
                warnings.simplefilter("ignore", sa.exc.SAWarning)  # what it does not know comes as text
                found = inspector.get_columns(name, schema)
            except sa.exc.NoSuchTableError:
                names = sorted([*inspector.get_table_names(schema), *inspector.get_view_names(schema)])
                raise unknown_table(relation.table, [(schema or "", one) for one in names]) from None
            return [self._column(one) for one in found]

    def _column(self, found: Any) -> Column:
        kind, name = found["type"], self._as_named(str(found["name"]))
        shown = self.quoted(name)
        try:
            declared = kind.compile(self._engine.dialect)
        except Exception:
            declared = str(kind)
        arrow, expression = self._arrow(kind, shown, declared.upper())
        shown = expression if expression == shown else f"{expression} AS {shown}"
        return Column(name, declared, arrow, shown, bool(found.get("nullable", True)))

    def _arrow(self, kind: Any, shown: str, declared: str) -> tuple[pa.DataType, str]:
        """A type as Arrow has it, and the SQL that gives its values without loss."""
        from sqlalchemy import types as sql

        if self._of_mysql:
            if declared.startswith("BIT"):
                return pa.uint64(), f"{shown} + 0"
            if declared.startswith("FLOAT"):
                # MySQL writes six digits of a float; as a double it writes all.
                return pa.float32(), f"CAST({shown} AS DOUBLE)"
            if declared.startswith("TIMESTAMP"):
                return pa.timestamp("us", "UTC"), shown
            if isinstance(kind, sql.Integer) and (exact := _MYSQL_INTEGERS.get(declared.split("(")[0].split(" ")[0])):
                return exact[1 if "UNSIGNED" in declared else 0], shown
            if declared.startswith("YEAR"):
                return pa.int16(), shown
        match kind:
            case sql.Boolean():
                return pa.bool_(), shown
            case sql.SmallInteger():
                return pa.int16(), shown
            case sql.BigInteger():
                return pa.int64(), shown
            case sql.Integer():
                return pa.int64() if not self._of_mysql else pa.int32(), shown
            case sql.Float():
                return pa.float64(), shown
            case sql.Numeric():
                precision, scale = kind.precision or 0, kind.scale or 0
                fits = 0 < precision <= 38 and 0 <= scale <= precision
                return (pa.decimal128(precision, scale) if fits else pa.string()), shown
            case sql.DateTime():
                return pa.timestamp("us", "UTC" if kind.timezone else None), shown
            case sql.Date():
                return pa.date32(), shown
            case sql.Time():
                return pa.time64("us"), shown
            case sql.LargeBinary() | sql._Binary():
                return pa.binary(), shown
            case sql.Uuid():
                return pa.uuid(), shown
        return pa.string(), shown

    def key(self, relation: Relation) -> str | None:
        """The primary key of a table, if that is one column."""
        import sqlalchemy as sa

        if not relation.table:
            return None
        schema, name = _split(relation)
        with self._explained():
            found = sa.inspect(self._leader).get_pk_constraint(name, schema)["constrained_columns"]
        return self._as_named(str(found[0])) if len(found) == 1 else None

    def _as_named(self, name: str) -> str:
        """A name as it is: of MySQL's, SQLAlchemy reflects those with a backtick as they are quoted."""
        return name.replace("``", "`") if self._of_mysql else name

    def row(self, statement: Sql) -> tuple[Any, ...] | None:
        """The first row of an answer."""
        import sqlalchemy as sa

        text, values = self._bound(statement)
        with self._explained():
            found = self._leader.execute(sa.text(text), values).fetchone()
        return None if found is None else tuple(found)

    def now(self) -> str:
        """The moment, by the server's clock."""
        return "CURRENT_TIMESTAMP"

    def stands(self) -> bool:
        """Whether others could go on: each has a snapshot of its own."""
        return True

    def reader(self) -> AlchemyReader:
        """One more connection; the moment that it sees is its own."""
        return AlchemyReader(self)

    def answer(self, connection: Connection, statement: Sql, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
        """All rows, in batches."""
        import sqlalchemy as sa

        text, values = self._bound(statement)
        with self._explained():
            streaming = connection.execution_options(stream_results=True, max_row_buffer=ROWS)
            with closing(streaming.execute(sa.text(text), values)) as result:
                while rows := result.fetchmany(ROWS):
                    yield batch_of(rows, columns)

    @staticmethod
    def _bound(statement: Sql) -> tuple[str, dict[str, Any]]:
        values: dict[str, Any] = {}
        text = ""
        for part in statement:
            if isinstance(part, Bound):
                name = f"tidemill_{len(values)}"
                values[name] = part.value
                text += f":{name}"
            else:
                text += _COLON.sub(r"\\:", part)
        return text, values

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import sqlalchemy as sa

        try:
            yield
        except TidemillError:
            raise
        except sa.exc.DBAPIError as error:
            raise self._told(error) from None
        except sa.exc.SQLAlchemyError as error:
            raise DataError(f"{self.name} cannot be asked: {told(error)}.") from None
        except OSError as error:
            raise Unreachable(f"{self.name} does not answer: {told(error)}.") from None
        except self._driver_errors() as error:  # while rows come, the driver's own are raised
            raise self._told_by_driver(error, lost=False) from None

    def _driver_errors(self) -> tuple[type[BaseException], ...]:
        engine = getattr(self, "_engine", None)
        return () if engine is None or engine.dialect.dbapi is None else (engine.dialect.dbapi.Error,)

    def _told(self, error: Any) -> TidemillError:
        return self._told_by_driver(error.orig, lost=error.connection_invalidated)

    def _told_by_driver(self, error: BaseException, *, lost: bool) -> TidemillError:
        number = error.args[0] if error.args and isinstance(error.args[0], int) else None
        said = told(error)
        if self._of_mysql and number in _LOGIN:
            return SettingsError(f"{self.name} refuses the login: {said}.", hint="look at the connection's address")
        later = number in _LATER or number == 0 if self._of_mysql else type(error).__name__ == "OperationalError"
        if lost or later:
            return Unreachable(f"{self.name} does not answer: {said}.")
        return DataError(f"{self.name} refuses it: {said}.")


def _split(relation: Relation) -> tuple[str | None, str]:
    """Schema and name of a table."""
    return (relation.table[-2] if len(relation.table) > 1 else None), relation.table[-1]


_MYSQL_INTEGERS = {
    "TINYINT": (pa.int8(), pa.uint8()),
    "SMALLINT": (pa.int16(), pa.uint16()),
    "MEDIUMINT": (pa.int32(), pa.uint32()),
    "INTEGER": (pa.int32(), pa.uint32()),
    "INT": (pa.int32(), pa.uint32()),
    "BIGINT": (pa.int64(), pa.uint64()),
}


class AlchemyReader:
    """A connection that reads."""

    def __init__(self, database: AlchemyDatabase) -> None:
        self._database = database
        self._connection = database.connected()

    def read(self, statement: Sql, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
        """The rows."""
        yield from self._database.answer(self._connection, statement, columns)

    def cancel(self) -> None:
        """Drop the connection under the read of another thread: to end an answer, drivers read the rest of it."""
        with contextlib.suppress(Exception):
            raw: Any = self._connection.connection.dbapi_connection
            force = getattr(raw, "_force_close", None)
            (force or raw.close)()

    def close(self) -> None:
        """End the connection, whatever is left of an answer."""
        with contextlib.suppress(Exception):
            self._connection.invalidate()
        with contextlib.suppress(Exception):
            self._connection.close()
