"""SQL of Amazon Redshift as text: literals, types, tables, COPY, UNLOAD. Nothing here runs a statement.

Redshift's literals know backslashes as escapes; lengths of its texts are in bytes; of types it changes nothing but the
length of a VARCHAR, and that outside of transactions only.
"""
# ruff: noqa: S608 - names are quoted

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tidemill.model import types as t
from tidemill.model.errors import ContractError, DataError, UnknownName
from tidemill.model.redshift import Copying, Form, Layout
from tidemill.model.table import Column, Schema, split_name
from tidemill.plan.landing import POSITIONS, quoted_name, takes, type_of
from tidemill.plan.sql import quote

#: Bytes that a VARCHAR holds at most, and the least that is made.
LONGEST, _SHORTEST = 65535, 16
#: Bytes of a UUID as text.
_UUID = 36
_PRIMITIVES = {
    "boolean": "boolean", "int": "integer", "long": "bigint", "float": "real", "double": "double precision",
    "date": "date", "time": "time without time zone", "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone", "binary": "varbyte",
}  # fmt: skip
_TEXTS = (t.STRING, t.UUID, t.UNKNOWN)
_VARCHAR = re.compile(r"(?:character varying|varchar)\((\d+)\)", re.IGNORECASE)
_VARBYTE = re.compile(r"(?:varbyte|varbinary|binary varying)(?:\((\d+)\))?", re.IGNORECASE)

#: The table that says how far each source has come. Small tables that everybody reads lie on all nodes.
CREATE_POSITIONS = (
    f"CREATE TABLE IF NOT EXISTS {POSITIONS} (source varchar(1024) NOT NULL, position varchar(65535),"
    " moved_at timestamptz NOT NULL, PRIMARY KEY (source)) DISTSTYLE ALL"
)
#: The columns of a table, in their order.
COLUMNS = (
    "SELECT column_name, data_type, is_nullable, distkey, sortkey, encoding FROM svv_redshift_columns"
    " WHERE database_name = current_database() AND schema_name = {} AND table_name = {} ORDER BY ordinal_position"
)


def literal(text: str) -> str:
    """Text as a literal. Raises DataError: no text of Redshift's has a NUL."""
    if "\0" in text:
        raise DataError("A text has a NUL, which no text of Redshift's can have.")
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def room(length: int) -> int:
    """The length that a VARCHAR gets for values of so many bytes: a power of two, so that it seldom grows.

    Raises:
        DataError: no VARCHAR is so long.
    """
    if length > LONGEST:
        raise DataError(
            f"A text has {length} bytes, and a column of Redshift's holds {LONGEST}.",
            hint="cut it before it goes there",
        )
    return min(max(_SHORTEST, 1 << (length - 1).bit_length() if length > 1 else 1), LONGEST)


def redshift_type(kind: t.Type, length: int = 0) -> str:
    """`kind` as Redshift calls it; what nests is SUPER.

    Args:
        kind: the type.
        length: of texts, bytes of the longest value.
    """
    match kind:
        case t.Primitive("string" | "unknown"):
            return f"character varying({room(length)})"
        case t.Primitive("uuid"):
            return f"character varying({_UUID})"
        case t.Primitive("binary"):
            return f"varbyte({room(length)})" if length else "varbyte"
        case t.Primitive(name):
            return _PRIMITIVES[name]
        case t.Decimal(precision, scale):
            return f"numeric({precision},{scale})"
    return "super"


# -- tables ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Have:
    """A column that a table has: its type as Redshift calls it, and whether the table lies by it."""

    type: str
    nullable: bool = True
    placed: bool = False


@dataclass(frozen=True, slots=True)
class Fitting:
    """What makes a table take rows: statements before the transaction, and in it."""

    before: list[str] = field(default_factory=list)
    within: list[str] = field(default_factory=list)


def creating(
    table: str, columns: Schema, lengths: Mapping[str, int], key: Sequence[str] = (), layout: Layout | None = None
) -> list[str]:
    """The statements that make a table, and its schema.

    A key is NOT NULL and no PRIMARY KEY: nothing would enforce it, and lengths of its columns could never change.

    Raises:
        UnknownName: the layout names a column that there is not.
    """
    layout = layout or Layout()
    schema, _ = split_name(table)
    made = [] if schema is None else [f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}"]
    names = {name.lower() for name in columns.names}
    for name in layout.names:
        if name.lower() not in names:
            raise UnknownName.of(f"column of {table}", name, columns.names)
    encodings = {name.lower(): encoding for name, encoding in layout.encode.items()}
    required = {name.lower() for name in key}
    body = []
    for column in columns:
        text = f"{quote(column.name)} {redshift_type(column.type, lengths.get(column.name, 0))}"
        if column.name.lower() in encodings:
            text += f" ENCODE {encodings[column.name.lower()].lower()}"
        if column.name.lower() in required or not column.nullable:
            text += " NOT NULL"
        body.append(text)
    placed = ""
    if layout.distkey:
        placed += f" DISTSTYLE KEY DISTKEY ({quote(layout.distkey)})"
    elif layout.diststyle:
        placed += f" DISTSTYLE {layout.diststyle.upper()}"
    if layout.sortkey:
        placed += f" COMPOUND SORTKEY ({', '.join(map(quote, layout.sortkey))})"
    return [*made, f"CREATE TABLE {quoted_name(table)} ({', '.join(body)}){placed}"]


