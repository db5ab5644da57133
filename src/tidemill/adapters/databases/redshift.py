"""Amazon Redshift as a database that is read: rows leave it by UNLOAD, as Parquet files in a bucket.

The leader answers small questions; tables go from all slices into the bucket at once, and from there to the archive.
An UNLOAD takes no values, so they are written into its text as literals.
"""

from __future__ import annotations

import datetime as dt
import io
import json
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import pyarrow as pa

from tidemill.adapters.databases.database import Column, Relation, told, unknown_table
from tidemill.model.errors import DataError, SettingsError, TidemillError, Unreachable
from tidemill.model.redshift import Copying
from tidemill.plan.redshift import literal, unload_statement
from tidemill.plan.sql import quote
from tidemill.plan.sql_feed import Bound, Sql
from tidemill.ports.files import Files

#: Seconds that a cluster has to take a connection.
_TIMEOUT = 20
#: The SQLSTATE of a full disk, on which intermediate results of queries wait, too.
_FULL = "53100"
#: Redshift's types by their OIDs, and Arrow's that their values have in the archive.
_KINDS: dict[int, pa.DataType] = {
    16: pa.bool_(), 21: pa.int16(), 23: pa.int32(), 20: pa.int64(), 700: pa.float32(), 701: pa.float64(),
    1082: pa.date32(), 1114: pa.timestamp("us"), 1184: pa.timestamp("us", "UTC"),
    25: pa.string(), 1043: pa.string(), 1042: pa.string(), 19: pa.string(), 6551: pa.binary(),
}  # fmt: skip
_NUMERIC, _SUPER = 1700, 4000
#: What Parquet files of UNLOAD do not have: it leaves as text.
_AS_TEXT = (1083, 1266)
_COLUMNS = (
    "SELECT column_name, data_type, is_nullable FROM svv_redshift_columns WHERE database_name = current_database()"
    " AND schema_name = {} AND table_name = {}"
)
_TABLES = "SELECT DISTINCT schema_name, table_name FROM svv_redshift_columns WHERE database_name = current_database()"


