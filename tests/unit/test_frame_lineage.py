"""Which columns the columns of a frame come from: verb by verb, and as a property that the engine judges."""

from __future__ import annotations

import warnings
from datetime import timedelta

import polars as pl
import polars.selectors as cs
import pytest

import tidemill as tm
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.model.frame import Frame, Input
from tidemill.plan.frame_lineage import frame_lineage

warnings.filterwarnings("ignore", message=".*serial.*")

ENGINE = PolarsEngine()
T = {
    "t": pl.DataFrame({
        "k": [1, 2, 2], "at": [pl.Series([0]).cast(pl.Datetime("us")).item()] * 3, "x": [1.0, 2.0, 3.0],
        "y": [1, 2, 3], "tags": [["a"], [], ["b", "c"]], "s": [{"p": 1, "q": "u"}] * 3,
    }),
    "r": pl.DataFrame({
        "k": [1, 2], "at": [pl.Series([0]).cast(pl.Datetime("us")).item()] * 2, "x": [5.0, 6.0], "z": ["a", "b"],
    }),
}  # fmt: skip


def t() -> Frame:
    return Frame.of(Input("t"))


def r() -> Frame:
    return Frame.of(Input("r"))


def _twice(row):
    return row


#: Verb -> what it makes, and what is told: as in test_sql_lineage.py, `!` for unknown.
CASES = {
    "select": (
        lambda: t().select("k", tm.col("x").alias("v"), n=tm.col("x") + tm.col("y"), one=1),
        "k = ~t.k; v = ~t.x; n = +t.x +t.y; one =",
    ),
    "with_columns replaces": (
        lambda: t().select("k", "x").with_columns(x=tm.col("x") * 2, z=tm.col("k")),
        "k = ~t.k; x = +t.x; z = ~t.k",
    ),
    "selectors pair": (
        lambda: t().select(cs.numeric() * pl.col("x").max(), pl.col("k", "y").name.suffix("_1")),
        "k = +t.k +t.x; x = +t.x; y = +t.y +t.x; k_1 = ~t.k; y_1 = ~t.y",
    ),
    "a selector in one": (lambda: t().select(m=pl.max_horizontal(cs.numeric())), "m = +t.k +t.x +t.y"),
    "conditions steer": (
        lambda: t().select(c=pl.when(pl.col("k") > 1).then(pl.col("x")).otherwise(0), o=pl.col("x").sum().over("k")),
        "c = +t.x ?t.k; o = +t.x ?t.k",
    ),
    "filter": (lambda: t().filter(tm.col("y") > 1).select("x"), "x = ~t.x | t.y"),
    "rename drop cast": (
        lambda: t().rename(x="v").drop("at", "tags", "s").cast(y="string"),
        "k = ~t.k; v = ~t.x; y = +t.y",
    ),
    "rename swaps": (lambda: t().select("x", "y").rename(x="y", y="x"), "y = ~t.x; x = ~t.y"),
    "explode": (lambda: t().select("k", "tags").explode("tags"), "k = ~t.k; tags = +t.tags | t.tags"),
    "unnest": (lambda: t().select("k", "s").unnest("s"), "k = ~t.k; p = +t.s; q = +t.s"),
    "group_by": (
        lambda: t().group_by("k", half=tm.col("y") // 2).agg(n=tm.agg.count(), m=tm.agg.mean("x")),
        "k = ~t.k; half = +t.y; n = ; m = +t.x | t.k t.y",
    ),
    "latest goes by time": (
        lambda: t().group_by("k").agg(v=tm.agg.latest("x", on="at")), "k = ~t.k; v = +t.x ?t.at | t.k"
    ),
    "window": (
        lambda: t().tumbling_window("1h", on="at", by="k").agg(n=tm.agg.sum("x")).final(),
        "k = ~t.k; window_start = +t.at; window_end = +t.at; n = +t.x | t.k t.at",
    ),
    "join": (
        lambda: t().select("k", "x").join(r(), on="k"),
        "k = ~t.k; x = ~t.x; at = ~r.at; x_right = ~r.x; z = ~r.z | t.k r.k",
    ),
    "outer join": (
        lambda: t().select("k", "x").join(r().select("k", "z"), on="k", how="outer"),
        "k = +t.k +r.k; x = ~t.x; z = ~r.z | t.k r.k",
    ),
    "right join": (
        lambda: t().select("k", "x").join(r().select("k", "z"), on="k", how="right"),
        "x = ~t.x; k = ~r.k; z = ~r.z | t.k r.k",
    ),
    "semi join": (
        lambda: t().select("x", "k").join(r().filter(tm.col("z") == "a"), on="k", how="semi"),
        "x = ~t.x; k = ~t.k | t.k r.k r.z",
    ),
    "a lookup leaves rows alone": (
        lambda: t().select("k", "x").join_lookup(r().select("k", "z"), on="k"),
        "k = ~t.k; x = ~t.x; z = ~r.z ?t.k ?r.k",
    ),
    "asof": (
        lambda: t().select("at", "x", "k").join_asof(r().select("at", "k", "z"), on="at", by="k"),
        "at = ~t.at; x = ~t.x; k = ~t.k; z = ~r.z ?t.k ?r.k ?t.at ?r.at",
    ),
    "interval": (
        lambda: t().select("at", "x").join_interval(r().select("at", "z"), on="at", within=timedelta(hours=1)),
        "at = ~t.at; x = ~t.x; at_right = ~r.at; z = ~r.z | t.at r.at",
    ),
    "concat": (
        lambda: t().select("k", "x").concat(r().select(k="k", z="z")), "k = ~t.k ~r.k; x = ~t.x; z = ~r.z"
    ),
    "unique": (lambda: t().select("k", "x").unique("k"), "k = ~t.k; x = ~t.x | t.k"),
    "sql": (
        lambda: t().sql("select k, sum(x) as n from self where y > 1 group by k"), "k = ~t.k; n = +t.x | t.y t.k"
    ),
    "a function of rows": (
        lambda: t().select("k", "x").map_rows(_twice, adds={"z": "long"}),
        "k = !t.k !t.x; x = !t.k !t.x; z = !t.k !t.x",
    ),
    "what it decides is kept": (
        lambda: t().filter(tm.col("y") > 1).select("x").flat_map(_twice, returns={"z": "long"}).rename(z="w"),
        "w = !t.x !t.y",
    ),
    "a function that declares nothing": (
        lambda: t().select("k", "x").map_rows(_twice).filter(tm.col("m") > 1), "m = !t.k !t.x; n = !t.k !t.x"
    ),
    "a function that filters": (
        lambda: t().select("k", "x").filter(lambda row: row["k"]), "k = ~t.k; x = ~t.x | t.k t.x"
    ),
    "reduce": (
        lambda: t().select("k", "x").reduce("k", {"n": 0}, lambda state, row: state), "m = !t.k !t.x; n = !t.k !t.x"
    ),
    "rows in memory": (lambda: Frame.literal(pl.DataFrame({"a": [1]})), "a ="),
}  # fmt: skip

_SIGNS = {"copied": "~", "computed": "+", "decides": "?", "unknown": "!"}


def _lineage(frame: Frame):
    def names(some: Frame):
        schema = ENGINE.columns(some, T)
        return None if schema is None else [column.name for column in schema]

    return frame_lineage(
        frame, names, lambda source: None if source.scope == "literal" else source.name, result=("m", "n")
    )


@pytest.mark.parametrize(("make", "expected"), CASES.values(), ids=CASES)
def test_what_a_frame_is_told_to_come_from(make, expected):
    """Every verb: what it copies, computes and goes by; what a user's function does is told as unknown."""
    found = _lineage(make())
    told, _, decides = expected.partition("|")
    wanted = {
        name.strip(): sorted(origins.split()) for name, _, origins in (p.partition("=") for p in told.split("; "))
    }
    assert {
        one.name: sorted(_SIGNS[kind] + str(column) for column, kind in one.origins.items()) for one in found.columns
    } == wanted
    assert {str(column) for column in found.decides} == set(decides.split())


def test_columns_are_unknown_where_nobody_can_tell_their_names():
    """A function that declares nothing, and a result that nobody has seen yet."""
    frame = t().map_rows(_twice)
    assert frame_lineage(frame, lambda _: None, lambda source: source.name).unknown.startswith("A Python function")


#: Frames for the property: steps of many rows, and expressions that take values by others.
JUDGED = ["selectors pair", "conditions steer", "group_by", "outer join", "a lookup leaves rows alone", "concat"]


@pytest.mark.parametrize("case", JUDGED)
def test_what_is_not_told_of_a_frame_does_not_matter(case):
    """Other values in all columns that a result is not told to come from leave it as it was."""
    make, _ = CASES[case]
    found, before = _lineage(make()), ENGINE.collect(make(), T)
    for one in found.columns:
        told = {str(column) for column in (*one.origins, *found.decides)}
        # A lookup's keys are to be there once, so that they are not changed.
        other = {
            table: rows.with_columns(
                _other(rows[name])
                for name in rows.columns
                if f"{table}.{name}" not in told and name != "s" and (table, name) != ("r", "k")
            )
            for table, rows in T.items()
        }
        after = ENGINE.collect(make(), other)
        assert sorted(map(repr, after[one.name])) == sorted(map(repr, before[one.name])), one.name


def _other(values: pl.Series) -> pl.Series:
    """Other values of the same type."""
    if values.dtype == pl.String:
        return (values + "!").alias(values.name)
    if values.dtype == pl.List:
        return pl.Series(values.name, [[*one, "new"] for one in values.to_list()])
    return (values + (timedelta(days=2) if values.dtype.is_temporal() else 7)).alias(values.name)
