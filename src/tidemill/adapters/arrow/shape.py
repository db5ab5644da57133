"""Between what Arrow's JSON reader gives and what a column is: carriers, discovery, conversion.

Arrow reads JSON into a *carrier* type: itself for numbers and booleans, string for everything that is written as
text, whose silent readings (a zone dropped, a naive time taken for UTC) must not happen. `discover` says which types
the data has beyond what is known, `convert` makes the columns, and both name what Arrow may have misread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.text import beyond_double, column_type, parse
from tidemill.adapters.arrow.types import to_arrow_type
from tidemill.model.types import (
    BOOLEAN,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    STRING,
    UNKNOWN,
    Decimal,
    List,
    Map,
    Struct,
    Type,
)
from tidemill.plan.evolve import BIG, EXACT_IN_DOUBLE, SMALL, join, settled

_NUMBERS = {BOOLEAN: pa.bool_(), INT: pa.int64(), SMALL: pa.int64(), LONG: pa.int64()}


def carrier(kind: Type) -> pa.DataType:
    """The type that Arrow's JSON reader is told for a column; null where nothing is known, so that only nulls pass."""
    if isinstance(kind, Struct):
        return pa.struct([pa.field(name, carrier(part)) for name, part in kind.fields])
    if isinstance(kind, List):
        return pa.list_(carrier(kind.element))
    if isinstance(kind, Map):  # Arrow's reader has no maps: `slow` rewrites them as pairs
        return pa.list_(pa.struct([("key", pa.string()), ("value", carrier(kind.value))]))
    if isinstance(kind, Decimal):
        return pa.decimal128(kind.precision, kind.scale)
    if kind in (FLOAT, DOUBLE):
        return pa.float64()
    return pa.null() if kind == UNKNOWN else _NUMBERS.get(kind, pa.string())


def needs_exam(kind: Type, fixed: bool) -> bool:
    """Whether every record with such a column must be looked at, because Arrow's reader cannot be trusted with it.

    Maps it does not read; and a decimal(38,0) that no table has yet must not swallow a "1.0", which would make the
    column's type depend on the order of its values.
    """
    if isinstance(kind, Struct):
        return any(needs_exam(part, fixed) for _, part in kind.fields)
    if isinstance(kind, List):
        return needs_exam(kind.element, fixed)
    return isinstance(kind, Map) or (kind == BIG and not fixed)


def times_as_text(kind: pa.DataType) -> pa.DataType:
    """An inferred type with strings where Arrow took texts for timestamps."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(times_as_text(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, times_as_text(field.type)) for field in kind])
    return kind


def without_nulls(kind: pa.DataType) -> pa.DataType | None:
    """A carrier without the parts of which nothing is known, so that Arrow infers them; None if all are."""
    if pa.types.is_null(kind):
        return None
    if pa.types.is_list(kind):
        element = without_nulls(kind.value_type)
        return None if element is None else pa.list_(element)
    if pa.types.is_struct(kind):
        fields = [(field.name, part) for field in kind if (part := without_nulls(field.type)) is not None]
        return pa.struct(fields) if fields else None
    return kind


def depth_of_type(kind: pa.DataType) -> int:
    """How deep a type nests: 1 for a struct of scalars."""
    if pa.types.is_list(kind):
        return 1 + depth_of_type(kind.value_type)
    if pa.types.is_struct(kind):
        return 1 + max((depth_of_type(field.type) for field in kind), default=0)
    return 0


def colliding(kind: Type, path: str = "") -> tuple[str, str, str] | None:
    """Two fields of one struct whose names differ only in case, the later first; with the path that leads to them."""
    if isinstance(kind, List | Map):
        return colliding(kind.element if isinstance(kind, List) else kind.value, path)
    seen: dict[str, str] = {}
    for name, part in kind.fields if isinstance(kind, Struct) else ():
        other = seen.setdefault(name.lower(), name)
        if other != name:
            return path, name, other
        if (inner := colliding(part, f"{path}{name}.")) is not None:
            return inner
    return None


def names_in(kind: Type) -> object:
    """Every field name in a type, in its place."""
    if isinstance(kind, Struct):
        return [(name, names_in(part)) for name, part in kind.fields]
    if isinstance(kind, List):
        return names_in(kind.element)
    return names_in(kind.value) if isinstance(kind, Map) else None


def fields_in(kind: Type) -> int:
    """The number of struct fields in a type."""
    if isinstance(kind, Struct):
        return sum(1 + fields_in(part) for _, part in kind.fields)
    if isinstance(kind, List):
        return fields_in(kind.element)
    return fields_in(kind.value) if isinstance(kind, Map) else 0


def discover(array: pa.Array, kind: Type) -> Type:
    """What a column's data says beyond the type that is known of it; `kind` itself where it says nothing new."""
    if settled(kind) is None:
        return join(kind, _natural(array))
    if isinstance(kind, List):
        return List(discover(_values(array), kind.element))
    if isinstance(kind, Struct):
        known = dict(kind.fields)
        found = {field.name: discover(array.field(i), known.get(field.name, UNKNOWN)) for i, field in _fields(array)}
        return join(kind, Struct(tuple(found.items())))
    return kind


def _natural(array: pa.Array) -> Type:
    if pa.types.is_list(array.type):
        return List(_natural(_values(array)))
    if pa.types.is_struct(array.type):
        return Struct(tuple((field.name, _natural(array.field(i))) for i, field in _fields(array)))
    if pa.types.is_int64(array.type):
        return LONG if _wide(array) else SMALL
    if pa.types.is_string(array.type):
        return column_type(array, numbers=False)
    return {pa.bool_(): BOOLEAN, pa.float64(): DOUBLE}.get(array.type, UNKNOWN)


