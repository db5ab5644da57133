"""Stateless verbs equal plain Python on each row, and keep the order of rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars import col

from harness.examples import few
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.adapters.polars.function import run_function
from tidemill.model.errors import DataError, DefinitionError
from tidemill.model.frame import Frame, concat

Row = dict[str, Any]
SCHEMA = {
    "i": pl.Int64,
    "x": pl.Float64,
    "s": pl.String,
    "l": pl.List(pl.Int64),
    "p": pl.Struct({"lat": pl.Float64, "lon": pl.Float64}),
}

rows_of = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.one_of(st.none(), st.integers(-(10**6), 10**6)),
            "x": st.one_of(st.none(), st.floats(-1e6, 1e6)),
            "s": st.one_of(st.none(), st.text("ab ", max_size=3)),
            "l": st.one_of(st.none(), st.lists(st.one_of(st.none(), st.integers(0, 9)), max_size=3)),
            "p": st.one_of(st.none(), st.fixed_dictionaries({"lat": st.floats(-90, 90), "lon": st.none()})),
        }
    ),
    max_size=20,
)

Program = Callable[[Frame], Frame]
Oracle = Callable[[Row], list[Row]]


def whether(condition: bool | None, row: Row) -> list[Row]:
    return [row] if condition else []


def exploded(row: Row) -> list[Row]:
    return [{**row, "l": e} for e in ([None] if row["l"] is None else row["l"])]


def unnested(row: Row) -> list[Row]:
    members = row["p"] or {"lat": None, "lon": None}
    return [{"i": row["i"], "x": row["x"], "s": row["s"], "l": row["l"], **members}]


def assigned(f: Frame) -> Frame:
    f["y"] = f["x"] * 3.6
    f["i"] = f["i"] + 1
    f["one"] = 1
    return f


def kept_in_python(row: Row) -> list[Row]:
    return [row] * 2 if row["i"] is not None and row["i"] % 2 else []


PROGRAMS: dict[str, tuple[Program, Oracle]] = {
    "select": (
        lambda f: f.select("s", "i", double=col("i") * 2, five=5),
        lambda r: [{"s": r["s"], "i": r["i"], "double": None if r["i"] is None else r["i"] * 2, "five": 5}],
    ),
    "select expressions": (
        lambda f: f.select([col("i").is_null().alias("no_i"), "s"]),
        lambda r: [{"no_i": r["i"] is None, "s": r["s"]}],
    ),
    "with_columns": (
        lambda f: f.with_columns(col("i").fill_null(0), late=col("x") > 15, copy="s"),
        lambda r: [{**r, "i": r["i"] or 0, "late": None if r["x"] is None else r["x"] > 15, "copy": r["s"]}],
    ),
    "assignment": (
        assigned,
        lambda r: [
            {
                **r,
                "i": None if r["i"] is None else r["i"] + 1,
                "y": None if r["x"] is None else r["x"] * 3.6,
                "one": 1,
            }
        ],
    ),
    "filter": (
        lambda f: f.filter(f["i"] > 0, f["s"].is_not_null()),
        lambda r: whether(r["i"] is not None and r["i"] > 0 and r["s"] is not None, r),
    ),
    "rename": (
        lambda f: f.rename({"i": "x", "x": "i"}).rename(s="text"),
        lambda r: [{"x": r["i"], "i": r["x"], "text": r["s"], "l": r["l"], "p": r["p"]}],
    ),
    "drop": (lambda f: f.drop("x", "l").drop(["p"]), lambda r: [{"i": r["i"], "s": r["s"]}]),
    "cast": (
        lambda f: f.cast({"i": "string", "x": pl.Int64}, l="list<double>"),
        lambda r: [
            {
                **r,
                "i": None if r["i"] is None else str(r["i"]),
                "x": None if r["x"] is None else int(r["x"]),
                "l": None if r["l"] is None else [None if e is None else float(e) for e in r["l"]],
            }
        ],
    ),
    "explode": (lambda f: f.explode("l"), exploded),
    "unnest": (lambda f: f.unnest("p"), unnested),
    "map_rows": (
        lambda f: f.map_rows(lambda r: {**r, "n": len(r["l"] or [])}),
        lambda r: [{**r, "n": len(r["l"] or [])}],
    ),
    "flat_map": (lambda f: f.flat_map(kept_in_python), kept_in_python),
    "map_batches": (
        lambda f: f.map_batches(lambda df: df.filter(col("i") > 0).with_columns(z=col("s").str.len_bytes())),
        lambda r: whether(
            r["i"] is not None and r["i"] > 0, {**r, "z": None if r["s"] is None else len(r["s"].encode())}
        ),
    ),
    "chain": (
        lambda f: (
            f.filter(col("i").is_not_null())
            .map_rows(lambda r: {**r, "j": r["i"] + 1})
            .flat_map(lambda r: [r, r] if r["j"] % 2 else [])
            .with_columns(k=col("j") * 2)
            .select("i", "k")
        ),
        lambda r: [{"i": r["i"], "k": (r["i"] + 1) * 2}] * 2 if r["i"] is not None and (r["i"] + 1) % 2 else [],
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
@settings(max_examples=few(20), deadline=None)
@given(rows=rows_of)
def test_each_verb_equals_plain_python(name: str, rows: list[Row]) -> None:
    program, oracle = PROGRAMS[name]
    found = run_function(program, pl.DataFrame(rows, schema=SCHEMA))
    wanted = [made for row in rows for made in oracle(row)]
    assert found.to_dicts() == [{name: made[name] for name in found.columns} for made in wanted]
    if wanted:
        assert set(found.columns) == set(wanted[0])


@settings(max_examples=few(20), deadline=None)
@given(rows_of, rows_of)
def test_concat_matches_columns_by_name(one: list[Row], other: list[Row]) -> None:
    """A missing column is null, an integer meets a float, and the first frame's rows come first."""

    def program(f: Frame, g: Frame) -> Frame:
        return concat(f.select("i", "s"), g.select(i="x", p="p"))

    found = run_function(program, pl.DataFrame(one, schema=SCHEMA), pl.DataFrame(other, schema=SCHEMA))
    wanted = [{"i": r["i"], "s": r["s"], "p": None} for r in one] + [
        {"i": r["x"], "s": None, "p": r["p"]} for r in other
    ]
    assert found.to_dicts() == wanted


