"""Arrow arrays in the types that tables have: what Parquet files bring and Iceberg lacks is converted here.

Times are microseconds; a finer one is rounded down, so that order and equality of instants survive. Structs, lists
and maps are taken apart and put together again, since PyArrow 26 aborts in casts of sliced nested arrays.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.model.errors import DecodeError

#: Digits that Iceberg's decimals have at most; longer ones become text.
DIGITS = 38
#: Microseconds in a day.
DAY = 86_400_000_000

_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_kinds = pa.types


def normal_type(kind: pa.DataType) -> pa.DataType:
    """The type that `normal` gives for arrays of type `kind`.

    Small integers become int32, uint32 int64, uint64 decimal(20,0), float16 float32; times, timestamps and durations
    count microseconds, timestamps with a zone are in UTC, durations are int64; dictionaries, views, large and
    fixed-size variants become the plain type; decimals beyond 38 digits become strings; extension types become
    what stores them, but for uuid.

    Raises:
        DecodeError: no column type can hold it (intervals of months, unions).
    """
    if isinstance(kind, pa.BaseExtensionType):
        return kind if isinstance(kind, pa.UuidType) else normal_type(kind.storage_type)
    if _kinds.is_dictionary(kind) or _kinds.is_run_end_encoded(kind):
        return normal_type(kind.value_type)
    if _kinds.is_struct(kind):
        return pa.struct([(field.name, normal_type(field.type)) for field in kind])
    if _kinds.is_map(kind):
        return pa.map_(normal_type(kind.key_type), normal_type(kind.item_type))
    if is_list(kind):
        return list_of(normal_type(kind.value_type))
    if _kinds.is_decimal(kind):
        precision, scale = max(kind.precision, kind.precision - kind.scale), max(kind.scale, 0)
        return pa.decimal128(precision, scale) if precision <= DIGITS else pa.string()
    if _kinds.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    for holds, plain in _PLAIN:
        if holds(kind):
            return plain
    raise DecodeError(f"No column type can hold values of Arrow's type {kind}.", hint="leave the column out")


_PLAIN = (
    (_kinds.is_null, pa.null()),
    (_kinds.is_boolean, pa.bool_()),
    (_kinds.is_uint64, pa.decimal128(20, 0)),
    (lambda kind: _kinds.is_int64(kind) or _kinds.is_uint32(kind), pa.int64()),
    (_kinds.is_integer, pa.int32()),
    (_kinds.is_float64, pa.float64()),
    (_kinds.is_floating, pa.float32()),
    (_kinds.is_date, pa.date32()),
    (_kinds.is_time, pa.time64("us")),
    (_kinds.is_duration, pa.int64()),
    (lambda kind: _kinds.is_string(kind) or _kinds.is_large_string(kind) or _kinds.is_string_view(kind), pa.string()),
    (
        lambda kind: (
            _kinds.is_binary(kind)
            or _kinds.is_large_binary(kind)
            or _kinds.is_binary_view(kind)
            or _kinds.is_fixed_size_binary(kind)
        ),
        pa.binary(),
    ),
)


def list_of(element: pa.DataType) -> pa.DataType:
    """The list type; Iceberg and Parquet call what is in it "element"."""
    return pa.list_(pa.field("element", element))


def is_list(kind: pa.DataType) -> bool:
    """True for the plain list type and its variants (large, of fixed size, views)."""
    return bool(
        _kinds.is_list(kind)
        or _kinds.is_large_list(kind)
        or _kinds.is_fixed_size_list(kind)
        or _kinds.is_list_view(kind)
        or _kinds.is_large_list_view(kind)
    )


def normal(array: Any) -> Any:
    """`array` in its `normal_type`; the array itself where it has that already.

    Raises:
        DecodeError: no column type can hold it.
        pyarrow.ArrowInvalid: a value is out of the range of its new type (a timestamp in seconds of year 300,000).
    """
    kind = array.type
    target = normal_type(kind)
    if kind == target:
        return array
    if isinstance(kind, pa.BaseExtensionType):
        return normal(array.storage)
    if _kinds.is_dictionary(kind):
        return normal(array.dictionary_decode())
    if _kinds.is_run_end_encoded(kind):
        return normal(pc.run_end_decode(array))
    if _kinds.is_struct(kind):
        fields = [normal(field) for field in array.flatten()]
        return pa.StructArray.from_arrays(fields, fields=list(target), mask=array.is_null())
    if _kinds.is_map(kind):
        pairs = pa.StructArray.from_arrays(
            [normal(array.keys), normal(array.items)], fields=[target.key_field, target.item_field]
        )
        return pa.Array.from_buffers(target, len(array), array.buffers()[:2], offset=array.offset, children=[pairs])
    if is_list(kind):
        return pa.ListArray.from_arrays(list_offsets(array), normal(array.flatten()), type=target, mask=array.is_null())
    if _kinds.is_temporal(kind):
        return _normal_time(array, target)
    return array.cast(target)


def list_offsets(array: Any) -> Any:
    """Where the elements of each list stand in the array's `flatten()`, in which null lists have none."""
    lengths = pc.list_value_length(array).fill_null(0).cast(pa.int32())
    return pa.concat_arrays([pa.array([0], pa.int32()), pc.cumulative_sum(lengths)])


def _normal_time(array: Any, target: pa.DataType) -> Any:
    kind = array.type
    if _kinds.is_date(kind):
        return array.cast(target)
    if _kinds.is_time32(kind):
        return to_micros(array.cast(pa.int32()).cast(pa.int64()), kind.unit).cast(target)
    return to_micros(array.cast(pa.int64()), kind.unit).cast(target)


def to_micros(counts: Any, unit: str) -> Any:
    """Counts (int64) of a unit as counts of microseconds; nanoseconds are rounded down, those before 1970 too.

    Raises:
        pyarrow.ArrowInvalid: more microseconds than int64 can count.
    """
    if unit != "ns":
        return counts if unit == "us" else pc.multiply_checked(counts, _UNITS[unit])
    whole = pc.divide(counts, 1000)
    below = pc.less(counts, pc.multiply(whole, 1000))
    return pc.subtract(whole, below.cast(pa.int64()))
