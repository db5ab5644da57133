"""Mistakes with frames: one error each, with the user's line and what to write instead. The texts are golden."""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import Any

import pandas as pd
import polars as pl
import pytest
from polars import col

from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.adapters.polars.function import run_function
from tidemill.model import agg
from tidemill.model.errors import DataError, DefinitionError, SettingsError, TidemillError, UnknownName, UserError
from tidemill.model.frame import VERBS, Frame, Input, concat
from tidemill.model.frame.habit import HABITS
from tidemill.model.table import Schema

HERE = __file__


def frame() -> Frame:
    return Frame.of(Input("departures"))


def message(program: Any) -> str:
    """The error's text, with the line of `program` written as LINE."""
    with pytest.raises(TidemillError) as caught:
        program(frame())
    assert isinstance(caught.value, UserError)
    return str(caught.value).replace(HERE, "FILE").replace(f":{inspect.getsourcelines(program)[1]}\n", ":LINE\n")


GOLDEN: list[tuple[Any, str]] = [
    (lambda f: f[f["x"] > 3], "f[condition] does not filter.\n  at: FILE:LINE\n  try: f.filter(condition)"),
    (lambda f: f[["a", "b"]], 'f[[...]] does not select.\n  at: FILE:LINE\n  try: f.select("a", "b")'),
    (lambda f: f[0], "f[0]: rows have no positions.\n  at: FILE:LINE\n  try: f.filter(condition)"),
    (lambda f: f[1:5], "f[1:5]: rows have no positions.\n  at: FILE:LINE\n  try: f.filter(condition)"),
    (
        lambda f: f[None],
        'f[None] is no column.\n  at: FILE:LINE\n  try: f["x"] is a column, f.filter(condition) keeps rows',
    ),
    (
        lambda f: f.merge(f, on="x"),
        'A frame has no "merge".\n  at: FILE:LINE\n  try: f.join(other, on="key", how="left")',
    ),
    (
        lambda f: f.groupby("x"),
        'A frame has no "groupby".\n  at: FILE:LINE\n  try: f.group_by("key").agg(n=tm.agg.count())',
    ),
    (
        lambda f: f.apply(print, axis=1),
        'A frame has no "apply".\n  at: FILE:LINE\n'
        '  try: f.map_rows(function) for Python on a row; expressions such as f["x"] * 2 are far faster',
    ),
    (
        lambda f: f.fillna(0),
        'A frame has no "fillna".\n  at: FILE:LINE\n  try: f.with_columns(f["x"].fill_null(0))',
    ),
    (
        lambda f: f.loc[f["x"] > 3],
        'A frame has no "loc".\n  at: FILE:LINE\n  try: f.filter(condition).select(columns)',
    ),
    (
        lambda f: f.iloc[0],
        'A frame has no "iloc".\n  at: FILE:LINE\n  try: rows have no positions; f.filter(condition).select(columns)',
    ),
    (
        lambda f: f.head(),
        'A frame has no "head".\n  at: FILE:LINE\n'
        "  try: a frame has no data yet and tables have no first rows; f.filter(condition) keeps some",
    ),
    (lambda f: f.assign(y=1), 'A frame has no "assign".\n  at: FILE:LINE\n  try: f.with_columns(y=f["x"] * 2)'),
    (
        lambda f: f.drop_duplicates(),
        'A frame has no "drop_duplicates".\n  at: FILE:LINE\n  try: f.unique(["key"], keep="first")',
    ),
    (
        lambda f: f.sort_values("x"),
        'A frame has no "sort_values".\n  at: FILE:LINE\n'
        '  try: tables have no order of their own; declare it where the table is: @pipeline.table(sort=["x"])',
    ),
    (lambda f: f.query("x > 0"), 'A frame has no "query".\n  at: FILE:LINE\n  try: f.filter(f["x"] > 0)'),
    (lambda f: f.fliter(), 'A frame has no "fliter".\n  at: FILE:LINE\n  try: did you mean "filter"?'),
    (
        lambda f: f.tumbling("1s"),
        'A frame has no "tumbling".\n  at: FILE:LINE\n  try: did you mean "tumbling_window"?',
    ),
    (
        lambda f: f.speed > 3,
        f'A frame has no "speed".\n  at: FILE:LINE\n  try: '
        f'a column is f["speed"]; the verbs are {", ".join(sorted(VERBS))}',
    ),
    (lambda f: setattr(f, "kmh", 1), 'f.kmh = ... sets no column.\n  at: FILE:LINE\n  try: f["kmh"] = ...'),
    (
        lambda f: len(f),
        "len(f): a frame is a recipe; its rows are not there yet.\n  at: FILE:LINE\n"
        '  try: f.group_by("key").agg(n=tm.agg.count()) counts when it runs',
    ),
    (
        lambda f: list(f),
        "for ... in f: a frame is a recipe; its rows are not there yet.\n  at: FILE:LINE\n"
        "  try: f.map_rows(function) or f.flat_map(function) call you with every row",
    ),
    (
        lambda f: 1 if f else 0,
        "if f: a frame is a recipe; its rows are not there yet.\n  at: FILE:LINE\n"
        "  try: `if f is None` asks whether there is a frame at all",
    ),
    (
        lambda f: "x" in f,
        "'x' in f: a frame is a recipe; its rows are not there yet.\n  at: FILE:LINE\n"
        "  try: columns are known when it runs; name the ones that you need",
    ),
    (
        lambda f: f.__setitem__("carrier", "AA"),
        "f[\"carrier\"] = 'AA' could mean a column or a text.\n  at: FILE:LINE\n"
        "  try: f[\"carrier\"] = tm.col('AA') or f[\"carrier\"] = tm.lit('AA')",
    ),
    (
        lambda f: f.filter("x > 3"),
        'filter: "x > 3" is text, not a condition.\n  at: FILE:LINE\n  try: f.filter(f["x"] > 0)',
    ),
    (
        lambda f: f.filter(f["x"] > 0, lambda row: row["x"] > 3),
        "filter: a Python function is not an expression.\n  at: FILE:LINE\n"
        "  try: f.map_rows(function) changes rows, f.flat_map(function) also leaves rows out",
    ),
    (
        lambda f: f.with_columns(y=pl.Series([1])),
        "with_columns: a polars Series is data in memory; a frame is a recipe without data.\n  at: FILE:LINE\n"
        '  try: f.with_columns(y=tm.col("x") * 2)',
    ),
    (
        lambda f: f.with_columns(y=agg.mean("x")),
        "with_columns: mean(x) needs a group or a window.\n  at: FILE:LINE\n"
        '  try: f.group_by("key").agg(x=tm.agg.mean(...))',
    ),
    (
        lambda f: f.group_by("k").mean(),
        "This is no frame yet, so .mean cannot follow.\n  at: FILE:LINE\n"
        '  try: say what to compute: .agg(n=tm.agg.count(), mean_x=tm.agg.mean("x"))',
    ),
    (
        lambda f: f.group_by("k")["x"],
        "This is no frame yet, so ['x'] cannot follow.\n  at: FILE:LINE\n"
        '  try: say what to compute: .agg(n=tm.agg.count(), mean_x=tm.agg.mean("x"))',
    ),
    (
        lambda f: f.group_by("k").agg({"x": "mean"}),
        "agg: {'x': 'mean'} is no aggregate.\n  at: FILE:LINE\n  try: n=tm.agg.count(), mean_x=tm.agg.mean(\"x\")",
    ),
    (
        lambda f: f.group_by("k").agg(agg.mean("x")),
        "agg: mean(x) needs a name.\n  at: FILE:LINE\n  try: mean_x=tm.agg.mean(...)",
    ),
    (
        lambda f: f.group_by("k").agg(k=agg.mean("x")),
        'agg: the name "k" is taken by a key or by the window.\n  at: FILE:LINE\n  try: k_1=...',
    ),
    (
        lambda f: f.group_by("k").agg(x=agg.latest("x")),
        'agg: x=latest(...) does not say by which time.\n  at: FILE:LINE\n  try: on="time"',
    ),
    (
        lambda f: f.tumbling_window("1h", on="t").agg(n=agg.count()).filter(col("n") > 1),
        "This is no frame yet, so .filter cannot follow.\n  at: FILE:LINE\n"
        "  try: say when results are given: .final() (a closed window, once) or .current() (at every change)",
    ),
    (
        lambda f: f.tumbling_window("1 month", on="t"),
        "every='1 month' is not a duration.\n  at: FILE:LINE\n"
        '  try: "10s", "5m", "1h", "1d", "1h30m" or a timedelta; months and years differ in length: '
        'group_by(month=tm.col("t").dt.truncate("1mo"))',
    ),
    (
        lambda f: f.count_window(5, by="window_start"),
        'count_window: "window_start" cannot be a key, the result has its own.\n  at: FILE:LINE\n'
        '  try: f.rename({"window_start": "outer_window_start"})',
    ),
    (
        lambda f: f.session_window("0s", on="t"),
        "gap='0s' must be longer than nothing.\n  at: FILE:LINE\n  try: gap=\"10s\"",
    ),
    (
        lambda f: f.join(f, on="k", how="full"),
        "join: how='full' is not among its choices.\n  at: FILE:LINE\n"
        '  try: one of "inner", "left", "right", "outer", "semi", "anti"',
    ),
    (
        lambda f: f.join("airports", on="k"),
        "join: str is no frame.\n  at: FILE:LINE\n"
        '  try: another parameter of the function, tm.whole("table"), or tm.Frame.literal(rows)',
    ),
    (
        lambda f: f.unique("k", within="1h"),
        'unique: within= and on= go together.\n  at: FILE:LINE\n  try: f.unique("id", within="1h", on="time")',
    ),
    (
        lambda f: f.reduce("k", 0, max),
        "reduce: initial=0 is no dict.\n  at: FILE:LINE\n"
        '  try: f.reduce("key", {"total": 0}, function); for one value: .agg(x=tm.agg.reduce("x", 0, function))',
    ),
    (lambda f: f.map_rows(5), "map_rows: 5 is no Python function.\n  at: FILE:LINE\n  try: f.map_rows(function)"),
    (
        lambda f: f.map_rows(print, adds={}, returns={}),
        "map_rows: adds= and returns= exclude each other.\n  at: FILE:LINE\n  try: returns= names all columns",
    ),
    (
        lambda f: f.cast(x="lang"),
        'cast: column x: "lang" is not a column type.\n  at: FILE:LINE\n'
        "  try: one of boolean, int, long, float, double, "
        "date, time, timestamp, timestamptz, string, binary, uuid, decimal(p,s), list<t>, map<k,v>, struct<name:t,...>",
    ),
    (
        lambda f: agg.quantile("x", 95),
        'quantile: 95 is no share.\n  at: FILE:LINE\n  try: tm.agg.quantile("x", 0.95)',
    ),
    (
        lambda f: agg.mean(5),  # type: ignore[arg-type]
        "mean: 5 is neither a column's name nor an expression.\n  at: FILE:LINE\n"
        '  try: tm.agg.mean("x") or tm.agg.mean(tm.col("x") * 2)',
    ),
    (
        lambda f: concat(f, None),  # type: ignore[arg-type]
        "concat: NoneType is no frame.\n  at: FILE:LINE\n"
        '  try: another parameter of the function, tm.whole("table"), or tm.Frame.literal(rows)',
    ),
    (
        lambda f: f.rename({"a": 1}),
        'rename: {\'a\': 1} maps no names to names.\n  at: FILE:LINE\n  try: f.rename({"old": "new"})',
    ),
    (
        lambda f: f.count_window(0),
        'count_window: 0 is no number of rows.\n  at: FILE:LINE\n  try: f.count_window(100, by="key")',
    ),
]


