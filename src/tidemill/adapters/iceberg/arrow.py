"""Arrow columns made to fit a table: by name where data comes in, by field id where files are read again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.schema import Schema as IcebergSchema
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from tidemill.model.errors import ContractError

#: The key under which Arrow's Parquet files keep a field's id.
FIELD_ID = b"PARQUET:field_id"

#: Large strings: their offsets do not overflow when chunks are joined, and Parquet writes both the same way.
_TYPES: dict[type[IcebergType], Any] = {
    BooleanType: pa.bool_(),
    IntegerType: pa.int32(),
    LongType: pa.int64(),
    FloatType: pa.float32(),
    DoubleType: pa.float64(),
    DateType: pa.date32(),
    TimeType: pa.time64("us"),
    TimestampType: pa.timestamp("us"),
    TimestamptzType: pa.timestamp("us", tz="UTC"),
    StringType: pa.large_string(),
    BinaryType: pa.large_binary(),
    UUIDType: pa.uuid(),
}


def arrow_schema(schema: IcebergSchema, metadata: dict[bytes, bytes] | None = None) -> Any:
    """The Arrow schema of a table, with field ids at every level."""
    return pa.schema([arrow_field(field) for field in schema.fields], metadata=metadata)


def arrow_field(field: NestedField) -> Any:
    """The Arrow field of an Iceberg field."""
    kind = arrow_type(field.field_type)
    return pa.field(field.name, kind, nullable=not field.required, metadata={FIELD_ID: str(field.field_id)})


def arrow_type(kind: IcebergType) -> Any:
    """The Arrow type of an Iceberg type."""
    match kind:
        case StructType():
            return pa.struct([arrow_field(f) for f in kind.fields])
        case ListType():
            return pa.list_(arrow_field(kind.element_field))
        case MapType():
            return pa.map_(arrow_field(kind.key_field), arrow_field(kind.value_field))
        case DecimalType():
            return pa.decimal128(kind.precision, kind.scale)
        case FixedType():
            return pa.binary(len(kind))
    return _TYPES[type(kind)]


def field_id(field: Any) -> int | None:
    """The id that an Arrow field carries."""
    found = (field.metadata or {}).get(FIELD_ID)
    return int(found) if found is not None else None


@dataclass(frozen=True, slots=True)
class Match:
    """How the fields of data are found for the fields of a table: those with the same `key` belong together.

    `lossless`: a field of the data that the table lacks is an error, for it would be lost.
    """

    key: Callable[[Any], Hashable]
    lossless: bool


#: Data that comes in.
BY_NAME = Match(lambda field: field.name, lossless=True)
#: Files of the table itself: what was dropped since is left out.
BY_ID = Match(field_id, lossless=False)


def conform(batch: Any, schema: Any, match: Match) -> Any:
    """A record batch with exactly the columns of `schema`: found by `match`, cast without loss, null where missing.

    Raises:
        ContractError: a value does not fit, a required one is null, or a column would be lost.
    """
    source = list(batch.schema)
    columns = _children(source, batch.column, schema, len(batch), match, "")
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _children(source: Any, column: Any, targets: Any, rows: int, match: Match, path: str) -> list[Any]:
    positions = {match.key(field): at for at, field in enumerate(source)}
    if match.lossless and len(positions) < len(source):
        raise ContractError("The data has two columns of the same name.", hint="rename one of them")
    columns = []
    for target in targets:
        at = positions.pop(match.key(target), None)
        name = path + target.name
        array = (
            pa.nulls(rows, target.type) if at is None else _fit(column(at), source[at].type, target.type, match, name)
        )
        columns.append(_checked(array, target, name))
    if positions and match.lossless:
        raise ContractError(
            "The data has columns that the table lacks: " + ", ".join(f'"{path}{key}"' for key in positions) + ".",
            hint="evolve the table first, or leave the columns out",
        )
    return columns


def _checked(array: Any, target: Any, name: str) -> Any:
    if array.null_count and not target.nullable:
        raise ContractError(f'Column "{name}" must not be null; {array.null_count:,} rows have no value.')
    return array


def _fit(array: Any, source: Any, target: Any, match: Match, name: str) -> Any:
    if pa.types.is_null(source):
        return pa.nulls(len(array), target)
    if pa.types.is_dictionary(source):
        return _fit(array.dictionary_decode(), source.value_type, target, match, name)
    if pa.types.is_struct(target) and pa.types.is_struct(source):
        return _fit_struct(array, source, target, match, name)
    if pa.types.is_map(target) and pa.types.is_map(source):
        return _fit_map(array, source, target, match, name)
    if pa.types.is_list(target) and _is_list(source):
        return _fit_list(array, source, target, match, name)
    if source.equals(target):
        return array
    return _cast(array, source, target, name)


def _fit_struct(array: Any, source: Any, target: Any, match: Match, name: str) -> Any:
    fields = list(target)
    rows = len(array)
    if array.null_count and not all(f.nullable for f in fields):
        # A null struct has null parts; only those of rows that have one may be judged.
        _children(list(source), array.drop_null().field, fields, rows - array.null_count, match, f"{name}.")
        fields = [f.with_nullable(True) for f in fields]
    children = _children(list(source), array.field, fields, rows, match, f"{name}.")
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(target), mask=mask)


def _fit_list(array: Any, source: Any, target: Any, match: Match, name: str) -> Any:
    offsets, values, mask = _spread(array)
    values = _fit(values, source.value_type, target.value_type, match, f"{name}.element")
    values = _checked(values, target.value_field, f"{name}.element")
    return pa.ListArray.from_arrays(offsets, values, type=target, mask=mask)


def _fit_map(array: Any, source: Any, target: Any, match: Match, name: str) -> Any:
    entries = pa.StructArray.from_arrays([array.keys, array.items], names=["key", "value"])
    mask = array.is_null() if array.null_count else None
    offsets = pc.add(array.offsets, 0)  # a copy that starts at 0: a mask does not go with the offsets of a slice
    offsets, entries, mask = _spread(pa.ListArray.from_arrays(offsets, entries, mask=mask))
    keys = _fit(entries.field(0), source.key_type, target.key_type, match, f"{name}.key")
    items = _fit(entries.field(1), source.item_type, target.item_type, match, f"{name}.value")
    items = _checked(items, target.item_field, f"{name}.value")
    return pa.MapArray.from_arrays(offsets, keys, items, type=target, mask=mask)


def _spread(array: Any) -> tuple[Any, Any, Any]:
    """Offsets from zero, the values that they span and no others, and which lists are null."""
    lengths = pc.fill_null(pc.list_value_length(array).cast(pa.int32()), 0)
    offsets = pa.concat_arrays([pa.repeat(pa.scalar(0, pa.int32()), 1), pc.cumulative_sum(lengths)])
    return offsets, array.flatten(), array.is_null() if array.null_count else None


def _is_list(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _cast(array: Any, source: Any, target: Any, name: str) -> Any:
    if target == pa.uuid():
        return _to_uuid(array, source, name)
    if source == pa.bool8():  # DuckDB's booleans
        return _fit(array.storage.cast(pa.bool_()), pa.bool_(), target, BY_NAME, name)
    if isinstance(source, pa.BaseExtensionType):
        return _fit(array.storage, source.storage_type, target, BY_NAME, name)
    if _family(source) != _family(target) and not (pa.types.is_date(source) and target == pa.timestamp("us")):
        raise _misfit(name, source, target, "")
    try:
        return pc.cast(array, target, safe=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _misfit(name, source, target, f" ({error})") from error


def _family(kind: Any) -> str:
    """What casts into what: a string is never parsed, a naive time never gets a zone."""
    types = pa.types
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "string"
    if types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    if types.is_date(kind):
        return "date"
    if types.is_time(kind):
        return "time"
    if types.is_boolean(kind):
        return "boolean"
    return "binary" if _is_binary(kind) else str(kind)


def _is_binary(kind: Any) -> bool:
    types = pa.types
    return bool(
        types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )


def _to_uuid(array: Any, source: Any, name: str) -> Any:
    try:
        if _is_binary(source):
            return pa.ExtensionArray.from_storage(pa.uuid(), pc.cast(array, pa.binary(16)))
        if _family(source) == "string":
            values = [uuid.UUID(text).bytes if text is not None else None for text in array.to_pylist()]
            return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as error:
        raise _misfit(name, source, pa.uuid(), f" ({error})") from error
    raise _misfit(name, source, pa.uuid(), "")


def _misfit(name: str, source: Any, target: Any, detail: str) -> ContractError:
    return ContractError(
        f'Column "{name}" of the data is {source} and does not fit the table\'s {target}{detail}.',
        hint="cast the column before it is written",
    )
