"""Columnar partition transforms equal PyIceberg's transforms of single values."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.transforms import parse_transform
from pyiceberg.types import (
    BinaryType,
    DateType,
    DecimalType,
    IntegerType,
    LongType,
    StringType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from harness.examples import few
from tidemill.adapters.iceberg.arrow import arrow_type
from tidemill.adapters.iceberg.transforms import transformed

EPOCH = datetime(1970, 1, 1)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    IntegerType(): st.integers(-(2**31), 2**31 - 1),
    LongType(): st.integers(-(2**63), 2**63 - 1),
    StringType(): st.text(max_size=8),
    BinaryType(): st.binary(max_size=8),
    DecimalType(9, 2): st.decimals(-1000, 1000, places=2),
    DateType(): st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    TimeType(): st.times(),
    TimestampType(): st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)),
    TimestamptzType(): st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    UUIDType(): st.uuids(),
}


def plain(value: Any) -> Any:
    """PyIceberg's partition representation of a Python value."""
    match value:
        case datetime():
            return (value.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)
        case date():
            return (value - EPOCH.date()).days
        case uuid.UUID():
            return value.bytes
    return value


@pytest.mark.parametrize("text", ["identity", "year", "month", "day", "hour", "bucket[7]", "bucket[16]", "truncate[3]"])
@settings(max_examples=few(60), deadline=None)
@given(data=st.data())
def test_columns_transform_as_single_values_do(text: str, data: st.DataObject) -> None:
    transform = parse_transform(text)
    kind = data.draw(st.sampled_from([k for k in VALUES if transform.can_transform(k)]))
    one = transform.transform(kind)
    lowest = {IntegerType(): -(2**31), LongType(): -(2**63)}.get(kind)
    # Truncating the very lowest integers leaves their type; Iceberg does not say what then.
    fits = VALUES[kind].filter(lambda v: lowest is None or one(v) >= lowest)
    values = data.draw(st.lists(st.none() | fits, max_size=20))
    stored = [v.bytes if isinstance(v, uuid.UUID) else v for v in values]
    column = pa.array(stored, pa.binary(16) if kind == UUIDType() else arrow_type(kind))
    if kind == UUIDType():
        column = pa.ExtensionArray.from_storage(pa.uuid(), column)
    expected = [None if v is None else one(v) for v in values]
    got = transformed(transform, kind, column).to_pylist()
    if text == "identity" and kind == TimeType():
        expected = [
            None if v is None else ((v.hour * 60 + v.minute) * 60 + v.second) * 10**6 + v.microsecond for v in values
        ]
    assert got == [plain(v) for v in expected]


def test_truncated_decimals_keep_their_type() -> None:
    column = pa.array([Decimal("10.65"), None], pa.decimal128(9, 2))
    assert transformed(parse_transform("truncate[50]"), DecimalType(9, 2), column).to_pylist() == [
        Decimal("10.50"),
        None,
    ]