@pytest.mark.parametrize(("program", "text"), GOLDEN, ids=[text.partition("\n")[0] for _, text in GOLDEN])
def test_a_mistake_in_a_definition_says_what_to_write(program: Any, text: str) -> None:
    assert message(program) == text


def test_every_habit_is_no_verb() -> None:
    """A verb that exists must not be called a habit; and hasattr, copying and notebooks see no attribute."""
    for habit in HABITS:
        assert habit not in VERBS
        assert not hasattr(frame(), habit)
    for verb in VERBS:
        assert callable(getattr(frame(), verb))
    assert not hasattr(frame(), "_repr_mimebundle_")
    assert not hasattr(frame().group_by("k"), "sum")


# What shows once columns are known

SCHEMA = Schema.of(
    {"carrier": "string", "dep_delay": "double", "t": "timestamp", "tags": "list<string>", "at": "struct<lat:double>"}
)


def checked(program: Any) -> str:
    with pytest.raises(UserError) as caught:
        PolarsEngine().columns(program(frame()), {"departures": SCHEMA})
    return str(caught.value).replace(HERE, "FILE").replace(f":{inspect.getsourcelines(program)[1]}\n", ":LINE\n")


COLUMNS: list[tuple[Any, str]] = [
    (
        lambda f: f.filter(col("dep_dealy") > 0).select("x"),
        'There is no column "dep_dealy".\n  at: FILE:LINE\n  try: did you mean "dep_delay"?',
    ),
    (
        lambda f: f.rename(carrier="airline").group_by("carrier").agg(n=agg.count()),
        'There is no column "carrier".\n  at: FILE:LINE\n  try: known: airline, at, dep_delay, t, tags',
    ),
    (
        lambda f: f.group_by("carrier").agg(n=agg.mean("delay")),
        'There is no column "delay".\n  at: FILE:LINE\n  try: did you mean "dep_delay"?',
    ),
    (
        lambda f: f.tumbling_window("1h", on="time").agg(n=agg.count()).final(),
        'There is no column "time".\n  at: FILE:LINE\n  try: known: at, carrier, dep_delay, t, tags',
    ),
    (lambda f: f.drop("carier"), 'There is no column "carier".\n  at: FILE:LINE\n  try: did you mean "carrier"?'),
    (lambda f: f.cast(carier="int"), 'There is no column "carier".\n  at: FILE:LINE\n  try: did you mean "carrier"?'),
    (lambda f: f.rename(carier="c"), 'There is no column "carier".\n  at: FILE:LINE\n  try: did you mean "carrier"?'),
    (lambda f: f.explode("tag"), 'There is no column "tag".\n  at: FILE:LINE\n  try: did you mean "tags"?'),
    (lambda f: f.unnest("att"), 'There is no column "att".\n  at: FILE:LINE\n  try: did you mean "at"?'),
    (lambda f: f.unique("carriers"), 'There is no column "carriers".\n  at: FILE:LINE\n  try: did you mean "carrier"?'),
    (
        lambda f: f.join_interval(f, on="t", by="carriers", within="1s"),
        'There is no column "carriers".\n  at: FILE:LINE\n  try: did you mean "carrier"?',
    ),
    (
        lambda f: f.join(f.select("t"), on="carrier"),
        'There is no column "carrier" in "departures", which is joined.\n  at: FILE:LINE\n  try: known: t',
    ),
    (
        lambda f: f.reduce("carriers", {}, max),
        'There is no column "carriers".\n  at: FILE:LINE\n  try: did you mean "carrier"?',
    ),
    (
        lambda f: f.reduce("tags", {}, max),
        'reduce: "tags" is of type List(String), which cannot be a key.\n  at: FILE:LINE\n'
        "  try: take plain columns as keys; f.unnest(...) makes columns of a struct",
    ),
    (
        lambda f: f.filter(col("carrier") > 5),
        "filter: cannot compare string with numeric type (i32).\n  at: FILE:LINE\n"
        '  try: the step is: filter [(col("carrier")) > (dyn int: 5)]',
    ),
    (
        lambda f: f.with_columns(y=col("dep_delay").str.to_uppercase()),
        "with_columns: invalid series dtype: expected `String`, got `f64` for series with name `dep_delay`.\n"
        '  at: FILE:LINE\n  try: the step is: with_columns y=col("dep_delay").str.to_uppercase()',
    ),
    (
        lambda f: f.with_columns(y=col("at").struct.field("long")),
        'with_columns: the struct has no field "long".\n  at: FILE:LINE\n'
        '  try: the step is: with_columns y=col("at").struct.field_by_name(long)()',
    ),
    (
        lambda f: f.filter(col("dep_delay")),
        "filter: filter predicate must be of type `Boolean`, got `Float64`.\n  at: FILE:LINE\n"
        '  try: the step is: filter col("dep_delay")',
    ),
    (
        lambda f: f.explode("carrier"),
        'explode: column "carrier" is of type String, not a list.\n  at: FILE:LINE\n'
        '  try: f["carrier"] = f["carrier"].str.split(",") makes a list of text',
    ),
    (
        lambda f: f.session_window("1h", on="dep_delay").agg(n=agg.count()).final(),
        'Column "dep_delay" is of type Float64, not a time.\n  at: FILE:LINE\n'
        '  try: f["dep_delay"] = pl.from_epoch(f["dep_delay"], time_unit="s")',
    ),
    (
        lambda f: f.with_columns(y=col("t") - col("t")),
        "Column \"y\" is of type Duration(time_unit='us'), which a table cannot hold.\n"
        '  try: f["y"] = f["y"].dt.total_seconds(fractional=True)',
    ),
]


