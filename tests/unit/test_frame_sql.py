"""`f.sql`: queries give what DuckDB's do, become the steps of the verbs, and refuse what frames do not have."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl
import pytest

import tidemill as tm
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame, Input
from tidemill.model.frame.topic import Topic
from tidemill.plan.topology import Topology, plan_topology

_RANDOM = random.Random(3)
BEGIN = datetime(2026, 1, 1)
ROWS = pl.DataFrame(
    {
        "ts": [BEGIN + timedelta(seconds=n * 7 % 60) for n in range(60)],
        "car": [_RANDOM.choice(("a", "b", "c", None)) for _ in range(60)],
        "v": [_RANDOM.choice((None, -2, 1, 3, 8)) for _ in range(60)],
        "x": [_RANDOM.choice((None, 0.5, 1.25, -4.0)) for _ in range(60)],
    },
    schema_overrides={"ts": pl.Datetime("us")},
)


def run(query: str, **functions: Any) -> pl.DataFrame:
    return PolarsEngine().collect(Frame.literal(ROWS).sql(query, functions=functions), {})


def rows_of(rows: Any) -> Counter[tuple[Any, ...]]:
    def plain(value: Any) -> Any:
        return round(float(value), 9) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

    return Counter(tuple(map(plain, row)) for row in rows)


QUERIES = [
    "select car, v * 2 as w from self where v > 0 and (x is null or x > 0)",
    "select *, v + 1 as w from self where not (v > 0)",
    "select * exclude (ts, x) from self",
    "select * replace (coalesce(v, 0) as v) from self",
    "select distinct car, v from self",
    "select car, count(*) as n, count(v) as m, sum(v) as s, avg(x) as a, min(v) as least, max(x) as most from self "
    "group by car",
    "select car, sum(v) filter (where x > 0) as s, count(*) filter (where v > 0) as n, avg(v) filter (where v > 1) "
    "as a from self group by car",
    "select car, count(distinct v) as n, median(v) as m, quantile_cont(x, 0.25) as q, stddev(v) as d "
    "from self group by car",
    "select car, sum(v) / count(*) as r, max(x) - min(x) as w, coalesce(sum(v), 0) + 1 as s from self group by car",
    "select upper(car) as car, sum(v * 2 + 1) as s from self group by upper(car)",
    "select upper(car) as up, count(*) as n from self group by up",
    "select v % 2 as odd, car, count(*) as n from self group by 1, 2",
    "select v > 0 as more, car, count(*) as n from self group by all",
    "select car from self group by car",
    "select car, count(*) as n from self where v is not null group by car having count(*) > 5 and max(v) > 1",
    "select car, case when sum(v) > 10 then 'much' else 'little' end as how from self group by car",
    "with a as (select car, v from self where v > 0), b as (select car, max(v) as v from a group by car) "
    "select b.car, b.v + 1 as w from b",
    "select q.car, count(*) as n from (select car, v from self where v > 0) as q group by q.car",
    "select r.car, r.v from self as r where r.v in (1, 3)",
    'select self.car, "v" % 2 as odd, sum(self.v) as s from self group by "car", v % 2',
    "select car, sum(v) as s, s * 2 as d from self group by car having s > 3 and d < 100",
    "select date_trunc('minute', ts) + interval '1 minute' as t, count(*) as n from self "
    "group by date_trunc('minute', ts)",
    "select r.car as c, count(r.v) as n from self as r where r.x is not null group by c having count(r.v) > 1;",
    "select car, count(*) as n -- of all\nfrom self /* here */ group by car",
    "select sum(case when v > 0 then v end) as s, car from self group by car",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_what_duckdb_makes_of_it(query: str) -> None:
    with duckdb.connect() as connection:
        connection.register("self", ROWS.to_arrow())
        wanted = connection.execute(query)
        assert wanted.description is not None
        names = [column[0] for column in wanted.description]
        found = run(query)
        assert found.columns == names
        assert rows_of(found.iter_rows()) == rows_of(wanted.fetchall())


def test_windows_are_those_of_the_verbs() -> None:
    f = Frame.literal(ROWS)
    engine = PolarsEngine()
    value, n = tm.agg.mean("x"), tm.agg.count()
    pairs = {
        "tumble(ts, interval '10 seconds')": f.tumbling_window("10s", on="ts", by="car"),
        "hop(ts, interval 10 second, interval '1 minute')": f.hopping_window("10s", "1m", on="ts", by="car"),
        "session(ts, interval '2 seconds')": f.session_window("2s", on="ts", by="car"),
    }
    for written, verb in pairs.items():
        query = f"select car, window_start, window_end, avg(x) as m, count(*) as n from self group by car, {written}"
        wanted = engine.collect(verb.agg(m=value, n=n).final(), {})
        assert engine.collect(f.sql(query), {}).equals(wanted), written


def test_windows_of_ten_seconds_are_duckdbs_time_buckets() -> None:
    with duckdb.connect() as connection:
        connection.register("self", ROWS.to_arrow())
        wanted = connection.execute(
            "select time_bucket(interval '10 seconds', ts) as b, sum(v) as s from self group by b having count(*) > 9"
        ).fetchall()
    found = run(
        "select window_start as b, sum(v) as s from self group by tumble(ts, interval '10 seconds') having count(*) > 9"
    )
    assert rows_of(found.iter_rows()) == rows_of(wanted)


def test_values_without_a_column_are_there_for_every_row() -> None:
    assert run("select 1 as one, 'x' as x from self").rows() == [(1, "x")] * 60
    assert run("select 1 as one from self where car = 'nobody'").rows() == []


def test_names_are_taken_as_they_are_written() -> None:
    odd = pl.DataFrame({"Car": [1], "from": [2], "s": [{"a": 3}]})
    frame = Frame.literal(odd).sql('select Car, "from", s.a, self.s.a as again, "Car" + 1 as "More cars" from self')
    assert PolarsEngine().collect(frame, {}).to_dicts() == [{"Car": 1, "from": 2, "a": 3, "again": 3, "More cars": 2}]
    with pytest.raises(Exception, match='There is no column "car"'):
        PolarsEngine().columns(Frame.literal(odd).sql("select car from self"), {})


def test_any_name_can_be_given() -> None:
    assert run('select v as self, x as "columns", v + 1 as "named" from self').columns == ["self", "columns", "named"]
    assert run("select *, v as self from self").columns == ["ts", "car", "v", "x", "self"]


# Functions


def shout(name: str) -> str:
    return name.upper() + "!"


def plus(a: int, b: int | None) -> int:
    return a + (100 if b is None else b)


def test_a_function_is_called_for_every_row_and_nulls_go_by_its_annotations() -> None:
    found = run("select shout(car) as s, plus(1, v) as p, plus(v, v) as q from self", shout=shout, plus=plus)
    for row, before in zip(found.to_dicts(), ROWS.to_dicts(), strict=True):
        car, v = before["car"], before["v"]
        assert row == {
            "s": None if car is None else car.upper() + "!",
            "p": 101 if v is None else 1 + v,
            "q": None if v is None else 2 * v,
        }
    assert found.schema == {"s": pl.String, "p": pl.Int64, "q": pl.Int64}


def test_functions_stand_in_each_other_in_where_in_keys_and_behind_aggregates() -> None:
    found = run(
        "select shout(shout(car)) as k, sum(plus(v, 1)) as s, plus(count(*), 0) as n from self "
        "where shout(car) <> 'C!' group by shout(shout(car)) having plus(count(*), 0) > 0",
        shout=shout,
        plus=plus,
    )
    wanted: dict[str, list[Any]] = {}
    for row in ROWS.to_dicts():
        if row["car"] in ("a", "b"):
            wanted.setdefault(row["car"].upper() + "!!", []).append(row["v"])
    assert {row["k"]: (row["s"], row["n"]) for row in found.to_dicts()} == {
        key: (sum(v + 1 for v in values if v is not None), len(values)) for key, values in wanted.items()
    }


def test_all_columns_and_a_function_leave_nothing_of_the_querys_own() -> None:
    assert run("select *, shout(car) as s from self where shout(car) = 'A!'", shout=shout).columns == [
        "ts", "car", "v", "x", "s",
    ]  # fmt: skip


# On streams

TOPIC = Topic("f", {"ts": "timestamptz", "car": "string", "v": "long"}, key=("car",), time="ts", partitions=2)


def planned(query: str) -> Topology:
    from tidemill.adapters.polars.stream.engine import PolarsStreamEngine

    frame = Frame.of(Input("f", "topic", TOPIC)).sql(query).to_table("out")
    return plan_topology("s", [frame], PolarsStreamEngine().columns_of, {"f": 2})


def test_a_stream_sees_the_steps_of_the_verbs() -> None:
    """So a window by the topic's key needs no exchange, and what refuses a verb refuses the query."""
    found = planned("select car, sum(v) as s from self where v > 0 group by car, tumble(ts, interval '10 seconds')")
    assert [node.name for node in found.nodes] == ["f", "filter", "tumbling_window1", "select", "to_table"]
    kept = planned("select car, sum(v) as s from self group by car")
    assert kept.nodes[-1].changing == ("car",)
    with pytest.raises(DefinitionError, match="results that change need their key"):
        planned("select sum(v) as s from self group by car")
    with pytest.raises(DefinitionError, match="groups have no end"):
        planned("select car, median(v) as m from self group by car")


