"""PostgreSQL, and what speaks as it does (Aurora, Citus): rows come by COPY in binary, as Arrow, through ADBC.

psycopg asks the small questions. All connections see one snapshot: that of the first, which exports it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.databases.database import Column, Relation, told, unknown_table
from tidemill.model.errors import DataError, SettingsError, TidemillError, Unreachable
from tidemill.plan.sql import quote
from tidemill.plan.sql_feed import Bound, Sql

if TYPE_CHECKING:
    import psycopg

#: Seconds that a server has to take a connection.
_TIMEOUT = 20
#: A server that has gone without a word is noticed after a minute.
_ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
#: Bytes of a batch.
_BATCH = 8 << 20
_BEGIN = (
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL TimeZone = 'UTC'",
    "SET LOCAL IntervalStyle = 'iso_8601'",
    # The first connection waits while others read.
    "SET LOCAL idle_in_transaction_session_timeout = 0",
)

_NATIVE: dict[str, pa.DataType] = {
    "bool": pa.bool_(), "int2": pa.int16(), "int4": pa.int32(), "int8": pa.int64(), "float4": pa.float32(),
    "float8": pa.float64(), "text": pa.string(), "varchar": pa.string(), "bpchar": pa.string(), "name": pa.string(),
    "bytea": pa.binary(), "date": pa.date32(), "time": pa.time64("us"), "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"), "uuid": pa.uuid(),
}  # fmt: skip
#: Columns of these hold no time before that of the calendar's first day that PostgreSQL knows, 4713 BC; what is below
#: is `infinity`, or beyond the year 294,246, where the count of microseconds since 1970 does not reach.
_FIRST_DAY = -2_440_588
_FIRST_MICROSECOND = _FIRST_DAY * 86_400_000_000

_KEY = """
    SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
    WHERE i.indrelid = to_regclass($1) AND i.indisprimary AND i.indnkeyatts = 1
"""
_NEVER_NULL = """
    SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND attnotnull
"""
_STORED = """
    SELECT attname FROM pg_attribute
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""
_TABLES = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
    ORDER BY 1, 2 LIMIT 10000
