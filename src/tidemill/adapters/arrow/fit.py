"""Typed values into columns of another type, as long as nothing is lost. Between typed data and the contract.

Avro and Parquet name the types of their columns, and records that were taken apart have some already; a table may
have others. A value fits where it comes back unchanged, or where a text is what the type looks like; what is written
as text in JSON (times, uuid, binary in base64) becomes that text. All of it goes by whole columns.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.adapters.arrow.normal import is_list, list_offsets
from tidemill.adapters.arrow.text import cast_or_null, parse
from tidemill.adapters.arrow.types import to_arrow_type
from tidemill.model.types import STRING, UUID, List, Map, Struct, Type

_kinds = pa.types


@dataclass(frozen=True, slots=True)
class Fitted:
    """A column in its new type; null where `bad` says that a value does not fit (None: nowhere)."""

    array: Any
    bad: Any = None


def fit(array: Any, kind: Type, *, drop: bool = False) -> Fitted:
    """Convert a column.

    Args:
        array: values in a type that `normal_type` gives.
        kind: the type to have, one that a table can store.
        drop: fields of structs that `kind` lacks are left out; otherwise a value in one of them does not fit.
    """
    target = to_arrow_type(kind)
    if array.type == target:
        return Fitted(array)
    if _kinds.is_null(array.type):
        return Fitted(pa.nulls(len(array), target))
    if isinstance(kind, Struct):
        return _struct(array, kind, drop) if _kinds.is_struct(array.type) else _nothing(array, target)
    if isinstance(kind, Map):
        return _map(array, kind, drop) if _kinds.is_map(array.type) else _nothing(array, target)
    if isinstance(kind, List):
        return _list(array, kind, drop) if is_list(array.type) else _nothing(array, target)
    if kind == STRING:
        return Fitted(as_text(array))
    if _kinds.is_string(array.type):
        typed, bad = parse(array, kind)
        return Fitted(typed, bad)
    if not _comparable(array.type, target):
        return _nothing(array, target)
    return _scalar(array, target)


def as_text(array: Any) -> Any:
    """Values as the text that stands for them: JSON for what nests, base64 for bytes, ISO 8601 for times."""
    kind = array.type
    if _kinds.is_string(kind):
        return array
    if _kinds.is_null(kind):
        return pa.nulls(len(array), pa.string())
    if _kinds.is_nested(kind):
        return _each(array, to_json)
    if kind == to_arrow_type(UUID):
        return _each(array, str)
    if _kinds.is_binary(kind):
        return _each(array, lambda raw: base64.b64encode(raw).decode())
    if _kinds.is_timestamp(kind) or _kinds.is_time(kind):
        return _each(array, lambda time: str(time.isoformat()).replace("+00:00", "Z"))
    return array.cast(pa.string())


def to_json(value: Any) -> str:
    """A value from an Arrow array as JSON; what JSON lacks as text."""
    return json.dumps(value, ensure_ascii=False, default=_shown)


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _each(array: Any, text: Callable[[Any], str]) -> Any:
    return pa.array([None if value is None else text(value) for value in array.to_pylist()], pa.string())


def _nothing(array: Any, target: pa.DataType) -> Fitted:
    """No value of such a type fits; nulls do."""
    return Fitted(pa.nulls(len(array), target), _or_none(array.is_valid()))


def _comparable(a: pa.DataType, b: pa.DataType) -> bool:
    """Whether values of two types can mean the same."""
    numbers = all(_kinds.is_integer(k) or _kinds.is_floating(k) or _kinds.is_decimal(k) for k in (a, b))
    days = all(_kinds.is_date(k) or (_kinds.is_timestamp(k) and k.tz is None) for k in (a, b))
    return numbers or days


def _scalar(array: Any, target: pa.DataType) -> Fitted:
    made = _cast(array, target)
    if _rounds(array.type, target):
        back = _cast(made, array.type)
        # NaN is never equal to itself, and comes back as what it was.
        same = pc.equal(back, array)
        if _kinds.is_floating(array.type):
            same = pc.or_(same, pc.is_nan(array))
        made = pc.if_else(pc.fill_null(same, False), made, pa.scalar(None, target))
    if made.null_count == array.null_count:
        return Fitted(made)
    return Fitted(made, pc.and_(array.is_valid(), made.is_null()))


def _rounds(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether Arrow's cast between two types changes values without a word.

    A double in a float column is rounded like any literal; only one beyond its range is refused.
    """
    if _kinds.is_floating(source) and _kinds.is_floating(target):
        return False
    return bool(_kinds.is_floating(source) or _kinds.is_floating(target) or _kinds.is_temporal(source))