# What is refused

REFUSED = {
    "select car from self order by car": "ORDER BY: rows have no order of their own (line 1, column 22).",
    "select car\nfrom self\nlimit 3": "LIMIT: tables have no first rows, and a stream no end (line 3, column 1).",
    "select car from self join b using (car)": "a query is over one frame (line 1, column 22).",
    "select car from self, b": "a query is over one frame",
    "select car from elsewhere": "elsewhere: a query is over self (line 1, column 17).",
    "select car from self union select car from self": "UNION is not for frames (line 1, column 22).",
    "select 1": "it does not say FROM self (line 1, column 8).",
    "insert into t values (1)": "a query begins with SELECT (line 1, column 13).",
    "select car from self; select car from self": "there are 2 statements.",
    "select count(*) as n from self": "aggregates over all rows, without GROUP BY (line 1, column 8).",
    "select car, v from self group by car": "v is no key, and in no aggregate (line 1, column 13).",
    "select v * 2 from self": "v * 2 has no name (line 1, column 8).",
    "select v, x as v from self": 'there are two columns "v" (line 1, column 11).',
    "select sum(v) over () as s from self": "OVER looks at other rows (line 1, column 8).",
    "select row_number() over (order by v) as s from self": "OVER looks at other rows (line 1, column 8).",
    "select v from self where v in (select v from self)": "IN takes a list of values (line 1, column 26).",
    "select (select 1) as v from self": "a query within an expression is not for frames (line 1, column 16).",
    "select now() as n from self": 'there is no function "now" (line 1, column 8).',
    "select current_timestamp as n from self": "the time of now changes from run to run",
    "select uper(car) as n from self": 'there is no function "uper" (line 1, column 8).',
    "select v from self where count(*) > 1": "COUNT(*) in WHERE (line 1, column 26).",
    "select max(min(v)) as m from self group by car": "an aggregate within an aggregate (line 1, column 12).",
    "select tumble(ts, interval '1 day') as t from self": "tumble stands in GROUP BY (line 1, column 8).",
    "select count(*) as n from self group by tumble(ts, interval '1 month')":
        "INTERVAL '1' MONTH is no interval of one length (line 1, column 41).",
    "select count(*) as n from self group by hop(ts, interval '1 day')": "hop is not written so (line 1, column 41).",
    "select count(*) as n from self group by tumble(ts, interval '1 day'), session(ts, interval '1 day')":
        "a second window (line 1, column 71).",
    "select car from self having v > 1": "HAVING is behind GROUP BY (line 1, column 22).",
    "select distinct on (car) v from self": "DISTINCT ON keeps one row of several by an order (line 1, column 8).",
    "select car like v as l from self": "LIKE takes a text (line 1, column 8).",
    "select substring(car, 0) as l from self": "substring: characters are counted from 1 (line 1, column 8).",
    "select round(v, x) as l from self": "round: argument 2 is a whole number, written out (line 1, column 8).",
    "select upper(car, v) as l from self": "upper: it does not take 2 arguments (line 1, column 8).",
    "select ? as x from self": "there are no parameters",
    "select cast(v as foo) as x from self": "foo is no type of a column (line 1, column 13).",
    "select car frm self where": 'Invalid expression / Unexpected token near "self" (line 1, column 16).',
    "with recursive a as (select v from self) select v from a": "WITH RECURSIVE is not for frames (line 1, column 6).",
    "select car, count(*) as n from self group by rollup (car)": "several groupings at once (line 1, column 54).",
}  # fmt: skip


