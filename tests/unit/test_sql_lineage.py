"""Which columns the columns of a SELECT come from: case by case, and as a property that DuckDB judges."""

from __future__ import annotations

from random import Random

import duckdb
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from harness.examples import few
from harness.lineage_sql import COLUMNS, Statement, a_statement
from tidemill.model.lineage import ColumnName
from tidemill.plan.sql_lineage import sql_lineage

TABLES = {
    "t": ("a", "b", "c", "s", "xs", "g"),
    "u": ("a", "k", "v"),
    "shop.orders": ("id", "total", "Weird.Name", 'with "quotes"', "日付"),
    "closed": None,
    "far": None,
}

#: Statement -> what is told: `result = from`, where `~x` copies, `+x` computes, `?x` decides; after `|` what decides on
#: the rows; or `unknown: reason`.
CASES = {
    # what is copied, computed, made of nothing
    "select a, b + 1 as q from t": "a = ~t.a; q = +t.b",
    "select a as x, cast(b as text) y, (c) z from t": "x = ~t.a; y = +t.b; z = ~t.c",
    "select 1 as one, current_date as today from t": "one = ; today =",
    "select count(*) as n, sum(b) as total from t": "n = ; total = +t.b",
    "select x: a + b from t": "x = +t.a +t.b",
    "from t select b": "b = ~t.b",
    "select case when a > 1 then b else c end as z from t": "z = ?t.a +t.b +t.c",
    "select if(a > 1, b, 0) as z, coalesce(b, c) as w from t": "z = ?t.a +t.b; w = +t.b +t.c",
    "select my_function(b, c) as z from t": "z = +t.b +t.c",
    # what decides
    "select a from t where b > 1": "a = ~t.a | t.b",
    "select a, sum(b) as n from t where c > 0 group by a having max(g) > 1": "a = ~t.a; n = +t.b | t.a t.c t.g",
    "select a, sum(b) as n from t group by 1 order by 2": "a = ~t.a; n = +t.b | t.a t.b",
    "select a, b + c as d, sum(v) as n from t join u using (a) group by all": (
        "a = ~t.a; d = +t.b +t.c; n = +u.v | t.a t.b t.c u.a"
    ),
    "select a % 10 as bucket, count(*) as n from t group by bucket": "bucket = +t.a; n = | t.a",
    "select distinct a, b from t": "a = ~t.a; b = ~t.b | t.a t.b",
    "select distinct on (a) b from t order by c limit 1": "b = ~t.b | t.a t.c",
    "select a from t qualify row_number() over (partition by b order by c) = 1": "a = ~t.a | t.b t.c",
    "select a from t limit (select max(v) from u)": "a = ~t.a | u.v",
    # windows, aggregates' own clauses
    "select sum(a) over (partition by b order by c) as z from t": "z = +t.a ?t.b ?t.c",
    "select max(a) over w as z from t window w as (partition by b order by c)": "z = +t.a ?t.b ?t.c",
    "select sum(a) filter (where b > 1) as z, list(c order by g) as l from t": "z = +t.a ?t.b; l = +t.c ?t.g",
    "select arg_max(a, b) as z, quantile_cont(c, 0.5) as m from t": "z = +t.a ?t.b; m = +t.c",
    "select percentile_cont(0.5) within group (order by a) as m from t": "m = +t.a",
    # joins
    "select t.*, v from t join u on t.a = u.k and u.a > 1": (
        "a = ~t.a; b = ~t.b; c = ~t.c; s = ~t.s; xs = ~t.xs; g = ~t.g; v = ~u.v | t.a u.k u.a"
    ),
    "select * exclude (c, s, xs, g) from t left join u using (a)": "a = ~t.a; b = ~t.b; k = ~u.k; v = ~u.v | t.a u.a",
    "select a from t right join u using (a)": "a = ~u.a | t.a u.a",
    "select a from t full join u using (a)": "a = +t.a +u.a | t.a u.a",
    "select b from t semi join u on t.a = u.a": "b = ~t.b | t.a u.a",
    "select b, v from t natural join u": "b = ~t.b; v = ~u.v | t.a u.a",
    "select x.b, y.b as other from t x, t y where x.a = y.c": "b = ~t.b; other = ~t.b | t.a t.c",
    "select b, v from t asof join u on t.a >= u.a": "b = ~t.b; v = ~u.v | t.a u.a",
    "select b, v from (t join u on t.a = u.a)": "b = ~t.b; v = ~u.v | t.a u.a",
    # stars
    "select * exclude (xs, s, g) replace (b + 1 as b) rename (c as d) from t": "a = ~t.a; b = +t.b; d = ~t.c",
    "select u.* from t, u": "a = ~u.a; k = ~u.k; v = ~u.v",
    "select columns(*) from u": "a = ~u.a; k = ~u.k; v = ~u.v",
    # queries in queries
    "with r as (select a + 1 as n from t where b = 1) select n as m from r": "m = +t.a | t.b",
    "with r(x, y) as (select a, b from t), t as (select x from r) select x from t": "x = ~t.a",
    "select y from (select a as k, sum(b) as y from t group by 1) z": "y = +t.b | t.a",
    "select (select max(v) from u where u.k = t.a) as m from t": "m = +u.v ?u.k ?t.a",
    "select b from t where a in (select k from u where v > 1)": "b = ~t.b | t.a u.k u.v",
    "select b from t where exists (select 1 from u where u.k = t.c)": "b = ~t.b | u.k t.c",
    "with recursive r(n) as (select a from t union all select r.n + v from r join u on u.k = r.n) select n from r": (
        "n = +t.a +u.v | t.a u.k u.v"
    ),
    "select z.q from t, lateral (select t.b + v as q from u) z": "q = +t.b +u.v",
    # one after the other
    "select a, b from t union all select v, k from u": "a = ~t.a ~u.v; b = ~t.b ~u.k",
    "select a from t union select v from u": "a = ~t.a ~u.v | t.a u.v",
    "select a, b from t union all by name select v as b, k as c from u": "a = ~t.a; b = ~t.b ~u.v; c = ~u.k",
    "select a from t except select v from u": "a = ~t.a | t.a u.v",
    "(select a from t order by b limit 2) union all (select 0)": "a = ~t.a | t.b",
    # lists, structs, names given along the way
    "select s.x.y, t.s.z, t as whole_row from t": (
        "y = +t.s; z = +t.s; whole_row = +t.a +t.b +t.c +t.s +t.xs +t.g"
    ),
    "select list_transform(xs, x -> x + b) as l, [v * c for v in xs if v > g] as m from t": (
        "l = +t.xs +t.b; m = +t.xs +t.c +t.g"
    ),
    "select unnest(xs) as x from t": "x = +t.xs | t.xs",
    "select e from t, unnest(t.xs) q(e)": "e = +t.xs | t.xs",
    "select a as x, x + b as y from t where x > 0": "x = ~t.a; y = +t.a +t.b | t.a",
    "select i from range(10) r(i)": "i =",
    "select p, q from (values (1, 2), (3, 4)) v(p, q)": "p = ; q =",
    # hostile names, any case
    'select "WEIRD.name" as w, "with ""quotes""" as q, 日付 from shop.orders': (
        'w = ~shop.orders.Weird.Name; q = ~shop.orders.with "quotes"; 日付 = ~shop.orders.日付'
    ),
    'select O.TOTAL, SHOP."Orders".id from Shop.orders, shop.orders o': (
        "TOTAL = ~shop.orders.total; id = ~shop.orders.id"
    ),
    # tables whose columns are not known
    "select q, closed.w from closed where r > 1": "q = ~closed.q; w = ~closed.w | closed.r",
    "select q, k from closed join u on closed.id = u.a": "q = ~closed.q; k = ~u.k | closed.id u.a",
    "select * from closed": 'unknown: The columns of "closed" are not known.',
    "select q from closed, far": 'unknown: "q" may be a column of several tables whose columns are not known.',
    # what is not guessed
    "select a from t, u": 'unknown: "a" is a column of several tables.',
    "select nope from t": 'unknown: No table has a column "nope", as far as is known.',
    "select a from missing": 'unknown: Nothing is known of the table "missing".',
    "selec a frm t": 'unknown: SQL syntax error at or near "frm".',
    "delete from t": "unknown: A statement that only reads is wanted, and this is DELETE.",
    "pivot t on a using sum(b)": "unknown: PIVOT is not looked into.",
    "select max(columns(*)) from t": "unknown: COLUMNS is not looked into.",
    "select columns('x.*') from t": "unknown: COLUMNS is not looked into.",
    "select a from t union all select a, k from u": (
        "unknown: The parts of a UNION have not the same number of columns."
    ),
    "select " + "(" * 3000 + "a" + ")" * 3000 + " from t": "unknown: This SQL cannot be read: it is nested too deeply.",
}  # fmt: skip

