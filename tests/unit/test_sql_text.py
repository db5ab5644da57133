"""Quoting, literals, and the tables that a statement reads."""

from datetime import UTC, date, datetime, time
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.model.errors import UserError
from tidemill.plan.sql import literal, quote
from tidemill.plan.sql_tables import tables_in


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("select * from a.b join c using (x) where y in (select 1 from d)", ("a.b", "c", "d")),
        ("from t select x", ("t",)),
        ("with a as (select * from b) select * from a", ("b",)),
        ("with a as (select * from b), c as (select * from a) select * from c, d", ("b", "d")),
        ("with a as (select * from a) select * from a", ("a",)),
        ("with recursive r as (select 1 x union all from r join base using (x)) select * from r", ("base",)),
        ("select * from (with a as (select 1) select * from a) q, a", ("a",)),
        ("with a as (select 1) select * from (select * from A)", ()),
        ("with a as (select 1) select * from s.a", ("s.a",)),
        ("select * from range(3) t(x), u", ("u",)),
        ("pivot t on y using sum(z)", ("t",)),
        ("select * from t union by name select * from t", ("t",)),
        ("summarize s.t", ("s.t",)),
        ("values (1)", ()),
        ("select 1 -- only a comment\n;", ()),
        ("from t asof join u on t.a >= u.a", ("t", "u")),
        ("select * from t, lateral (select * from u where u.a = t.a)", ("t", "u")),
    ],
)
def test_the_tables_read_are_named_and_ctes_are_not(sql: str, tables: tuple[str, ...]) -> None:
    assert sorted(tables_in(sql)) == sorted(tables)


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("select 1; select 2", "One SQL statement"),
        ("", "One SQL statement"),
        ("insert into t select * from u", "INSERT"),
        ("drop table t", "DROP"),
        ("copy t to 'x.csv'", "COPY"),
        ("attach 'x.db'", "ATTACH"),
        ("selec 1", "cannot be read"),
        ("select * from 'x.parquet'", '"x.parquet" is not the name of a table'),
        ("select * from a.b.c", "too many parts"),
        ("select (" * 3000, "cannot be read"),
    ],
)
def test_anything_but_one_reading_statement_over_tables_is_refused(sql: str, text: str) -> None:
    with pytest.raises(UserError, match=text):
        tables_in(sql, where="q.sql")


def test_a_syntax_error_names_file_line_and_column() -> None:
    with pytest.raises(UserError) as caught:
        tables_in("select *\nfrom t\nwhere x = = 2", where="q.sql")
    assert caught.value.where == "q.sql, line 3, column 11"


#: One database for all examples: opening one takes 11 ms.
DB = duckdb.connect(config={"threads": 1})


@settings(deadline=None)
@given(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    | st.dates()
    | st.datetimes(min_value=datetime(1, 1, 2))
    | st.times()
    | st.decimals(-(10**6), 10**6, places=3)
)
def test_a_literal_reads_back_as_its_value(value: object) -> None:
    assert DB.execute("select " + literal(value)).fetchone() == (value,)


def test_literals_of_other_kinds() -> None:
    assert literal([1, "a'b", None]) == "(1, 'a''b', NULL)"
    assert literal(datetime(2013, 1, 1, tzinfo=UTC)) == "TIMESTAMPTZ '2013-01-01 00:00:00+00:00'"
    assert literal(date(2013, 1, 1)) == "DATE '2013-01-01'"
    assert literal(time(1, 2)) == "TIME '01:02:00'"
    assert literal(Decimal("-1.50")) == "(-1.50)"
    with pytest.raises(UserError, match="cannot be written"):
        literal({"a": 1})


def test_a_quoted_name_may_hold_anything() -> None:
    assert quote('a"b') == '"a""b"'