def fitting(table: str, have: Mapping[str, Have], columns: Schema, lengths: Mapping[str, int]) -> Fitting:
    """What lets a table take rows.

    Args:
        table: which.
        have: its columns.
        columns: of the rows.
        lengths: column -> bytes of its longest value.

    Raises:
        ContractError: a column is of a type that the rows' values do not fit.
    """
    made = Fitting()
    known = {name.lower(): (name, column) for name, column in have.items()}
    for column in columns:
        length = lengths.get(column.name, 0)
        if column.name.lower() not in known:
            kind = redshift_type(column.type, length)
            made.within.append(f"ALTER TABLE {quoted_name(table)} ADD COLUMN {quote(column.name)} {kind}")
        else:
            _fit(table, *known[column.name.lower()], column, length, made)
    return made


def _fit(table: str, name: str, have: Have, column: Column, length: int, made: Fitting) -> None:
    text = _VARCHAR.fullmatch(have.type)
    if column.type in _TEXTS and text:
        needed = _UUID if column.type == t.UUID else length
        if needed > int(text[1]):
            kind = redshift_type(t.STRING, needed)
            made.before.append(f"ALTER TABLE {quoted_name(table)} ALTER COLUMN {quote(name)} TYPE {kind}")
        return
    binary = _VARBYTE.fullmatch(have.type)
    old = t.STRING if text else t.BINARY if binary else type_of(have.type, redshift_type)
    if binary and column.type == t.BINARY and length > int(binary[1] or LONGEST):
        raise ContractError(f'Column "{name}" of {table} is {have.type}, and a value has {length} bytes.')
    if old is None or redshift_type(old) == redshift_type(column.type) or takes(old, column.type):
        return
    if not takes(column.type, old):
        raise ContractError(
            f'Column "{name}" of {table} is {have.type}, and the rows bring {column.type}.',
            hint=f"cast it before it goes there, or make the table anew: ALTER TABLE {table} changes no type",
        )
    if have.placed or not have.nullable:
        why = "the table lies by it" if have.placed else "it is NOT NULL"
        raise ContractError(
            f'Column "{name}" of {table} is {have.type}, the rows bring {column.type}, and Redshift widens no column'
            f" in its place; {why}, so no other can take it.",
            hint="copy the table into one with the wider type, and give it this one's name",
        )
    # Redshift alters no type: another column takes its place.
    target, wider = quoted_name(table), quote(f"_tidemill_{name}")
    made.within.extend(
        (
            f"ALTER TABLE {target} ADD COLUMN {wider} {redshift_type(column.type)}",
            f"UPDATE {target} SET {wider} = {quote(name)}",
            f"ALTER TABLE {target} DROP COLUMN {quote(name)}",
            f"ALTER TABLE {target} RENAME COLUMN {wider} TO {quote(name)}",
        )
    )


# -- COPY and UNLOAD ---------------------------------------------------------------------------------------


def authorized(copying: Copying) -> str:
    """The clause that says who reads the bucket."""
    role = "default" if copying.role == "default" else literal(copying.role)
    return f"IAM_ROLE {role}" + (f" REGION {literal(copying.region)}" if copying.region else "")


def copy_statement(
    table: str,
    manifest: str,
    copying: Copying,
    *,
    null: str = "\\N",
    errors: int = 0,
    paths: str | None = None,
) -> str:
    """A COPY of the files that a manifest lists.

    Args:
        table: quoted.
        manifest: its address.
        copying: how.
        null: the text that stands for null in CSV; in JSON it would do so, too, so it is none that there is.
        errors: rows that may be refused until COPY gives up; 0: one is enough.
        paths: the address of a JSONPaths file; None: keys are the names of columns.
    """
    # Columnar files are read in the cluster's own region only, and COPY refuses to be told of any.
    told = replace(copying, region=None) if copying.form is Form.PARQUET else copying
    start = f"COPY {table} FROM {literal(manifest)} {authorized(told)} MANIFEST"
    times = "TIMEFORMAT 'auto' DATEFORMAT 'auto'"
    rest = f"NULL AS {literal(null)}" + (f" MAXERROR {errors}" if errors else "") + " COMPUPDATE OFF STATUPDATE OFF"
    match copying.form:
        case Form.JSON | Form.JSON_PATHS:
            how = literal(paths or "auto")
            return f"{start} FORMAT AS JSON {how} GZIP {times} {rest}"
        case Form.CSV:
            return f"{start} FORMAT AS CSV GZIP {times} {rest}"
        case Form.AVRO:
            how = literal(paths or "auto")
            return f"{start} FORMAT AS AVRO {how} {times} {rest}"
        case Form.PARQUET:
            return f"{start} FORMAT AS PARQUET STATUPDATE OFF"


def unload_statement(query: str, prefix: str, copying: Copying) -> str:
    """An UNLOAD of a query's rows as Parquet files, whose names begin so; a manifest lists them."""
    return f"UNLOAD ({literal(query)}) TO {literal(prefix)} {authorized(copying)} FORMAT AS PARQUET MANIFEST"


def external_schema(name: str, database: str, role: str = "default", region: str | None = None) -> str:
    """The statement by which Redshift Spectrum sees a database of the Glue catalog as a schema.

    Args:
        name: of the schema in Redshift.
        database: in the catalog, where the lake's tables are registered.
        role: the ARN of the role by which Spectrum reads catalog and files.
        region: of the catalog; None: the cluster's.
    """
    where = f" REGION {literal(region)}" if region else ""
    who = "default" if role == "default" else literal(role)
    return (
        f"CREATE EXTERNAL SCHEMA IF NOT EXISTS {quote(name)} FROM DATA CATALOG DATABASE {literal(database)}{where}"
        f" IAM_ROLE {who}"
    )