@pytest.mark.parametrize(("program", "text"), COLUMNS, ids=[text.partition("\n")[0] for _, text in COLUMNS])
def test_a_mistake_with_columns_is_told_before_any_row_is_read(program: Any, text: str) -> None:
    assert checked(program) == text


def test_the_same_mistakes_come_from_a_run() -> None:
    """The text does not depend on whether a check or a run found it."""
    with pytest.raises(UnknownName) as caught:
        run_function(lambda f: f.filter(col("dep_dealy") > 0), pl.DataFrame({"dep_delay": [1]}))
    assert caught.value.hint == 'did you mean "dep_delay"?'


def test_values_that_do_not_fit_are_data_errors() -> None:
    """The program is right and the rows are not."""
    rows = pl.DataFrame({"s": ["2024-01-01", "yesterday"], "n": [1, 2]})
    with pytest.raises(DataError) as caught:
        run_function(lambda f: f.with_columns(t=col("s").str.to_datetime("%Y-%m-%d")).drop("n"), rows)
    assert caught.value.what.startswith("with_columns: conversion from `str` to `datetime[μs]` failed in column 's'")
    assert caught.value.where is not None
    with pytest.raises(DataError) as twice:
        run_function(lambda f, g: f.join_lookup(g, on="n"), rows, airports := pl.DataFrame({"n": [1, 1]}))
    assert airports.height == 2
    assert str(twice.value).splitlines()[0] == 'join_lookup: "argument 2" has more than one row for n=1.'
    assert twice.value.hint == "other.unique(['n']), or f.join(...) if all of them are meant"