def test_concat_refuses_types_that_do_not_meet() -> None:
    """Polars alone would make text of the numbers."""
    f = Frame.literal(pl.DataFrame({"a": [1]}))
    with pytest.raises(DefinitionError, match='column "a" is of types that do not meet: Int64, String'):
        PolarsEngine().collect(concat(f, Frame.literal(pl.DataFrame({"a": ["x"]}))), {})


def test_expressions_see_the_whole_table() -> None:
    """On a table `x > x.mean()` means the mean of all rows, also behind a Python function and across batches."""
    rows = pl.DataFrame({"x": range(200_000)})
    for program in (lambda f: f, lambda f: f.map_rows(lambda r: r)):
        found = run_function(lambda f, p=program: p(f).filter(col("x") > col("x").mean()), rows)
        assert found.height == 100_000


def test_order_is_kept_over_many_batches() -> None:
    """With a filter, an explode and a function in between."""
    rows = pl.DataFrame({"x": range(120_000)})

    def program(f: Frame) -> Frame:
        return (
            f.filter(col("x") % 3 == 0)
            .map_rows(lambda r: {"y": [r["x"], r["x"] + 1]}, returns={"y": "list<long>"})
            .explode("y")
        )

    wanted = [x + d for x in range(0, 120_000, 3) for d in (0, 1)]
    assert run_function(program, rows)["y"].to_list() == wanted


def test_a_value_that_cannot_be_cast_is_a_data_error() -> None:
    """The rows are wrong, not the program: the message names value, step and line."""
    with pytest.raises(DataError) as caught:
        run_function(
            lambda f: f.drop("y").cast(x="long").filter(col("x") > 0), pl.DataFrame({"x": ["1", "one"], "y": [1, 2]})
        )
    assert re.match(r"cast: conversion from `str` to `i64` failed in column 'x' .*\[\"one\"\]", caught.value.what)
    assert caught.value.where is not None
    assert "test_frame_stateless.py" in caught.value.where
