"""Conditions on rows: what was typed becomes values of the columns' types, and names stay names."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import pytest

from tidemill.model.errors import UnknownName, UserError
from tidemill.model.table import TableName
from tidemill.plan.narrowing import MOST, Condition, narrowed, read_condition

NAME = TableName("shop", "orders")
AN_ID = "12345678-1234-5678-1234-567812345678"


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("long", " 42 ", 42), ("int64", "-1", -1), ("uint8", "7", 7), ("double", "1e3", 1000.0), ("float", "2", 2.0),
        ("decimal(5,2)", "1.50", Decimal("1.50")), ("decimal128(5, 2)", "-3", Decimal(-3)), ("boolean", "TRUE", True),
        ("bool", "false", False), ("date", "2026-01-31", date(2026, 1, 31)), ("time", "12:30", time(12, 30)),
        ("timestamp", "2026-01-31", datetime(2026, 1, 31)), ("string", " a ", " a "), ("large_string", "", ""),
        ("timestamp", "2026-01-31T01:00:00+01:00", datetime(2026, 1, 31)), ("uuid", AN_ID, UUID(AN_ID)),
        ("timestamptz", "2026-01-31 12:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("timestamp[us, tz=UTC]", "2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("timestamp[us]", "2026-01-31", datetime(2026, 1, 31)), ("date32[day]", "2026-01-31", date(2026, 1, 31)),
    ],
)  # fmt: skip
def test_a_value_is_one_of_its_columns_type(kind: str, text: str, value: object) -> None:
    sql, values = narrowed(NAME, {"c": kind}, [Condition("c", "ge", text)], limit=5)
    assert sql == 'SELECT * FROM "shop"."orders" WHERE "c" >= $value0 LIMIT 5 OFFSET 0'
    assert values == {"value0": value}
    assert type(values["value0"]) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("long", "1.5"), ("long", "9" * 5000), ("long", ""), ("double", "nan"), ("double", "dear"),
        ("decimal(5,2)", "1e99999"), ("decimal(5,2)", "Infinity"), ("boolean", "yes"), ("date", "31.1.2026"),
        ("timestamptz", "now"), ("uuid", "1"), ("list<long>", "1"), ("struct<a:long>", "1"), ("binary", "x"),
    ],
)  # fmt: skip
def test_another_value_is_told(kind: str, text: str) -> None:
    with pytest.raises(UserError) as caught:
        narrowed(NAME, {"c": kind}, [Condition("c", "eq", text)], limit=5)
    assert '"c"' in caught.value.what
    assert caught.value.hint


def test_names_are_quoted_and_looked_up() -> None:
    odd = 'a"; DROP TABLE x --'
    columns = {odd: "string", "-n": "long", "n": "long", "deep": "list<long>"}
    sql, values = narrowed(NAME, columns, [Condition(odd, "contains", "%'")], "-n", limit=1, offset=2)
    assert sql == (
        'SELECT * FROM "shop"."orders" WHERE contains(lower(CAST("a""; DROP TABLE x --" AS VARCHAR)), lower($value0))'
        ' ORDER BY "-n" ASC NULLS LAST, "a""; DROP TABLE x --", "n" LIMIT 1 OFFSET 2'
    )
    assert values == {"value0": "%'"}
    assert 'ORDER BY "-n" DESC NULLS LAST' in narrowed(NAME, columns, sort="--n", limit=1)[0]
    for wrong in (
        {"sort": "x"},
        {"conditions": [Condition("x", "eq", "")]},
        {"conditions": [Condition("n", "x", "1")]},
    ):
        with pytest.raises(UnknownName):
            narrowed(NAME, columns, limit=1, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="more than"):
        narrowed(NAME, columns, [Condition("n", "null")] * (MOST + 1), limit=1)


def test_a_condition_is_read_whatever_its_column_and_value_have_in_them() -> None:
    columns = {"a": "long", "a:eq": "string", "b:c": "string"}
    assert read_condition("a:eq:1:2", columns) == Condition("a", "eq", "1:2")
    assert read_condition("a:eq:eq:1", columns) == Condition("a", "eq", "eq:1")
    assert read_condition("b:c:begins::", columns) == Condition("b:c", "begins", ":")
    assert read_condition("a:null", columns) == Condition("a", "null", "")
    for wrong in ("x:eq:1", "a:is:1"):
        with pytest.raises(UnknownName):
            read_condition(wrong, columns)
    with pytest.raises(UserError):
        read_condition("a", columns)
