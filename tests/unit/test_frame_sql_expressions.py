"""Expressions of `f.sql` give what DuckDB gives, whose SQL tables are made with; and all look at one row only."""

from __future__ import annotations

import math
import random
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest

from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.model.errors import DefinitionError, TidemillError
from tidemill.model.frame import Frame
from tidemill.model.frame.operation import Select
from tidemill.plan.elementwise import check_elementwise

_RANDOM = random.Random(7)
_BEGIN = datetime(2023, 12, 28, 22, 30, 15, 250_000)


def _some(*values: Any) -> list[Any]:
    return [_RANDOM.choice((None, *values, *values)) for _ in range(80)]


_TIMES = [_BEGIN + timedelta(hours=37 * n, milliseconds=n) for n in range(12)]
ROWS = pl.DataFrame(
    {
        "i": _some(-7, -1, 0, 1, 2, 3, 10),
        "j": _some(-3, -2, 1, 2, 5),
        "f": _some(-2.5, -0.5, 0.0, 0.25, 1.5, 2.5, 3.75),
        "g": _some(-4.0, 0.5, 2.0, 8.0),
        "s": _some("", "a", "abc", "Abc", "hello world", "x%y", "añb", "  pad  ", "a-b-c", "2024"),
        "t": _some("a", "b", "l", "hello"),
        "b": _some(True, False),
        "c": _some(True, False),
        "d": _some(*(moment.date() for moment in _TIMES)),
        "ts": _some(*_TIMES),
        "u": _some(*_TIMES),
    },
    schema_overrides={"i": pl.Int64, "j": pl.Int64, "d": pl.Date, "ts": pl.Datetime("us"), "u": pl.Datetime("us")},
)

EXPRESSIONS = """
i + j; i - j; i * j; -i; i / 2; i / j; f / g; i // j; i % j; f % g; mod(i, j); i ** 2; pow(f, 2); 2 ^ j
(i + 1) * 2 - f; i = j; i <> j; i != j; i < j; i <= j; f > g; f >= 0.25; s = t; s < t; b = c; i is null
i is not null; b is true; b is not true; b is false; i is distinct from j; i is not distinct from j
i between -1 and 2; i not between j and 3; not b; b and c; b or c; b and i > 0; b or null; b and null; not (b or c)
i in (1, 2, 3); i not in (1, 2); i in (1, null); i not in (1, null); i in (j, 2); s in ('a', 'abc'); i in (null)
s like 'a%'; s like '_b_'; s not like '%b%'; s like 'x!%y' escape '!'; s ilike 'ABC'; s not ilike 'a%'; s like ''
s like '%.%'; case when i > 0 then 'more' when i < 0 then 'less' end
case i when 1 then 10 when 2 then 20 else j end; case when b then 1 else 2 end; if(b, 'yes', 'no')
case when null then 1 else 2 end; coalesce(i, j, 0); ifnull(s, t); nullif(i, 1); nullif(s, t); greatest(i, j)
least(i, j, 0); greatest(f, g); abs(i); abs(f); ceil(f); floor(f); ceiling(i); floor(i); round(f); round(i)
round(f, 1); sqrt(abs(f)); cbrt(8.0); exp(f); ln(abs(i)); log(abs(g)); log10(abs(g)); log(2, abs(g)); log2(abs(g))
isnan(f); isinf(f / 0); isfinite(f); upper(s); lower(s); ucase(s); lcase(t); length(s); len(s); char_length(s)
trim(s); ltrim(s); rtrim(s); trim(s, 'ab'); substring(s, 2, 3); substr(s, 2); substring(s, -3, 2)
substring(s, -10, 8); left(s, 3); left(s, -2); right(s, 3); right(s, -2); lpad(s, 5, '.'); rpad(s, 2, 'x')
replace(s, 'b', t); replace(s, '', 'x'); reverse(s); s || t; s || '-' || i; concat(s, t); concat(s, i, b)
concat_ws('-', s, t); contains(s, 'b'); contains(s, t); starts_with(s, 'a'); prefix(s, t); ends_with(s, 'c')
suffix(s, t); split_part(s, '-', 2); split_part(s, '-', -1); split_part(s, '-', 9); regexp_matches(s, '^[a-z]+$')
regexp_replace(s, 'b', 'x'); regexp_replace(s, '[a-z]', 'x', 'g'); regexp_replace(s, '(a)(.)', '\\2\\1')
regexp_replace(s, 'b', '$1'); regexp_extract(s, '[a-z]+'); regexp_extract(s, '([a-z])-([a-z])', 2)
cast(i as double); i::double; cast(i as varchar); cast(f as varchar); cast(b as varchar); cast(b as bigint)
cast(d as varchar); cast(ts as date); cast(d as timestamp); cast('7' as bigint) + i; try_cast(s as bigint)
cast(i as decimal(10, 2)); cast(i as integer); extract(year from ts); extract(month from d); extract(day from ts)
extract(hour from ts); extract(minute from ts); extract(second from ts); extract(millisecond from ts)
extract(microseconds from ts); extract(quarter from ts); extract(week from ts); extract(dow from ts)
extract(isodow from ts); extract(doy from ts); extract(epoch from ts); date_part('hour', ts); year(ts); month(ts)
day(ts); hour(ts); minute(ts); second(ts); quarter(ts); week(ts); dayofweek(ts); dayofyear(d); isodow(ts); epoch(ts)
epoch_ms(ts); epoch_us(ts); date_trunc('second', ts); date_trunc('minute', ts); date_trunc('hour', ts)
date_trunc('day', ts); date_trunc('week', ts); date_trunc('month', ts); date_trunc('quarter', ts)
date_trunc('year', ts); ts + interval '90 minutes'; ts - interval '1 day'; interval '1 hour' + ts
ts + interval 1 month; ts + interval '1 hour 30 minutes'; ts < u; ts >= timestamp '2024-01-01 00:00:00'
d > date '2024-01-01'; ts = u; greatest(ts, u); date_diff('day', ts, u); date_diff('hour', ts, u)
date_diff('minute', ts, u); date_diff('second', ts, u); datediff('month', ts, u); date_diff('year', ts, u)
date_diff('quarter', ts, u); date_diff('millisecond', ts, u); strftime(ts, '%Y-%m-%d %H:%M:%S')
strptime('2024-02-03', '%Y-%m-%d'); epoch(to_timestamp(f)); self.i + r.j; "i" + 1
"""
ALL = [one.strip() for line in EXPRESSIONS.strip().splitlines() for one in line.split(";") if one.strip()]


