"""Schema evolution: the columns of a table joined with those that new data brings, by name, as Iceberg allows.

Field ids are what makes evolution safe: a file is read by ids, so a column that was added is null in old
files, a renamed one is found, and a dropped one never comes back under the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import count

from pyiceberg.schema import Schema as IcebergSchema
from pyiceberg.types import (
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StructType,
    TimestampType,
)

from tidemill.adapters.iceberg.types import NO_VALUE_YET, field_type, from_iceberg, new_field, to_iceberg
from tidemill.model.errors import ContractError, UnknownName
from tidemill.model.table import Schema, TableName
from tidemill.model.types import UNKNOWN, Decimal, List, Map, Struct, Type

_MAX_PRECISION = 38


def evolved(
    name: TableName,
    schema: IcebergSchema,
    wanted: Schema,
    *,
    last_id: int,
    drop: Iterable[str] = (),
    rename: Mapping[str, str] | None = None,
) -> tuple[NestedField, ...]:
    """The fields of `schema` after `rename` and `drop`, with at least the columns of `wanted`.

    New fields get ids above `last_id`. A field that stays as it was is the same object.

    Raises:
        ContractError: Iceberg does not allow the change.
        UnknownName: `drop` or `rename` names no column.
    """
    union = _Union(name, count(last_id + 1))
    fields = _renamed(name, schema.fields, rename or {})
    fields = _dropped(name, fields, set(drop))
    return union.fields(fields, [(c.name, c.type) for c in wanted], ())


def _renamed(name: TableName, fields: tuple[NestedField, ...], rename: Mapping[str, str]) -> tuple[NestedField, ...]:
    _check_known(name, rename, fields)
    renamed = tuple(_with(f, name=rename[f.name]) if f.name in rename else f for f in fields)
    seen: dict[str, str] = {}
    for field in renamed:
        if (other := seen.setdefault(field.name.lower(), field.name)) is not field.name:
            raise ContractError(f'Table "{name}" would have two columns "{other}" and "{field.name}".')
    return renamed


def _dropped(name: TableName, fields: tuple[NestedField, ...], drop: set[str]) -> tuple[NestedField, ...]:
    _check_known(name, drop, fields)
    return tuple(f for f in fields if f.name not in drop)


def _check_known(name: TableName, names: Iterable[str], fields: tuple[NestedField, ...]) -> None:
    known = [f.name for f in fields]
    for column in names:
        if column not in known:
            raise UnknownName.of("column", column, known, where=f"table {name}")


class _Union:
    """Joins what a table has with what is wanted; new parts take their ids from `ids`."""

    def __init__(self, name: TableName, ids: Iterator[int]) -> None:
        self._name = name
        self._ids = ids

    def fields(
        self, have: tuple[NestedField, ...], wanted: Iterable[tuple[str, Type]], path: tuple[str, ...]
    ) -> tuple[NestedField, ...]:
        by_name = {f.name: f for f in have}
        by_lower = {f.name.lower(): f.name for f in have}
        for name, kind in wanted:
            if name in by_name:
                by_name[name] = self._field(by_name[name], kind, (*path, name))
                continue
            if (near := by_lower.setdefault(name.lower(), name)) is not name:
                raise ContractError(
                    f'Table "{self._name}" has a column "{near}"; "{name}" differs from it only in case.',
                    hint="rename one of them in the source",
                )
            by_name[name] = new_field(name, kind, self._ids)
        return tuple(by_name.values())

    def _field(self, have: NestedField, wanted: Type, path: tuple[str, ...]) -> NestedField:
        if have.doc == NO_VALUE_YET:
            known = field_type(have)
            return have if wanted in (known, UNKNOWN) else new_field(have.name, wanted, self._ids)
        kind = self._type(have.field_type, wanted, path)
        return have if kind is have.field_type else _with(have, field_type=kind)

    def _type(self, have: IcebergType, wanted: Type, path: tuple[str, ...]) -> IcebergType:
        if wanted == UNKNOWN or from_iceberg(have) == wanted:
            return have
        match have, wanted:
            case StructType(), Struct():
                fields = self.fields(have.fields, wanted.fields, path)
                return have if fields == have.fields else StructType(*fields)
            case ListType(), List():
                element = self._type(have.element_type, wanted.element, (*path, "element"))
                return have if element is have.element_type else _list_of(have, element)
            case MapType(), Map() if self._type(have.key_type, wanted.key, (*path, "key")) is have.key_type:
                value = self._type(have.value_type, wanted.value, (*path, "value"))
                return have if value is have.value_type else _map_of(have, value)
        if (widened := _widened(have, wanted)) is not None:
            return widened
        raise ContractError(
            f'Column "{".".join(path)}" of table "{self._name}" is {from_iceberg(have)} and cannot become {wanted}.',
            hint="a column widens from int to long, float to double, and to longer decimals; "
            "cast the data, or load it under a new column name",
        )


def _widened(have: IcebergType, wanted: Type) -> IcebergType | None:
    """The type that holds both; `have` itself where the values of `wanted` fit in it; None where there is none.

    Integers fit into floating columns as far as they are exact there: the writer checks the values.
    """
    new = to_iceberg(wanted, count())
    match have, new:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return new
        case (LongType() | FloatType(), IntegerType()) | (DoubleType(), IntegerType() | LongType() | FloatType()):
            return have
        case TimestampType(), DateType():
            return have
        case DecimalType(), IntegerType() | LongType() | DecimalType():
            return _wider_decimal(have, wanted)
    return None


def _wider_decimal(have: DecimalType, wanted: Type) -> DecimalType | None:
    if not isinstance(wanted, Decimal):
        return have
    digits = max(wanted.precision - wanted.scale, have.precision - have.scale)
    if wanted.scale > have.scale or digits + have.scale > _MAX_PRECISION:
        return None
    return have if digits + have.scale == have.precision else DecimalType(digits + have.scale, have.scale)


def _with(field: NestedField, *, name: str | None = None, field_type: IcebergType | None = None) -> NestedField:
    return NestedField(
        field.field_id,
        name or field.name,
        field_type or field.field_type,
        required=field.required,
        doc=field.doc,
        initial_default=field.initial_default,
        write_default=field.write_default,
    )


def _list_of(have: ListType, element: IcebergType) -> ListType:
    return ListType(element_id=have.element_id, element=element, element_required=have.element_required)


def _map_of(have: MapType, value: IcebergType) -> MapType:
    return MapType(have.key_id, have.key_type, have.value_id, value, value_required=have.value_required)
