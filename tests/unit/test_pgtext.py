"""Values as PostgreSQL writes them, against the values that they are."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.adapters.databases.pgtext import typed
from tidemill.model.errors import DataError

UTC = dt.UTC


def _float(value: float) -> str:
    return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(value), repr(value))


def _quoted(value: str | None) -> str:
    return "NULL" if value is None else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _array(values: list[str | None]) -> str:
    return "{" + ",".join(map(_quoted, values)) + "}"


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
#: Type, values, and how PostgreSQL writes one.
KINDS: list[tuple[pa.DataType, Any, Any]] = [
    (pa.int16(), st.integers(-(2**15), 2**15 - 1), str),
    (pa.int64(), st.integers(-(2**63), 2**63 - 1), str),
    (pa.bool_(), st.booleans(), lambda value: "t" if value else "f"),
    (pa.float64(), st.floats(allow_nan=False), _float),
    (pa.decimal128(12, 3), st.decimals(-(10**8), 10**8, places=3), lambda value: f"{value:f}"),
    (pa.string(), TEXT, str),
    (pa.binary(), st.binary(max_size=9), lambda value: "\\x" + value.hex()),
    (pa.uuid(), st.uuids(), str),
    (pa.date32(), st.dates(), dt.date.isoformat),
    (pa.time64("us"), st.times(), dt.time.isoformat),
    (pa.timestamp("us"), st.datetimes(), lambda value: value.isoformat(" ")),
    (
        pa.timestamp("us", "UTC"),
        st.datetimes(timezones=st.just(UTC)),
        lambda value: value.replace(tzinfo=None).isoformat(" ") + "+00",
    ),
    (pa.list_(pa.string()), st.lists(st.none() | TEXT, max_size=4), _array),
]  # fmt: skip


@settings(deadline=None)
@given(st.data())
def test_texts_become_the_values_that_they_are(data: st.DataObject) -> None:
    """Every type, nulls among the values, and columns that are a part of a longer array."""
    kind, values, written = data.draw(st.sampled_from(KINDS))
    wanted = data.draw(st.lists(st.none() | values, max_size=6))
    skipped = data.draw(st.integers(0, len(wanted)))
    texts = pa.array([None if value is None else written(value) for value in wanted], pa.string()).slice(skipped)
    found = typed(texts, kind, "c", "t")
    found.validate(full=True)
    assert found.type == kind
    shown = [uuid.UUID(bytes=v) if isinstance(v, bytes) and pa.types.is_fixed_size_binary(kind) else v
             for v in found.to_pylist()]  # fmt: skip
    assert shown == wanted[skipped:]


def test_times_beyond_four_digits_of_a_year() -> None:
    """Before our era, and after the year 9999: as days, and as microseconds."""
    days = typed(pa.array(["0044-03-15 BC", "2026-01-02", None, "12345-01-01"]), pa.date32(), "c", "date")
    assert days.cast(pa.int32()).to_pylist() == [-735_160, 20_455, None, 3_789_391]
    moments = typed(pa.array(["12345-01-01 00:00:01.5", "2026-01-02 00:00:00"]), pa.timestamp("us"), "c", "timestamp")
    assert moments.cast(pa.int64()).to_pylist() == [3_789_391 * 86_400_000_000 + 1_500_000, 20_455 * 86_400_000_000]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("infinity", pa.timestamp("us")),
        ("-infinity", pa.date32()),
        ("NaN", pa.decimal128(9, 2)),
        ("{{1,2},{3,4}}", pa.list_(pa.int32())),
    ],
)
def test_what_no_table_can_hold_is_told(text: str, kind: pa.DataType) -> None:
    """With the column, and never as another value."""
    with pytest.raises(DataError, match=r'Column "at" \(declared\) has a value that a table cannot hold'):
        typed(pa.array([text]), kind, "at", "declared")


def test_numbers_with_many_digits_keep_them() -> None:
    """38 digits."""
    text = "12345678901234567890123456789012345.678"
    found = typed(pa.array([text]), pa.decimal128(38, 3), "c", "numeric").to_pylist()
    assert found == [decimal.Decimal(text)]