def _wide(array: pa.Array) -> bool:
    span = pc.min_max(array).as_py()
    return span["min"] is not None and (span["min"] < -EXACT_IN_DOUBLE or span["max"] > EXACT_IN_DOUBLE)


def doubtful(array: pa.Array, kind: Type) -> bool:
    """Whether new numbers, which Arrow inferred as doubles, may be integers beyond 64 bits: it rounds them silently."""
    if settled(kind) is not None:
        if isinstance(kind, List):
            return doubtful(_values(array), kind.element)
        known = dict(kind.fields) if isinstance(kind, Struct) else {}
        return any(doubtful(array.field(i), known.get(f.name, UNKNOWN)) for i, f in _fields(array) if known)
    if pa.types.is_list(array.type):
        return doubtful(_values(array), UNKNOWN)
    if pa.types.is_struct(array.type):
        return any(doubtful(array.field(i), UNKNOWN) for i, _ in _fields(array))
    return pa.types.is_float64(array.type) and beyond_double(array) is not None


@dataclass(frozen=True, slots=True)
class Made:
    """A column, converted.

    Args:
        array: in the type that `settled` gives of the column's.
        doubts: the rows that must be looked at: Arrow may have misread them, or they do not fit.
        kind: the column's type, wider where its values ask for it.
    """

    array: pa.Array
    doubts: frozenset[int]
    kind: Type


def convert(array: pa.Array, kind: Type, fixed: bool) -> Made:
    """A column of carriers as its type.

    Args:
        array: what Arrow read.
        kind: the column's type, of which something is known (`settled`).
        fixed: a table has the column, or it is declared: texts that do not fit are doubts. Others widen the column.
    """
    if isinstance(kind, List | Map):
        return _convert_list(_whole(array), kind, fixed)
    if isinstance(kind, Struct):
        return _convert_struct(array, kind, fixed)
    if kind in (BOOLEAN, LONG, STRING):
        return Made(array, frozenset(), kind)
    if kind == SMALL:
        return Made(array, frozenset(), LONG if _wide(array) else SMALL)
    if kind == INT:
        outside = pc.or_(pc.less(array, -(2**31)), pc.greater(array, 2**31 - 1))
        return _cast_but(array, outside, kind)
    if kind in (FLOAT, DOUBLE):
        # None of them is lost by the cast: those in doubt may be found good (1e20).
        return Made(array.cast(to_arrow_type(kind), safe=False), _rows(beyond_double(array)), kind)
    if isinstance(kind, Decimal):  # Arrow reads "1e3" into decimal(5,2), where it has no room
        top = 10 ** (kind.precision - kind.scale) if kind.precision < BIG.precision else None
        return _cast_but(array, None if top is None else pc.greater_equal(pc.abs(array), top), kind)
    typed, bad = parse(array, kind)
    if bad is None or fixed:
        return Made(typed, _rows(bad), kind)
    return Made(typed, frozenset(), join(kind, column_type(array.filter(bad), numbers=False)))


def _cast_but(array: pa.Array, bad: pa.Array | None, kind: Type) -> Made:
    """Cast all but the rows in doubt."""
    rows, target = _rows(bad), to_arrow_type(kind)
    if rows and target != array.type:
        array = pc.if_else(bad, pa.scalar(None, array.type), array)
    return Made(array.cast(target, safe=False), rows, kind)


def _rows(mask: pa.Array | None) -> frozenset[int]:
    return frozenset() if mask is None else frozenset(pc.indices_nonzero(mask).to_pylist())


def _convert_struct(array: pa.Array, kind: Struct, fixed: bool) -> Made:
    places = {field.name: i for i, field in _fields(array)}
    children, fields, doubts = [], [], frozenset[int]()
    for name, part in kind.fields:
        if settled(part) is None:
            fields.append((name, part))
            continue
        if name in places:
            made = convert(array.field(places[name]), part, fixed)
        else:
            made = Made(pa.nulls(len(array), to_arrow_type(settled(part) or part)), frozenset(), part)
        children.append(made.array)
        fields.append((name, made.kind))
        doubts |= made.doubts
    mask = array.is_null() if array.null_count else None
    whole = pa.StructArray.from_arrays(children, fields=list(to_arrow_type(settled(kind) or kind)), mask=mask)
    return Made(whole, doubts, Struct(tuple(fields)))


def _convert_list(array: pa.Array, kind: List | Map, fixed: bool) -> Made:
    mask = array.is_null() if array.null_count else None
    target = to_arrow_type(settled(kind) or kind)
    if isinstance(kind, List):
        made = convert(array.values, kind.element, fixed)
        whole = pa.ListArray.from_arrays(array.offsets, made.array, type=target, mask=mask)
        return Made(whole, _parents(array, made.doubts), List(made.kind))
    pairs = array.values
    made = convert(pairs.field(1), kind.value, fixed)
    whole = pa.MapArray.from_arrays(array.offsets, pairs.field(0), made.array, type=target, mask=mask)
    return Made(whole, _parents(array, made.doubts), Map(kind.key, made.kind))


def _parents(array: pa.Array, children: Iterable[int]) -> frozenset[int]:
    """The rows that hold the list elements `children`."""
    wanted = sorted(children)
    if not wanted:
        return frozenset()
    return frozenset(pc.list_parent_indices(array).take(pa.array(wanted, pa.int64())).to_pylist())


def _whole(array: pa.Array) -> pa.Array:
    return pa.concat_arrays([array]) if array.offset else array


def _values(array: pa.Array) -> pa.Array:
    return _whole(array).values


def _fields(array: pa.Array) -> Iterator[tuple[int, pa.Field]]:
    return enumerate(array.type) if pa.types.is_struct(array.type) else enumerate(())