def test_an_exception_in_an_expressions_function_stays_itself() -> None:
    def bad(value: int) -> int:
        raise LookupError("no such carrier")

    with pytest.raises(LookupError, match="no such carrier") as caught:
        run_function(
            lambda f: f.with_columns(col("n").map_elements(bad, return_dtype=pl.Int64)), pl.DataFrame({"n": [1]})
        )
    assert any(entry.name == "bad" for entry in caught.traceback)


def test_inputs_that_are_missing_or_no_tables() -> None:
    with pytest.raises(UnknownName) as missing:
        PolarsEngine().collect(frame(), {"departure": pl.DataFrame()})
    assert str(missing.value) == 'There is no input "departures".\n  try: did you mean "departure"?'
    with pytest.raises(DefinitionError, match='"departures" is list, not a table'):
        PolarsEngine().collect(frame(), {"departures": [1, 2]})


def test_pandas_is_named_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(SettingsError) as caught:
        PolarsEngine().call_pandas(lambda f: f, {"f": Frame.literal(pl.DataFrame({"a": [1]}))}, {})
    assert str(caught.value) == 'pandas is not installed.\n  try: pip install "tidemill[pandas]"'


def test_a_pandas_function_must_return_pandas() -> None:
    def clean(f: pd.DataFrame) -> Any:
        return None if f.empty else Frame.literal(f)

    for rows, text in [
        ({"a": [1]}, '"clean" takes pandas frames and returned a Tidemill frame.'),
        ({"a": []}, '"clean" returned nothing.'),
    ]:
        with pytest.raises(DefinitionError) as caught:
            PolarsEngine().call_pandas(clean, {"f": Frame.literal(pl.DataFrame(rows))}, {})
        assert caught.value.what == text


def test_a_time_of_another_kind_is_refused() -> None:
    """A time with a zone and one without have no order."""
    naive = pl.DataFrame({"t": [datetime(2024, 1, 1)], "v": [1]})
    zoned = naive.with_columns(col("t").dt.replace_time_zone("UTC"))
    with pytest.raises(DefinitionError) as caught:
        run_function(lambda f, g: f.join_asof(g, on="t"), naive, zoned)
    assert caught.value.what == 'join_asof: "t" has a zone on one side and none on the other.'