class RedshiftDatabase:
    """See the port.

    Args:
        parts: what the driver takes.
        files: the place in a bucket where UNLOAD puts files.
        copying: the role, and the region of the bucket.
    """

    name = "Redshift"
    #: UNLOAD itself is parallel, and several would not see one snapshot.
    parallel = False

    def __init__(self, parts: Mapping[str, Any], files: Files, copying: Copying) -> None:
        self._parts = parts
        self._files = files
        self._copying = copying
        self._leader: Any = None

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Connect, and begin a transaction: its answers are of one moment."""
        self._leader = _connected(self._parts)
        try:
            self.asked("BEGIN")
            yield
        finally:
            with suppress(Exception):
                self._leader.close()

    def quoted(self, name: str) -> str:
        """A name in SQL."""
        return quote(name)

    def columns(self, relation: Relation) -> list[Column]:
        """The columns of a table or query, and how each is read."""
        fixed = self._fixed(relation.table) if relation.table else set()
        with explained(), self._cursor() as cursor:
            cursor.execute(f"SELECT * FROM {_text(relation.sql)} AS tidemill_q WHERE 1 = 0")  # noqa: S608 - see above
            described = list(cursor.ps["row_desc"])
        return [_column(one, one["label"] not in fixed) for one in map(_plain, described)]

    def _fixed(self, table: Sequence[str]) -> set[str]:
        """The columns that are never null. Raises UnknownName: there is no such table."""
        if len(table) > 2:
            raise unknown_table(table, [])
        schema = literal(table[0].lower()) if len(table) == 2 else "current_schema()"
        found = self.asked(_COLUMNS.format(schema, literal(table[-1].lower())))
        if not found:
            raise unknown_table(table, [(row[0], row[1]) for row in self.asked(_TABLES)])
        return {row[0] for row in found if str(row[2]).upper() == "NO"}

    def key(self, relation: Relation) -> str | None:
        """None: keys of Redshift's inform, and nothing holds to them."""
        return None

    def row(self, statement: Sql) -> tuple[Any, ...] | None:
        """The first row of an answer."""
        found = self.asked(_text(statement))
        return found[0] if found else None

    def now(self) -> str:
        """The moment by the leader's clock."""
        return "CAST(getdate() AS timestamptz)"

    def stands(self) -> bool:
        """Whether the connection answers."""
        try:
            self.asked("SELECT 1")
        except TidemillError:
            return False
        return True

    def reader(self) -> RedshiftReader:
        """What reads: on the one connection, whose transaction sees one moment."""
        return RedshiftReader(self, self._files, self._copying)

    def asked(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement; its rows."""
        with explained(), self._cursor() as cursor:
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def _cursor(self) -> Any:
        made = self._leader.cursor()
        # In the driver's own style it would take a % outside of quotes for the place of a value.
        made.paramstyle = "qmark"
        return made

    def cancel(self) -> None:
        """End the connection."""
        with suppress(Exception):
            self._leader._usock.close()


class RedshiftReader:
    """See the port."""

    def __init__(self, database: RedshiftDatabase, files: Files, copying: Copying) -> None:
        self._database = database
        self._files = files
        self._copying = copying

    def read(self, statement: Sql, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
        """The rows of an answer, file by file; the files are removed."""
        folder = f"unload/{uuid.uuid4().hex}"
        try:
            prefix = self._files.url(f"{folder}/rows_")
            self._database.asked(unload_statement(_text(statement), prefix, self._copying))
            for url in self._listed(f"{folder}/rows_manifest"):
                yield from self._batches(url, columns)
        finally:
            self._remove(folder)

    def _listed(self, manifest: str) -> list[str]:
        with self._files.open(manifest) as stream:
            return [str(one["url"]) for one in json.load(stream)["entries"]]

    def _batches(self, url: str, columns: Sequence[Column]) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        with self._files.open(self._files.relative(url)) as stream:
            content = io.BytesIO(stream.read())
        for batch in pq.ParquetFile(content).iter_batches(65_536):
            yield _typed(batch, columns)

    def _remove(self, folder: str) -> None:
        with suppress(TidemillError, OSError):
            for found in list(self._files.list(f"{folder}/")):
                self._files.delete(found.path)

    def cancel(self) -> None:
        """Make a `read` in another thread end."""
        self._database.cancel()

    def close(self) -> None:
        """The connection is the database's."""


def _plain(described: Mapping[Any, Any]) -> dict[str, Any]:
    """A column as the driver describes it, its name as text."""
    label = described["label"]
    return {**described, "label": label.decode() if isinstance(label, bytes) else str(label)}


def _column(one: Mapping[str, Any], nullable: bool) -> Column:
    name, oid, modifier = one["label"], int(one["type_oid"]), int(one.get("type_modifier", -1))
    shown = quote(name)
    if oid == _NUMERIC:
        size, scale = ((modifier - 4) >> 16, (modifier - 4) & 0xFFFF) if modifier >= 4 else (38, 10)
        return Column(name, f"numeric({size},{scale})", pa.decimal128(size, scale), shown, nullable)
    if oid == _SUPER:
        return Column(name, "super", pa.string(), f"json_serialize({shown}) AS {shown}", nullable)
    if oid in _AS_TEXT:
        return Column(name, "time", pa.string(), f"CAST({shown} AS varchar(32)) AS {shown}", nullable)
    if oid not in _KINDS:
        raise DataError(f'Column "{name}" is of a type that UNLOAD has no Parquet for (number {oid}).', hint="cast it")
    return Column(name, str(_KINDS[oid]), _KINDS[oid], shown, nullable)


def _typed(batch: pa.RecordBatch, columns: Sequence[Column]) -> pa.RecordBatch:
    arrays = []
    for number, column in enumerate(columns):
        array = batch.column(number)
        kind = column.kind or array.type
        try:
            if pa.types.is_timestamp(kind) and kind.tz and not array.type.tz:
                array = array.cast(pa.timestamp("us")).cast(pa.int64()).cast(kind)
            arrays.append(array.cast(kind))
        except pa.ArrowInvalid as error:
            raise DataError(f'A value of "{column.name}" is no {column.declared}: {told(error)}.') from None
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def _text(statement: Sql) -> str:
    """A statement with its values as literals."""
    return "".join(_literal(part.value) if isinstance(part, Bound) else part for part in statement)


def _literal(value: Any) -> str:
    match value:
        case None:
            return "NULL"
        case bool():
            return "TRUE" if value else "FALSE"
        case int() | Decimal():
            return f"({value})"
        case float():
            return f"CAST({literal(repr(value))} AS double precision)"
        case dt.datetime():
            kind = "timestamp" if value.tzinfo is None else "timestamptz"
            return f"CAST({literal(value.isoformat(sep=' '))} AS {kind})"
        case dt.date():
            return f"CAST({literal(value.isoformat())} AS date)"
        case str():
            return literal(value)
    raise DataError(f"A {type(value).__name__} cannot be written into a query for Redshift.", hint="cast it to text")


def _connected(parts: Mapping[str, Any]) -> Any:
    try:
        import redshift_connector
    except ImportError:
        raise SettingsError("Redshift needs a driver.", hint='pip install "tidemill[redshift]"') from None
    with explained():
        made = redshift_connector.connect(**{"timeout": _TIMEOUT, "application_name": "tidemill", **parts})
        made.autocommit = True
        made._usock.settimeout(None)
        return made


@contextmanager
def explained() -> Iterator[None]:
    """Tell the driver's errors as ours.

    Raises:
        Unreachable: the cluster does not answer, or its disk is full. SettingsError: it refuses who asks. DataError: it
            refuses what it is asked.
    """
    import redshift_connector.error

    try:
        yield
    except (redshift_connector.error.Error, OSError, struct.error, AttributeError) as error:
        given = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        cause = error.args[-1] if error.args and isinstance(error.args[-1], BaseException) else error
        code, said = str(given.get("C", "")), str(given.get("M") or told(cause)).rstrip(".")
        if code == _FULL:
            raise Unreachable(f"The disk of Redshift has no room left: {said}.", hint="make room there") from None
        if not given or code.startswith(("08", "57P")) or "Status 5" in said:
            raise Unreachable(f"Redshift does not answer: {said}.") from None
        if code.startswith(("28", "3D")) or "not authorized to assume" in said or "Status 403" in said:
            raise SettingsError(f"Redshift refuses who asks: {said}.") from None
        raise DataError(f"Redshift refuses it: {said}.") from None