@pytest.mark.parametrize("query", REFUSED)
def test_what_frames_do_not_have_is_refused_where_it_is_written(query: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        Frame.literal(ROWS).sql(query)
    assert refused.value.what.startswith(f"sql: {REFUSED[query]}")
    assert refused.value.where is not None
    assert refused.value.where.startswith(__file__)
    assert refused.value.hint


def test_functions_that_cannot_be_called_are_refused() -> None:
    def bare(x):  # type: ignore[no-untyped-def]  # what is tested
        return x

    f = Frame.literal(ROWS)
    with pytest.raises(DefinitionError, match='of "bare" is not annotated'):
        f.sql("select bare(v) as x from self", functions={"bare": bare})
    with pytest.raises(DefinitionError, match='SQL has a function "upper" already'):
        f.sql("select upper(car) as x from self", functions={"upper": shout})
    with pytest.raises(DefinitionError, match="plus takes 2 arguments, not 1"):
        f.sql("select plus(v) as x from self", functions={"plus": plus})
    with pytest.raises(DefinitionError, match="is no dict"):
        f.sql("select plus(v) as x from self", functions=[plus])  # type: ignore[arg-type]  # what is tested
    with pytest.raises(DefinitionError, match="no text"):
        f.sql(1)  # type: ignore[arg-type]  # what is tested


def test_a_function_that_fails_names_the_row_and_the_users_line() -> None:
    def fails(name: str) -> str:
        raise ValueError("no such name")

    with pytest.raises(ValueError, match="no such name") as failed:
        run("select fails(car) as x from self", fails=fails)
    assert any("map_rows(fails)" in note and __file__ in note for note in failed.value.__notes__)


def test_every_step_remembers_the_line_of_the_query() -> None:
    frame = Frame.literal(ROWS).sql(
        "select shout(car) as s from self where v > 0 group by shout(car)", functions={"shout": shout}
    )
    assert {step.at.file for step in frame.operations if step.at} == {__file__}
    assert all(step.at for step in frame.operations)


def test_times_with_a_zone_are_compared_with_literals_that_have_one() -> None:
    rows = pl.DataFrame({"ts": [datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)]})
    frame = Frame.literal(rows).sql("select ts from self where ts > timestamptz '2026-01-01 13:00:00+00:00'")
    assert PolarsEngine().collect(frame, {}).height == 1
