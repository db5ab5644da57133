"""Joins and `unique` equal nested loops over the rows, for any rows, nulls and ties included."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars import col

from harness.examples import few
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.adapters.polars.function import run_function
from tidemill.model.errors import DataError, DefinitionError
from tidemill.model.frame import Frame

Row = dict[str, Any]
EPOCH = datetime(1970, 1, 1)
LEFT = {"t": pl.Datetime("us"), "k": pl.String, "m": pl.Int64, "v": pl.Int64}
RIGHT = {"t": pl.Datetime("us"), "k": pl.String, "m": pl.Int64, "w": pl.Int64}


def rows_of(value: str) -> st.SearchStrategy[list[Row]]:
    """Rows whose keys and times often meet; `value` numbers them."""
    one = st.fixed_dictionaries(
        {
            "t": st.one_of(st.none(), st.integers(-20, 20).map(lambda s: EPOCH + timedelta(seconds=s))),
            "k": st.sampled_from(["a", "b", None]),
            "m": st.sampled_from([1, 2, None]),
        }
    )
    return st.lists(one, max_size=12).map(lambda rows: [{**row, value: i} for i, row in enumerate(rows)])


def run(function: Callable[..., Frame], left: list[Row], right: list[Row] | None = None) -> list[Row]:
    frames = [pl.DataFrame(left, schema=LEFT)] + ([] if right is None else [pl.DataFrame(right, schema=RIGHT)])
    return run_function(function, *frames).to_dicts()


def meets(left: Row, right: Row, *names: str) -> bool:
    return all(left[n] is not None and left[n] == right[n] for n in names)


def pair(left: Row | None, right: Row | None, keys: tuple[str, ...]) -> Row:
    """A joined row: the left columns, then the right ones without the keys, `_right` where a name is taken."""
    row = {n: None if left is None else left[n] for n in LEFT}
    for name in RIGHT:
        if name in keys:
            row[name] = left[name] if left is not None else (right or {})[name]
        else:
            row[f"{name}_right" if name in LEFT else name] = None if right is None else right[name]
    return row


JOINS: tuple[Literal["inner", "left", "right", "outer", "semi", "anti"], ...] = (
    "inner", "left", "right", "outer", "semi", "anti",
)  # fmt: skip


@pytest.mark.parametrize("how", JOINS)
@settings(max_examples=few(20), deadline=None)
@given(left=rows_of("v"), right=rows_of("w"))
def test_join_equals_nested_loops(how: str, left: list[Row], right: list[Row]) -> None:
    """Null keys meet nothing. Rows come in the left frame's order (the right one's for a right join)."""
    keys = ("k", "m")
    found = run(lambda f, g: f.join(g, on=["k", "m"], how=how), left, right)
    pairs = [(r, s) for r in left for s in right if meets(r, s, *keys)]
    lonely = [r for r in left if not any(p is r for p, _ in pairs)]
    waiting = [s for s in right if not any(p is s for _, p in pairs)]
    if how == "semi":
        assert found == [r for r in left if r not in lonely]
        return
    if how == "anti":
        assert found == lonely
        return
    wanted = [pair(r, s, keys) for r, s in pairs]
    wanted += [pair(r, None, keys) for r in lonely if how in ("left", "outer")]
    wanted += [pair(None, s, keys) for s in waiting if how in ("right", "outer")]
    by = "w" if how == "right" else "v"

    def order(row: Row) -> tuple[Any, ...]:
        return (row[by] is None, row[by] or 0, row["w" if by == "v" else "v"] or 0)

    assert [{n: row[n] for n in pair(None, None, ()) if n in row} for row in found] == sorted(wanted, key=order)


def test_join_takes_different_names_of_keys() -> None:
    """The left name stays."""
    left = [{"t": None, "k": "a", "m": 1, "v": 0}]
    found = run(lambda f, g: f.join(g.select(code="k", w="w"), on={"k": "code"}), left, left_as_right(left))
    assert found == [{"t": None, "k": "a", "m": 1, "v": 0, "w": 0}]


def left_as_right(rows: list[Row]) -> list[Row]:
    return [{"t": r["t"], "k": r["k"], "m": r["m"], "w": r["v"]} for r in rows]


@settings(max_examples=few(30), deadline=None)
@given(rows_of("v"), rows_of("w"))
def test_join_lookup_adds_the_one_row_of_a_key(left: list[Row], right: list[Row]) -> None:
    """A left row stays, and stays one; a key that the table has twice is an error that names the table."""
    known = [r for r in right if r["k"] is not None]
    distinct = {r["k"]: r for r in reversed(known)}

    def program(f: Frame, g: Frame) -> Frame:
        return f.join_lookup(g.select("k", "w"), on="k")

    if len(distinct) < len(known):
        with pytest.raises(DataError, match='join_lookup: "argument 2" has more than one row for k='):
            run(program, left, right)
    found = run(program, left, list(distinct.values()))
    assert found == [{**r, "w": distinct[r["k"]]["w"] if r["k"] in distinct else None} for r in left]


@settings(max_examples=few(30), deadline=None)
@given(rows_of("v"), rows_of("w"), st.one_of(st.none(), st.integers(0, 10)))
def test_join_asof_takes_the_latest_row_that_is_not_later(
    left: list[Row], right: list[Row], tolerance: int | None
) -> None:
    """Of rows at one time the last; none older than the tolerance; a left row without time or partner stays."""

    def partner(row: Row) -> int | None:
        candidates = [
            s
            for s in right
            if meets(row, s, "k")
            and row["t"] is not None
            and s["t"] is not None
            and s["t"] <= row["t"]
            and (tolerance is None or row["t"] - s["t"] <= timedelta(seconds=tolerance))
        ]
        return max(candidates, key=lambda s: (s["t"], s["w"]))["w"] if candidates else None

    limit = None if tolerance is None else timedelta(seconds=tolerance)
    found = run(lambda f, g: f.join_asof(g.select("t", "k", "w"), on="t", by="k", tolerance=limit), left, right)
    assert found == [{**r, "w": partner(r)} for r in left]


def test_join_asof_without_key() -> None:
    left = [{"t": EPOCH, "k": "a", "m": 1, "v": 0}]
    found = run(lambda f, g: f.join_asof(g.select("t", "w"), on="t"), left, left_as_right(left))
    assert found == [{**left[0], "w": 0}]


INTERVALS: tuple[Literal["inner", "left", "outer"], ...] = ("inner", "left", "outer")


@pytest.mark.parametrize("how", INTERVALS)
@pytest.mark.parametrize("by", [(), ("k",), ("k", "m")])
@settings(max_examples=few(20), deadline=None)
@given(left=rows_of("v"), right=rows_of("w"), before=st.integers(0, 6), after=st.integers(0, 6))
def test_join_interval_equals_nested_loops(
    how: str, by: tuple[str, ...], left: list[Row], right: list[Row], before: int, after: int
) -> None:
    """Both ends belong; rows without a time or key meet nothing and stay in a left or outer join."""

    def near(r: Row, s: Row) -> bool:
        if r["t"] is None or s["t"] is None or not meets(r, s, *by):
            return False
        return timedelta(seconds=-before) <= s["t"] - r["t"] <= timedelta(seconds=after)

    within = (timedelta(seconds=before), timedelta(seconds=after))
    found = run(lambda f, g: f.join_interval(g, on="t", by=list(by), within=within, how=how), left, right)
    pairs = [(r, s) for r in left for s in right if near(r, s)]
    wanted = []
    for r in left:
        partners = [s for p, s in pairs if p is r]
        wanted += [pair(r, s, by) for s in partners]
        if not partners and how in ("left", "outer"):
            wanted.append(pair(r, None, by))
    if how == "outer":
        wanted += [pair(None, s, by) for s in right if not any(p is s for _, p in pairs)]
    assert found == wanted


def test_join_interval_takes_one_length_for_both_sides() -> None:
    left = [{"t": EPOCH, "k": "a", "m": 1, "v": 0}]
    right = [{"t": EPOCH + timedelta(seconds=s), "k": "a", "m": 1, "w": s} for s in (-6, -5, 5, 6)]
    found = run(lambda f, g: f.join_interval(g.select("t", "w"), on="t", within="5s"), left, right)
    assert [row["w"] for row in found] == [-5, 5]


def test_join_interval_of_many_rows_of_one_key_is_quick() -> None:
    """20,000 rows on each side of one key are 400 million pairs, of which 60,000 are near."""
    n = 20_000
    times = [EPOCH + timedelta(seconds=i) for i in range(n)]
    one, other = pl.DataFrame({"t": times, "k": 1, "v": range(n)}), pl.DataFrame({"t": times, "k": 1, "w": range(n)})
    found = run_function(lambda f, g: f.join_interval(g, on="t", by="k", within="1s"), one, other)
    assert found.height == 3 * n - 2


@pytest.mark.parametrize("keep", ["first", "last"])
@settings(max_examples=few(30), deadline=None)
@given(rows=rows_of("v"))
def test_unique_keeps_one_row_of_a_key(keep: str, rows: list[Row]) -> None:
    """In row order; null is a key like any other."""
    chosen: dict[tuple[Any, ...], Row] = {}
    for row in rows if keep == "last" else reversed(rows):
        chosen[row["k"], row["m"]] = row
    assert run(lambda f: f.unique(["k", "m"], keep=keep), rows) == [
        r for r in rows if any(c is r for c in chosen.values())
    ]


@pytest.mark.parametrize("keep", ["first", "last"])
@settings(max_examples=few(30), deadline=None)
@given(rows=rows_of("v"), within=st.integers(1, 8))
def test_unique_within_keeps_one_row_of_a_run(keep: str, rows: list[Row], within: int) -> None:
    """Rows of a key that follow each other closely are one; a row without a time always stays."""
    kept = [r["v"] for r in rows if r["t"] is None]
    for key in {r["k"] for r in rows}:
        runs: list[list[Row]] = []
        for row in sorted((r for r in rows if r["k"] == key and r["t"] is not None), key=lambda r: r["t"]):
            if runs and row["t"] - runs[-1][-1]["t"] <= timedelta(seconds=within):
                runs[-1].append(row)
            else:
                runs.append([row])
        kept += [run_[0 if keep == "first" else -1]["v"] for run_ in runs]
    found = run(lambda f: f.unique("k", keep=keep, within=timedelta(seconds=within), on="t"), rows)
    assert [r["v"] for r in found] == sorted(kept)


def test_a_frame_joins_itself() -> None:
    """And what is done to it later does not reach into the join."""
    f = Frame.literal(pl.DataFrame({"k": [1, 2], "v": [10, 20]}))
    joined = f.join(f, on="k")
    f["k"] = 0
    assert PolarsEngine().collect(joined, {}).to_dicts() == [
        {"k": 1, "v": 10, "v_right": 10},
        {"k": 2, "v": 20, "v_right": 20},
    ]


def test_times_of_both_sides_may_differ_in_unit() -> None:
    """Milliseconds meet microseconds; a time with a zone meets the same instant in another."""
    left = pl.DataFrame({"t": [datetime(2024, 1, 1, 12, tzinfo=UTC)], "v": [1]})
    right = left.select(col("t").dt.convert_time_zone("Asia/Tokyo").dt.cast_time_unit("ms"), w="v")
    asof = run_function(lambda f, g: f.join_asof(g, on="t"), left, right)
    near = run_function(lambda f, g: f.join_interval(g, on="t", within="0s"), left, right)
    assert asof["w"].to_list() == near["w"].to_list() == [1]


def test_join_refuses_keys_of_different_types() -> None:
    with pytest.raises(DefinitionError, match="join: datatypes of join keys don't match"):
        run(lambda f, g: f.join(g.cast(m="string"), on="m"), [], [])