def _cast(array: Any, target: pa.DataType) -> Any:
    """Cast what can be cast; null for the rest."""
    if _kinds.is_integer(array.type) and _kinds.is_decimal(target):
        # Arrow refuses by the types alone; a decimal wide enough for both lets the values decide.
        array = array.cast(pa.decimal256(76, target.scale))
    if _kinds.is_decimal(array.type) and _kinds.is_floating(target):
        # PyArrow 26 gives 5903.6630000000005 for 5903.663; through text the nearest double comes out.
        array = array.cast(pa.string())
    made = cast_or_null(array, target)
    if _kinds.is_float32(target) and not _kinds.is_float32(array.type):
        beyond = pc.and_(pc.is_inf(made), pc.is_finite(array.cast(pa.float64(), safe=False)))
        made = pc.if_else(beyond, pa.scalar(None, target), made)
    return made


def _struct(array: Any, kind: Struct, drop: bool) -> Fitted:
    target = to_arrow_type(kind)
    # `flatten` puts the struct's own nulls and offset into its fields; `field` would not.
    given = dict(zip([field.name for field in array.type], array.flatten(), strict=True))
    made = [
        fit(given[name], part, drop=drop) if name in given else Fitted(pa.nulls(len(array), to_arrow_type(part)))
        for name, part in kind.fields
    ]
    bad = [each.bad for each in made]
    known = {name for name, _ in kind.fields}
    if not drop:
        bad += [_or_none(values.is_valid()) for name, values in given.items() if name not in known]
    whole = pa.StructArray.from_arrays(
        [each.array for each in made], fields=list(target), mask=array.is_null() if array.null_count else None
    )
    return Fitted(whole, any_of(bad))


def _list(array: Any, kind: List, drop: bool) -> Fitted:
    made = fit(array.flatten(), kind.element, drop=drop)
    offsets = list_offsets(array)
    whole = pa.ListArray.from_arrays(
        offsets, made.array, type=to_arrow_type(kind), mask=array.is_null() if array.null_count else None
    )
    return Fitted(whole, _holding(offsets, made.bad))


def _map(array: Any, kind: Map, drop: bool) -> Fitted:
    array = pa.concat_arrays([array])  # a slice shares its entries with what it was cut from
    keys, items = fit(array.keys, kind.key, drop=drop), fit(array.items, kind.value, drop=drop)
    mask = array.is_null() if array.null_count else None
    bad = _holding(array.offsets, any_of([keys.bad, items.bad]))
    if keys.bad is not None:  # a map has no null keys: the rows are rejected, so any text will do
        return Fitted(pa.nulls(len(array), to_arrow_type(kind)), bad)
    whole = pa.MapArray.from_arrays(array.offsets, keys.array, items.array, type=to_arrow_type(kind), mask=mask)
    return Fitted(whole, bad)


def _holding(offsets: Any, bad: Any) -> Any:
    """The lists that hold an element that does not fit."""
    if bad is None:
        return None
    before = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(bad.cast(pa.int64()))])
    return pc.greater(before.take(offsets[1:]), before.take(offsets[:-1]))


def any_of(masks: list[Any]) -> Any:
    """The rows that one of the masks names; None where there are none."""
    found = None
    for mask in masks:
        if mask is not None:
            found = mask if found is None else pc.or_(found, mask)
    return found


def _or_none(mask: Any) -> Any:
    return mask if mask.true_count else None