"""


def connecting(parts: Mapping[str, Any]) -> dict[str, Any]:
    """What libpq is told of any connection of ours."""
    return {"connect_timeout": _TIMEOUT, "application_name": "tidemill", **_ALIVE, **parts}


def must_have_drivers() -> None:
    """Raise SettingsError where the drivers are not installed."""
    try:
        import adbc_driver_postgresql  # noqa: F401
        import psycopg  # noqa: F401
    except ImportError:
        raise SettingsError("Reading from PostgreSQL needs drivers.", hint='pip install "tidemill[postgres]"') from None


class PostgresDatabase:
    """See the port.

    Args:
        parts: what libpq takes: host, port, user, password, dbname ...
        snapshot: the name of one that somebody else holds; None: its own.
    """

    name = "PostgreSQL"
    parallel = True

    def __init__(self, parts: Mapping[str, Any], snapshot: str | None = None) -> None:
        self._parts = connecting(parts)
        self._leader: psycopg.Connection[Any]
        self._given = self._snapshot = snapshot
        self._readers = 0

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Connect, and take the snapshot."""
        must_have_drivers()
        import psycopg

        with explained():
            self._leader = psycopg.connect(autocommit=True, cursor_factory=psycopg.RawCursor, **self._parts)
        try:
            with explained():
                self._begin()
                self._snapshot = self._given or self._exported()
            yield
        finally:
            self._leader.close()

    def _exported(self) -> str | None:
        """The name of the snapshot; None where the server does not share any."""
        import psycopg

        try:
            found = self._leader.execute("SELECT pg_export_snapshot()").fetchone()
        except psycopg.Error as error:
            if self._leader.closed or isinstance(error, psycopg.OperationalError):
                raise
            self._leader.execute("ROLLBACK")
            self._begin()
            return None
        return None if found is None else str(found[0])

    def _begin(self) -> None:
        self._leader.execute(_BEGIN[0])
        if self._given is not None:
            self._leader.execute(f"SET TRANSACTION SNAPSHOT '{self._given}'")
        for statement in _BEGIN[1:]:
            self._leader.execute(statement)

    def quoted(self, name: str) -> str:
        """A name in SQL."""
        return quote(name)

    def columns(self, relation: Relation) -> list[Column]:
        """The columns of a table or query, and how each is read."""
        import psycopg

        fixed: set[str] = set()
        if relation.table:
            name = ".".join(map(quote, relation.table))
            self._must_exist(relation.table, name)
            with explained():
                fixed = {str(row[0]) for row in self._leader.execute(_NEVER_NULL, [name]).fetchall()}
        text = f"SELECT * FROM {self._text(relation.sql)} AS tidemill_q LIMIT 0"  # noqa: S608 - quoted, or the user's
        with explained():
            found = self._leader.execute(text, binary=True).description or []
            types = psycopg.postgres.types
            arrays = self._arrays([one.type_code for one in found if types.get(one.type_code) is None])
            return [
                column_of(
                    one,
                    types.get(one.type_code),
                    is_array=one.type_code in arrays,
                    nullable=one.name not in fixed,
                    number=number,
                )
                for number, one in enumerate(found)
            ]

    def stored(self, relation: Relation) -> set[str]:
        """The columns of a table that are not computed."""
        name = ".".join(map(quote, relation.table))
        with explained():
            return {str(row[0]) for row in self._leader.execute(_STORED, [name]).fetchall()}

    def _arrays(self, oids: list[int]) -> set[int]:
        """Those types that are arrays, of types that somebody has made."""
        if not oids:
            return set()
        query = "SELECT oid::bigint FROM pg_type WHERE typcategory = 'A' AND oid = ANY($1::bigint[]::oid[])"
        return {int(row[0]) for row in self._leader.execute(query, [oids]).fetchall()}

    def _must_exist(self, table: Sequence[str], name: str) -> None:
        if len(table) > 2:
            raise unknown_table(table, [])
        with explained():
            found = self._leader.execute("SELECT to_regclass($1)", [name]).fetchone()
            if found is None or found[0] is None:
                raise unknown_table(table, self._leader.execute(_TABLES).fetchall())

    def key(self, relation: Relation) -> str | None:
        """The primary key of a table, if that is one column."""
        if not relation.table:
            return None
        with explained():
            found = self._leader.execute(_KEY, [".".join(map(quote, relation.table))]).fetchone()
        return None if found is None else str(found[0])

    def row(self, statement: Sql) -> tuple[Any, ...] | None:
        """The first row of an answer."""
        with explained():
            # In binary, for then the protocol takes one statement and no more.
            return self._leader.execute(self._text(statement), binary=True).fetchone()

    def now(self) -> str:
        """The moment, by the server's clock."""
        return "now()"

    def stands(self) -> bool:
        """Whether the snapshot is still held."""
        with contextlib.suppress(Exception):
            self._leader.execute("SELECT 1")
            return self._snapshot is not None
        return False

    def reader(self) -> PostgresReader:
        """One more connection, in the same snapshot."""
        import psycopg.conninfo

        self._readers += 1
        if self._snapshot is None and self._readers > 1:
            raise DataError(
                "This server does not share its snapshots: several connections would see different rows.",
                hint="parallel=1",
            )
        with explained():
            info = psycopg.conninfo.make_conninfo(**self._parts)
        return PostgresReader(info, self._snapshot, self._text)

    def _text(self, statement: Sql) -> str:
        """A statement with its values: COPY takes none beside it, so libpq itself writes each as a literal."""
        from psycopg import sql

        return "".join(
            sql.Literal(part.value).as_string(self._leader) if isinstance(part, Bound) else part for part in statement
        )


