"""Types of tables as DuckDB writes them, and what a statement's result types become."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from tidemill.model import types as t
from tidemill.plan.sql import quote

if TYPE_CHECKING:
    from duckdb.sqltypes import DuckDBPyType

_PRIMITIVES = {
    "boolean": "BOOLEAN", "int": "INTEGER", "long": "BIGINT", "float": "FLOAT", "double": "DOUBLE", "date": "DATE",
    "time": "TIME", "timestamp": "TIMESTAMP", "timestamptz": "TIMESTAMPTZ", "string": "VARCHAR", "binary": "BLOB",
    "uuid": "UUID", "unknown": '"NULL"',
}  # fmt: skip

#: Result types that no table has -> what they become. Sums of integers are HUGEINT in DuckDB: a long that does not
#: fit is an error there, not a wrong value.
_BECOMES = {
    "tinyint": "INTEGER", "smallint": "INTEGER", "utinyint": "INTEGER", "usmallint": "INTEGER", "uinteger": "BIGINT",
    "ubigint": "DECIMAL(20,0)", "hugeint": "BIGINT", "uhugeint": "BIGINT", "bignum": "BIGINT",
    "timestamp_s": "TIMESTAMP", "timestamp_ms": "TIMESTAMP", "timestamp_ns": "TIMESTAMP", "time_ns": "TIME",
    "time with time zone": "TIME", "enum": "VARCHAR", "json": "VARCHAR", "bit": "VARCHAR",
}  # fmt: skip


def duckdb_type(kind: t.Type) -> str:
    """`kind` as DuckDB's SQL writes it."""
    match kind:
        case t.Primitive(name):
            return _PRIMITIVES[name]
        case t.Decimal(precision, scale):
            return f"DECIMAL({precision},{scale})"
        case t.List(element):
            return duckdb_type(element) + "[]"
        case t.Map(key, value):
            return f"MAP({duckdb_type(key)}, {duckdb_type(value)})"
        case t.Struct(fields):
            return "STRUCT(" + ", ".join(f"{quote(n)} {duckdb_type(f)}" for n, f in fields) + ")"


def result_columns(names: Iterable[str], kinds: Iterable[DuckDBPyType]) -> list[str] | None:
    """The columns to select of a result, so that a table can hold them; None where it can hold them as they are.

    UUIDs become their 16 bytes, which `with_uuids` marks as UUIDs: DuckDB gives them to Arrow as text, unless it is
    told to be lossless, and then booleans come as 8-bit integers of an extension type.
    """
    chosen, changed = [], False
    for at, (name, kind) in enumerate(zip(names, kinds, strict=True), start=1):
        cast = table_type(kind)
        value = f"CAST(#{at} AS {cast})" if cast else f"#{at}"
        if kind.id == "uuid":
            value = f"unhex(replace(CAST(#{at} AS VARCHAR), '-', ''))"
        changed = changed or value != f"#{at}"
        chosen.append(f"{value} AS {quote(name)}")
    return chosen if changed else None


def with_uuids(schema: Any, batches: Iterable[Any], uuids: frozenset[int]) -> tuple[Any, Iterator[Any]]:
    """A result's Arrow schema and batches, the columns at `uuids` as UUIDs."""
    import pyarrow as pa

    fields = [pa.field(f.name, pa.uuid()) if at in uuids else f for at, f in enumerate(schema)]
    made = pa.schema(fields)

    def batch(columns: list[Any]) -> Any:
        for at in uuids:
            columns[at] = pa.ExtensionArray.from_storage(pa.uuid(), columns[at].cast(pa.binary(16)))
        return pa.record_batch(columns, schema=made)

    return made, (batch(b.columns) for b in batches)


def table_type(kind: DuckDBPyType) -> str | None:
    """The type that a result column of type `kind` is cast to; None where it can stay."""
    known = _BECOMES.get(str(kind).lower()) or _BECOMES.get(kind.id)
    if known or kind.id not in ("list", "array", "map", "struct"):
        return known
    parts = [part for _, part in kind.children if not isinstance(part, int | list)]
    made = [table_type(part) for part in parts]
    if kind.id != "array" and not any(made):
        return None
    texts = [m or str(p) for m, p in zip(made, parts, strict=True)]
    if kind.id == "struct":
        return "STRUCT(" + ", ".join(f"{quote(n)} {x}" for (n, _), x in zip(kind.children, texts, strict=True)) + ")"
    return f"MAP({', '.join(texts)})" if kind.id == "map" else texts[0] + "[]"