_SIGNS = {"copied": "~", "computed": "+", "decides": "?"}


@pytest.mark.parametrize(("sql", "expected"), CASES.items(), ids=[sql[:70] for sql in CASES])
def test_what_a_statement_is_told_to_come_from(sql, expected):
    """Every clause: what it copies, computes and goes by; what cannot be told is unknown, with the reason."""
    found = sql_lineage(sql, TABLES)
    if expected.startswith("unknown: "):
        assert found.unknown == expected.removeprefix("unknown: ")
        assert found.columns == ()
        return
    assert found.unknown == ""
    told, _, decides = expected.partition("|")
    wanted = [one.partition("=") for one in told.split("; ")]
    assert [one.name for one in found.columns] == [name.strip() for name, _, _ in wanted]
    for one, (_, _, origins) in zip(found.columns, wanted, strict=True):
        shown = {_SIGNS[kind] + str(column) for column, kind in one.origins.items()}
        assert " ".join(sorted(shown)) == " ".join(sorted(_parts(origins)))
    assert {str(column) for column in found.decides} == set(decides.split())


def _parts(origins: str) -> list[str]:
    """Marked names; those of a hostile table may have spaces."""
    return [origins.strip()] if "shop.orders" in origins else origins.split()


def test_a_result_is_found_by_its_name_in_any_case():
    """What decides on the rows decides on each column, unless the column is made of it."""
    found = sql_lineage("select A as Total, b from t where a > b", TABLES)
    assert found.of("TOTAL") == {ColumnName("t", "a"): "copied", ColumnName("t", "b"): "decides"}
    assert found.of("nope") is None