class PostgresReader:
    """A connection that reads by COPY."""

    def __init__(self, info: str, snapshot: str | None, text: Any) -> None:
        from tidemill.adapters.databases.adbc import AdbcConnection

        self._text = text
        shared = () if snapshot is None else (f"SET TRANSACTION SNAPSHOT '{snapshot}'",)
        with explained():
            self._connection = AdbcConnection(info, begin=(_BEGIN[0], *shared, *_BEGIN[1:]))

    def read(self, statement: Sql, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
        """The rows, in the types of the columns."""
        schema = pa.schema([(column.name, column.kind) for column in columns])
        judged = [column for column in columns if column.beside]
        with explained(), explained_stream():
            for batch in self._connection.read(self._text(statement), _BATCH):
                for column, sizes in zip(judged, batch.columns[len(columns) :], strict=True):
                    _check_dimensions(column, sizes)
                found = [_as(value, column) for value, column in zip(batch.columns, columns, strict=False)]
                yield pa.RecordBatch.from_arrays(found, schema=schema)

    def cancel(self) -> None:
        """Stop the read of another thread."""
        self._connection.cancel()

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


def column_of(found: Any, kind: Any, *, is_array: bool, nullable: bool, number: int) -> Column:
    """How a column is read. What Arrow has no type for comes as the text that PostgreSQL writes."""
    name, oid, declared = str(found.name), found.type_code, str(found.type_display)
    precision, scale = found.precision, found.scale
    shown = quote(name)
    known = "" if kind is None else str(kind.name)
    if is_array or (kind is not None and oid == kind.array_oid and oid != kind.oid):
        element = _NATIVE.get(known)
        shown = shown if element is not None else f"{shown}::text[] AS {quote(name)}"
        return Column(
            name, declared, pa.list_(element or pa.string()), shown, nullable,
            beside=f"array_ndims({quote(name)}) AS tidemill_{number}",
        )  # fmt: skip
    if known == "oid":
        return Column(name, declared, pa.int64(), f"{shown}::bigint AS {shown}", nullable)
    if known == "numeric" and precision and scale is not None and 0 < precision <= 38 and 0 <= scale <= 38:
        return Column(name, declared, pa.decimal128(max(precision, scale), scale), shown, nullable)
    if known in _NATIVE:
        return Column(name, declared, _NATIVE[known], shown, nullable)
    return Column(name, declared, pa.string(), f"{shown}::text AS {shown}", nullable)


def _as(array: Any, column: Column) -> Any:
    """What came, in the column's type."""
    kind = column.kind
    assert kind is not None
    plain = array.storage if isinstance(array.type, pa.BaseExtensionType) and array.type != kind else array
    try:
        _check_times(plain)
        if plain.type == kind:
            return plain
        if pa.types.is_list(kind) and isinstance(plain.type.value_type, pa.BaseExtensionType):
            return plain if plain.type.value_type == kind.value_type else plain.cast(kind)
        return plain.cast(kind)
    except pa.ArrowInvalid as error:
        raise DataError(
            f'Column "{column.name}" ({column.declared}) has a value that a table cannot hold: {told(error)}.',
            hint=f'leave it out by columns=[...], or read it as text: query="select {column.name}::text ..."',
        ) from None


def _check_times(array: Any) -> None:
    """Refuse `infinity`, and years beyond the count: they come as other moments, without a word."""
    kind = array.type
    if pa.types.is_list(kind):
        _check_times(array.flatten())
    elif pa.types.is_timestamp(kind) or pa.types.is_date32(kind):
        least = pc.min(array.cast(pa.int32()) if pa.types.is_date32(kind) else array.cast(pa.int64())).as_py()
        first = _FIRST_DAY if pa.types.is_date32(kind) else _FIRST_MICROSECOND
        if least is not None and least < first:
            raise pa.ArrowInvalid("infinity, or a year beyond 294,246")


def _check_dimensions(column: Column, sizes: Any) -> None:
    most = pc.max(sizes).as_py()
    if most is not None and most > 1:
        raise DataError(
            f'Column "{column.name}" ({column.declared}) has an array of {most} dimensions; a list has one.',
            hint=f'query="select to_jsonb({column.name}) as {column.name} ..." gives it as JSON',
        )


#: SQLSTATE classes and codes after which the same may succeed: connection, resources, shutdown, serialization.
_LATER = ("08", "53", "57P", "40")
_LOGIN = ("28", "3D000")
#: The same in words, where there is no code.
_LATER_WORDS = ("conflict with recovery", "administrator command", "crash of another server process", "out of memory")
_AS_TEXT = "read it as text, or as JSON: select to_jsonb(tags) as tags ..."


@contextmanager
def explained() -> Iterator[None]:
    """What the drivers say, as ours."""
    import adbc_driver_manager
    import psycopg

    try:
        yield
    except TidemillError:
        raise
    except (psycopg.Error, adbc_driver_manager.Error) as error:
        raise _error(error, isinstance(error, psycopg.OperationalError)) from None


@contextmanager
def explained_stream() -> Iterator[None]:
    """While rows come, Arrow tells what ADBC told it."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        said = told(error)
        if "ReadRecord failed" in said:
            raise DataError(f"PostgreSQL has a value that no column can hold: {said}.", hint=_AS_TEXT) from None
        refused = "ERROR:" in said and not any(word in said for word in _LATER_WORDS)
        if refused:
            raise DataError(f"PostgreSQL refuses it: {said}.") from None
        raise Unreachable(f"PostgreSQL does not answer: {said}.") from None


def _error(error: Any, of_connection: bool) -> TidemillError:
    state, said = str(error.sqlstate or ""), told(error)
    if state.startswith(_LOGIN) or (not state and _refuses_login(said)):
        return SettingsError(f"PostgreSQL refuses the login: {said}.", hint="look at the connection's address")
    if state.startswith(_LATER) or (not state and (of_connection or _is_io(error))):
        return Unreachable(f"PostgreSQL does not answer: {said}.")
    return DataError(f"PostgreSQL refuses it: {said}.")


def _is_io(error: Any) -> bool:
    """ADBC: no answer of the server's, but of the network's."""
    import adbc_driver_manager

    status = getattr(error, "status_code", None)
    return status in (adbc_driver_manager.AdbcStatusCode.IO, adbc_driver_manager.AdbcStatusCode.UNKNOWN)


def _refuses_login(said: str) -> bool:
    """Libpq gives no code for what a server says before the login."""
    words = ("authentication failed", "no password supplied", "no pg_hba.conf entry", "does not exist", "certificate")
    return ("FATAL" in said and any(word in said for word in words)) or "SSL error: certificate" in said
