"""Bookmarks of cursors: what is written down is what is read back, and where a batch begins."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.model.errors import DataError, DefinitionError, Refused
from tidemill.plan.cursors import begin, check_same, from_bookmark, to_bookmark

VALUES = st.one_of(
    st.integers(),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(UTC)),
    st.text(),
    st.uuids(),
)


@given(VALUES)
def test_a_bookmark_comes_back_as_it_was(value: Any) -> None:
    kept = json.loads(json.dumps(to_bookmark(value, "c")))
    found = from_bookmark(kept, "s")
    assert (type(found), found) == (type(value), value)


def test_a_moment_is_kept_in_utc() -> None:
    moment = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert to_bookmark(moment, "c") == {"type": "timestamptz", "value": "2026-01-01T00:00:00+00:00"}
    assert to_bookmark(None, "c") is None
    assert from_bookmark(None, "s") is None


@pytest.mark.parametrize("value", [True, b"x", [1], float("inf"), float("nan"), Decimal("NaN"), {"a": 1}])
def test_what_has_no_order_is_no_cursor(value: Any) -> None:
    with pytest.raises(DataError, match='"c" cannot be a cursor'):
        to_bookmark(value, "c")


@pytest.mark.parametrize(
    "kept", [5, "x", [1], {"type": "long"}, {"type": "long", "value": "x"}, {"type": "x", "value": "1"}]
)
def test_what_is_no_bookmark_of_a_cursor_is_refused(kept: Any) -> None:
    with pytest.raises(Refused):
        from_bookmark(kept, "s")


@pytest.mark.parametrize(
    ("bookmark", "lag", "begins"),
    [
        (10, None, 10),
        (10, 0, 10),
        (10, 4, 6),
        (Decimal("1.5"), 1, Decimal("0.5")),
        (datetime(2026, 1, 1), timedelta(minutes=5), datetime(2025, 12, 31, 23, 55)),
        (date(2026, 1, 10), timedelta(hours=36), date(2026, 1, 8)),
        (date(2026, 1, 10), timedelta(days=1), date(2026, 1, 9)),
        (datetime.min, timedelta(minutes=5), None),
        ("2026-01-01 10:00:00", timedelta(minutes=5), "2026-01-01 09:55:00"),
        ("2026-01-01T10:00:00.5", timedelta(minutes=5), "2026-01-01T09:55:00.500000"),
        ("2026-01-10", timedelta(hours=36), "2026-01-08"),
        ("abc", None, "abc"),
        (None, timedelta(minutes=5), None),
    ],
)
def test_where_a_batch_begins(bookmark: Any, lag: Any, begins: Any) -> None:
    assert begin(bookmark, lag, "c") == begins


@pytest.mark.parametrize(
    ("bookmark", "lag"), [(1, timedelta(1)), ("abc", timedelta(1)), ("abc", 5), (date(2026, 1, 1), 5), (UUID(int=1), 1)]
)
def test_a_lag_must_be_of_the_cursors_kind(bookmark: Any, lag: Any) -> None:
    with pytest.raises(DefinitionError, match="lag"):
        begin(bookmark, lag, "c")


def test_numbers_may_become_wider_and_nothing_else() -> None:
    check_same(5, Decimal("6.5"), "c")
    check_same(None, "x", "c")
    for bookmark, upper in ((5, "x"), (datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC)), (date(2026, 1, 1), 1)):
        with pytest.raises(Refused, match="new name"):
            check_same(bookmark, upper, "c")
