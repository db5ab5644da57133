"""Column types and schemas: Tidemill's to Iceberg's and back.

Iceberg's format v2 has no type for "only nulls so far". Such a field is kept as a string and marked by its
`doc`; when its type becomes known it is replaced by a new field (see `evolution.py`), which loses nothing,
because the old one never held a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    PrimitiveType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from tidemill.model.errors import DefinitionError, Refused
from tidemill.model.table import Column, Schema
from tidemill.model.types import BINARY, UNKNOWN, Decimal, List, Map, Primitive, Struct, Type

#: `doc` of a field that has held only nulls (or only empty lists and maps) so far.
NO_VALUE_YET = "no value yet"

_PRIMITIVES: dict[str, PrimitiveType] = {
    "boolean": BooleanType(),
    "int": IntegerType(),
    "long": LongType(),
    "float": FloatType(),
    "double": DoubleType(),
    "date": DateType(),
    "time": TimeType(),
    "timestamp": TimestampType(),
    "timestamptz": TimestamptzType(),
    "string": StringType(),
    "binary": BinaryType(),
    "uuid": UUIDType(),
    "unknown": StringType(),
}
_NAMES: dict[type[IcebergType], str] = {type(kind): name for name, kind in _PRIMITIVES.items() if name != "unknown"}


def to_iceberg(kind: Type, ids: Iterator[int]) -> IcebergType:
    """The Iceberg type of `kind`; parts of nested types take their field ids from `ids`.

    Raises:
        DefinitionError: a struct without fields; Parquet has no such thing.
    """
    match kind:
        case Primitive(name):
            return _PRIMITIVES[name]
        case Decimal(precision, scale):
            return DecimalType(precision, scale)
        case List(element):
            return ListType(element_id=next(ids), element=to_iceberg(element, ids), element_required=False)
        case Map(key, value):
            key_id, value_id = next(ids), next(ids)
            return MapType(key_id, to_iceberg(key, ids), value_id, to_iceberg(value, ids), value_required=False)
        case Struct(fields):
            if not fields:
                raise DefinitionError("A struct column needs at least one field.", hint="leave the column out")
            return StructType(*(new_field(name, part, ids) for name, part in fields))


def new_field(name: str, kind: Type, ids: Iterator[int], *, required: bool = False) -> NestedField:
    """A field with a fresh id; marked where its type is not known yet."""
    field_id = next(ids)
    doc = NO_VALUE_YET if _lacks_values(kind) else None
    return NestedField(field_id, name, to_iceberg(kind, ids), required=required, doc=doc)


def _lacks_values(kind: Type) -> bool:
    """True for `unknown`, and for lists and maps of it; a struct's own fields are marked one by one."""
    match kind:
        case List(element):
            return _lacks_values(element)
        case Map(_, value):
            return _lacks_values(value)
    return kind == UNKNOWN


def from_iceberg(kind: IcebergType, *, no_value_yet: bool = False) -> Type:
    """The Tidemill type of an Iceberg type.

    Raises:
        Refused: a type that only newer table formats have.
    """
    match kind:
        case StructType():
            return Struct(tuple((f.name, field_type(f)) for f in kind.fields))
        case ListType():
            return List(from_iceberg(kind.element_type, no_value_yet=no_value_yet))
        case MapType():
            return Map(from_iceberg(kind.key_type), from_iceberg(kind.value_type, no_value_yet=no_value_yet))
        case DecimalType():
            return Decimal(kind.precision, kind.scale)
        case FixedType():
            return BINARY
        case StringType() if no_value_yet:
            return UNKNOWN
    if type(kind) not in _NAMES:
        raise Refused(f'Columns of the Iceberg type "{kind}" cannot be read here.', hint="use table format version 2")
    return Primitive(_NAMES[type(kind)])


def field_type(field: NestedField) -> Type:
    """The Tidemill type of a field."""
    return from_iceberg(field.field_type, no_value_yet=field.doc == NO_VALUE_YET)


def from_iceberg_schema(schema: IcebergSchema) -> Schema:
    """The columns of an Iceberg schema, with their field ids."""
    return Schema(tuple(Column(f.name, field_type(f), not f.required, f.field_id) for f in schema.fields))


def nested_ids(fields: Iterable[NestedField]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Paths and ids of all parts of nested columns: `("items", "element", "sku")`; a map has `key` and `value`."""
    for field in fields:
        yield from _parts((field.name,), field.field_type)


def _parts(path: tuple[str, ...], kind: IcebergType) -> Iterator[tuple[tuple[str, ...], int]]:
    for field in parts_of(kind):
        yield (*path, field.name), field.field_id
        yield from _parts((*path, field.name), field.field_type)


def parts_of(kind: IcebergType) -> tuple[NestedField, ...]:
    """The fields directly below a nested type; none for a primitive one."""
    match kind:
        case StructType():
            return kind.fields
        case ListType():
            return (kind.element_field,)
        case MapType():
            return (kind.key_field, kind.value_field)
    return ()