def _frame() -> Frame:
    return Frame.literal(ROWS)


def _duck(query: str) -> list[Any]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.register("rows", ROWS.to_arrow())
        return [value for (value,) in connection.execute(query).fetchall()]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(f"{float(value):.9g}")
    return value


@pytest.mark.parametrize("expression", ALL)
def test_an_expression_is_what_duckdb_makes_of_it(expression: str) -> None:
    where = "j is not null and j <> 0" if "%" in expression or "//" in expression or "mod" in expression else "true"
    query = f"select {expression} as x from {{}} where {where}"
    table = 'self as "r"' if "r." in expression else "self"
    if "self." in expression:
        query, table = query.replace("self.", "r."), "self as r"
    frame = _frame().sql(query.format(table))
    for step in frame.operations:
        if isinstance(step, Select):
            for made in step.columns:
                assert isinstance(made, pl.Expr)
                check_elementwise(made)
    got = PolarsEngine().collect(frame, {}).get_column("x").to_list()
    wanted = _duck(query.format("rows as r" if "r." in query else "rows"))
    assert [_plain(one) for one in got] == [_plain(one) for one in wanted]


@pytest.mark.parametrize(
    ("expression", "ours", "duckdbs"),
    [
        ("7 // 0", None, duckdb.Error),
        ("-7.5::double // 2.0", -3.0, -3.75),
        ("cast(2.5::double as bigint)", 2, 2),
        ("cast(2.7::double as bigint)", 2, 3),
        ("date '2024-01-31' + interval '1 day'", date(2024, 2, 1), datetime(2024, 2, 1)),
        ("date_trunc('month', date '2024-01-31')", date(2024, 1, 1), datetime(2024, 1, 1)),
        ("upper('ß')", "SS", "ẞ"),
        ("2147483647::int + 1::int", -2147483648, duckdb.Error),
    ],
)
def test_where_results_differ_from_duckdbs(expression: str, ours: Any, duckdbs: Any) -> None:
    """Each is told in the documentation."""
    query = f"select {expression} as x from "
    assert PolarsEngine().collect(Frame.literal(ROWS[:1]).sql(query + "self"), {}).item() == ours
    if duckdbs is duckdb.Error:
        with pytest.raises(duckdb.Error):
            _duck(query + "rows limit 1")
    else:
        assert _duck(query + "rows limit 1") == [duckdbs]


@pytest.mark.parametrize("expression", ["s > 1", "i = 'a'", "ts > '2024-01-01'", "s - 1"])
def test_types_that_do_not_meet_are_refused_before_a_row_is_read(expression: str) -> None:
    """DuckDB casts a text to what it is compared with; here that is written out."""
    with pytest.raises(DefinitionError):
        PolarsEngine().columns(_frame().sql(f"select {expression} as x from self"), {})


def test_a_text_becomes_a_time_by_strptime_only() -> None:
    """What form it has would have to be guessed of the rows, and those come in any cut."""
    with pytest.raises(TidemillError, match="not supported"):
        PolarsEngine().collect(_frame().sql("select cast(s as timestamp) as x from self"), {})