DB = duckdb.connect(config={"threads": 1})


# A smaller number makes no simpler query, so none is looked for.
@settings(max_examples=few(160), deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 2**32))
def test_what_is_not_told_does_not_matter(seed):
    """Other values in a column that a result is not told to come from never change the result, whatever the query.

    DuckDB runs random queries over small tables before and after each such change.
    """
    random = Random(seed)
    statement = a_statement(random)
    found = sql_lineage(statement.sql, COLUMNS)
    assert found.unknown == "", statement.sql
    rows = {table: [[random.randint(0, 3) for _ in names] for _ in range(6)] for table, names in COLUMNS.items()}
    before = _run(statement, rows)
    assert len(found.columns) == len(before)
    for table, names in COLUMNS.items():
        for at, name in enumerate(names):
            column = ColumnName(table, name)
            untouched = [
                place for place, one in enumerate(found.columns)
                if column not in found.decides and column not in one.origins
            ]  # fmt: skip
            if untouched:
                changed = [[*row[:at], (row[at] + random.randint(1, 9)), *row[at + 1 :]] for row in rows[table]]
                after = _run(statement, {table: changed})
                _fill({table: rows[table]})
                for place in untouched:
                    assert after[place] == before[place], f"{column} -> {found.columns[place].name}: {statement.sql}"


def _run(statement: Statement, rows: dict[str, list[list[int]]]) -> list[list[str]]:
    """The values of each column of the result, in an order of their own, with other rows in some tables."""
    _fill(rows)
    found = DB.execute(statement.sql)
    width, made = len(found.description), found.fetchall()
    return [sorted(repr(row[at]) for row in made) for at in range(width)]


def _fill(rows: dict[str, list[list[int]]]) -> None:
    for table, some in rows.items():
        values = ", ".join(f"({', '.join(map(str, row))})" for row in some)
        DB.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS FROM (VALUES {values}) v({', '.join(COLUMNS[table])})")
