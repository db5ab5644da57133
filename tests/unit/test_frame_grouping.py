"""Groups and windows equal a naive loop over the rows, for any rows, nulls and ties included."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.examples import few
from tidemill.adapters.polars.function import run_function
from tidemill.model import agg
from tidemill.model.errors import DataError, DefinitionError
from tidemill.model.frame import Frame

EPOCH = datetime(1970, 1, 1)
SCHEMA = {"t": pl.Datetime("us"), "k": pl.String, "v": pl.Int64, "x": pl.Float64}
AGGREGATES: dict[str, Any] = {
    "n": agg.count(),
    "n_v": agg.count("v"),
    "total": agg.sum("v"),
    "mean_x": agg.mean("x"),
    "low": agg.min("v"),
    "high": agg.max("v"),
    "head": agg.first("v"),
    "tail": agg.last("v"),
    "early": agg.earliest("v", on="t"),
    "late": agg.latest("v", on="t"),
    "kinds": agg.n_unique("v"),
    "p90": agg.quantile("v", 0.9),
    "middle": agg.median("x"),
    "spread": agg.std("x"),
    "every": agg.collect("v"),
    "folded": agg.reduce("v", "", lambda state, value: f"{state}/{value}"),
    "doubled": agg.sum(pl.col("v") * 2),
    "plain": pl.col("v").filter(pl.col("x") > 0).sum(),
}

Row = dict[str, Any]


def moments() -> st.SearchStrategy[datetime]:
    """Times around the epoch, many of them equal."""
    return st.integers(-40, 40).map(lambda s: EPOCH + timedelta(seconds=s / 2))


rows_of = st.lists(
    st.fixed_dictionaries(
        {
            "t": st.one_of(st.none(), moments()),
            "k": st.sampled_from(["a", "b", None]),
            "v": st.one_of(st.none(), st.integers(-5, 5)),
            "x": st.one_of(st.none(), st.floats(-10, 10)),
        }
    ),
    max_size=25,
)


def quantile(values: list[float], q: float) -> float | None:
    if not values:
        return None
    values = sorted(values)
    position = (len(values) - 1) * q
    low = math.floor(position)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (position - low)


def aggregated(rows: list[Row]) -> Row:
    """What AGGREGATES say, by hand; `rows` in row order."""
    v = [r["v"] for r in rows]
    known = [value for value in v if value is not None]
    x = [r["x"] for r in rows if r["x"] is not None]
    timed = sorted((r for r in rows if r["t"] is not None), key=lambda r: r["t"])  # stable: ties in row order
    return {
        "n": len(rows),
        "n_v": len(known),
        "total": sum(known),
        "mean_x": statistics.fmean(x) if x else None,
        "low": min(known, default=None),
        "high": max(known, default=None),
        "head": v[0],
        "tail": v[-1],
        "early": timed[0]["v"] if timed else None,
        "late": timed[-1]["v"] if timed else None,
        "kinds": len(set(known)),
        "p90": quantile(known, 0.9),
        "middle": quantile(x, 0.5),
        "spread": statistics.stdev(x) if len(x) > 1 else None,
        "every": v,
        "folded": "".join(f"/{value}" for value in v),
        "doubled": sum(known) * 2,
        "plain": sum(r["v"] for r in rows if r["v"] is not None and r["x"] is not None and r["x"] > 0),
    }


def grouped(rows: Iterable[Row], key: Callable[[Row], tuple[Any, ...]]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def same(found: pl.DataFrame, wanted: list[Row]) -> None:
    """Equal rows in equal order, floats within 1e-9 of their size."""
    got = found.to_dicts()
    assert len(got) == len(wanted), (got, wanted)
    for one, other in zip(got, wanted, strict=True):
        assert list(one) == list(other)
        for name, value in other.items():
            if isinstance(value, float):
                assert one[name] == pytest.approx(value, rel=1e-9, abs=1e-9), name
            else:
                assert one[name] == value, name


def run(function: Callable[[Frame], Frame], rows: list[Row]) -> pl.DataFrame:
    return run_function(function, pl.DataFrame(rows, schema=SCHEMA))


def in_windows(rows: list[Row], windows_of: Callable[[Row], Iterable[tuple[datetime, datetime]]]) -> list[Row]:
    """Rows put into windows one by one; results by the windows' ends, starts and keys (null first)."""
    placed = [
        (start, end, number, row)
        for number, row in enumerate(rows)
        if row["t"] is not None
        for start, end in windows_of(row)
    ]
    groups: dict[tuple[Any, ...], list[tuple[int, Row]]] = {}
    for start, end, number, row in placed:
        groups.setdefault((start, end, row["k"]), []).append((number, row))
    ordered = sorted(groups.items(), key=lambda item: (item[0][1], item[0][0], item[0][2] or ""))
    return [
        {"k": k, "window_start": start, "window_end": end, **aggregated([row for _, row in members])}
        for (start, end, k), members in ordered
    ]


@settings(max_examples=few(30), deadline=None)
@given(rows_of)
def test_group_by_equals_a_loop(rows: list[Row]) -> None:
    """Groups come in the order of their first rows; null is a key."""
    wanted = [{"k": k, **aggregated(g)} for (k,), g in grouped(rows, lambda r: (r["k"],)).items()]
    same(run(lambda f: f.group_by("k").agg(**AGGREGATES), rows), wanted)


@settings(max_examples=few(30), deadline=None)
@given(rows_of)
def test_tumbling_windows_align_to_the_epoch(rows: list[Row]) -> None:
    """Also before 1970: times are floored, not cut towards zero."""

    def window(row: Row) -> list[tuple[datetime, datetime]]:
        start = EPOCH + (row["t"] - EPOCH) // timedelta(seconds=7) * timedelta(seconds=7)
        return [(start, start + timedelta(seconds=7))]

    found = run(lambda f: f.tumbling_window("7s", on="t", by="k").agg(**AGGREGATES).final(), rows)
    same(found, in_windows(rows, window))


@settings(max_examples=few(30), deadline=None)
@given(rows_of, st.integers(1, 6), st.integers(1, 15))
def test_hopping_windows_hold_each_row_in_every_window_over_it(rows: list[Row], every: int, size: int) -> None:
    """Sizes that are no multiple of the step, and gaps between windows, included."""
    step, length = timedelta(seconds=every), timedelta(seconds=size)

    def windows(row: Row) -> Iterable[tuple[datetime, datetime]]:
        for number in range(-60, 60):
            start = EPOCH + number * step
            if start <= row["t"] < start + length:
                yield start, start + length

    found = run(lambda f: f.hopping_window(step, length, on="t", by="k").agg(**AGGREGATES).final(), rows)
    same(found, in_windows(rows, windows))


@settings(max_examples=few(30), deadline=None)
@given(rows_of, st.integers(1, 8))
def test_sliding_windows_end_at_each_different_time(rows: list[Row], size: int) -> None:
    """The window (t - size, t] of a key, its start excluded and its end included."""
    length = timedelta(seconds=size)
    times = {(r["k"], r["t"]) for r in rows if r["t"] is not None}

    def windows(row: Row) -> Iterable[tuple[datetime, datetime]]:
        for key, end in times:
            if key == row["k"] and end - length < row["t"] <= end:
                yield end - length, end

    found = run(lambda f: f.sliding_window(length, on="t", by="k").agg(**AGGREGATES).final(), rows)
    same(found, in_windows(rows, windows))


@settings(max_examples=few(30), deadline=None)
@given(rows_of, st.integers(1, 6))
def test_sessions_are_runs_with_small_gaps(rows: list[Row], gap: int) -> None:
    """A gap of exactly the given length still belongs; start and end are the times of the first and last row."""
    pause = timedelta(seconds=gap)
    ends: dict[int, tuple[datetime, datetime]] = {}
    for members in grouped((r for r in rows if r["t"] is not None), lambda r: (r["k"],)).values():
        session: list[Row] = []
        for row in [*sorted(members, key=lambda r: r["t"]), None]:
            if session and (row is None or row["t"] - session[-1]["t"] > pause):
                for member in session:
                    ends[id(member)] = (session[0]["t"], session[-1]["t"])
                session = []
            if row is not None:
                session.append(row)

    found = run(lambda f: f.session_window(pause, on="t", by="k").agg(**AGGREGATES).final(), rows)
    same(found, in_windows(rows, lambda row: [ends[id(row)]]))


@settings(max_examples=few(30), deadline=None)
@given(rows_of, st.integers(1, 5))
def test_count_windows_hold_every_n_rows(rows: list[Row], size: int) -> None:
    """Numbered within the key, in row order; the last window of a key may be short."""
    wanted = []
    for (key,), members in grouped(rows, lambda r: (r["k"],)).items():
        for start in range(0, len(members), size):
            part = members[start : start + size]
            last = next(i for i, row in enumerate(rows) if row is part[-1])
            wanted.append(
                (
                    last,
                    {"k": key, "window_start": start, "window_end": start + len(part)},
                    part,
                )
            )
    wanted.sort(key=lambda item: item[0])
    found = run(lambda f: f.count_window(size, by="k").agg(**AGGREGATES).final(), rows)
    same(found, [{**head, **aggregated(part)} for *_, head, part in wanted])


def three(**changed: Any) -> pl.DataFrame:
    data = {
        "t": [EPOCH, EPOCH + timedelta(seconds=1), EPOCH + timedelta(hours=1)],
        "k": ["a", "b", "a"],
        "v": [1, 2, 3],
    }
    return pl.DataFrame({**data, **changed})


@pytest.mark.parametrize("kind", ["tumbling", "hopping", "sliding", "session", "count"])
def test_windows_need_no_key(kind: str) -> None:
    """Without `by` all rows are of one key."""

    def program(f: Frame) -> Frame:
        made = {
            "tumbling": lambda: f.tumbling_window("1h", on="t"),
            "hopping": lambda: f.hopping_window("1h", "1h", on="t"),
            "sliding": lambda: f.sliding_window("1h", on="t"),
            "session": lambda: f.session_window("1m", on="t"),
            "count": lambda: f.count_window(2),
        }[kind]()
        return made.agg(v=agg.collect("v")).final()

    wanted = {"sliding": [[1], [1, 2], [2, 3]]}.get(kind, [[1, 2], [3]])
    assert run_function(program, three())["v"].to_list() == wanted


def test_current_on_a_table_is_final() -> None:
    def window(f: Frame) -> Any:
        return f.tumbling_window("1m", on="t", by="k").agg(n=agg.count())

    assert run_function(lambda f: window(f).current(), three()).equals(
        run_function(lambda f: window(f).final(), three())
    )


def test_windows_keep_the_zone_of_their_time() -> None:
    """A time with a zone gives window ends in UTC, one without gives ends without; a date counts as midnight."""
    zoned = three(t=[datetime(2024, 3, 31, hour, tzinfo=UTC) for hour in (0, 1, 2)])
    zoned = zoned.with_columns(pl.col("t").dt.convert_time_zone("Europe/Berlin"))  # the night of the change
    found = run_function(lambda f: f.tumbling_window("1h", on="t").agg(n=agg.count()).final(), zoned)
    assert found["window_start"].to_list() == [datetime(2024, 3, 31, hour, tzinfo=UTC) for hour in (0, 1, 2)]
    dates = run_function(
        lambda f: f.tumbling_window("2d", on="t").agg(n=agg.count()).final(),
        three(t=[date(1970, 1, 1), date(1970, 1, 2), date(1970, 1, 3)]),
    )
    assert dates["window_start"].to_list() == [datetime(1970, 1, 1), datetime(1970, 1, 3)]


def test_windows_follow_windows() -> None:
    """The result of one window can be cut into larger ones by its `window_start`."""

    def program(f: Frame) -> Frame:
        minutes = f.tumbling_window("1m", on="t").agg(n=agg.count()).final()
        hours = minutes.tumbling_window("1h", on="window_start")
        return hours.agg(n=agg.sum("n"), first=agg.min("window_start")).final()

    found = run_function(program, three())
    assert found["n"].to_list() == [2, 1]
    assert found["first"].to_list() == [EPOCH, EPOCH + timedelta(hours=1)]


def test_a_sum_that_overflows_is_an_error() -> None:
    """Polars alone would wrap around to a negative number."""
    big = pl.DataFrame({"k": [1, 1], "v": [2**62, 2**62]})
    with pytest.raises(DataError, match="conversion"):
        run_function(lambda f: f.group_by("k").agg(v=agg.sum("v")), big)
    small = pl.DataFrame({"k": [1, 1], "v": [2**31 - 1, 1]}, schema={"k": pl.Int64, "v": pl.Int32})
    assert run_function(lambda f: f.group_by("k").agg(v=agg.sum("v")), small)["v"].to_list() == [2**31]


def test_first_and_last_hold_for_many_rows() -> None:
    """Work on 400,000 rows is split over threads; row order must not depend on the split."""
    n = 400_000
    rows = pl.DataFrame({"k": [(i * 7919) % 1000 for i in range(n)], "v": range(n)})
    found = run_function(
        lambda f: f.group_by("k").agg(a=agg.first("v"), b=agg.last("v"), c=agg.collect("v"), d=pl.col("v").first()),
        rows,
    )
    positions: dict[int, list[int]] = {}
    for i, k in enumerate(rows["k"].to_list()):
        positions.setdefault(k, []).append(i)
    assert found["k"].to_list() == list(positions)
    assert found["a"].to_list() == [p[0] for p in positions.values()] == found["d"].to_list()
    assert found["b"].to_list() == [p[-1] for p in positions.values()]
    assert found["c"].to_list() == list(positions.values())


def test_group_by_takes_expressions_as_keys() -> None:
    found = run_function(
        lambda f: f.group_by((pl.col("v") % 2).alias("odd"), hour=pl.col("t").dt.hour()).agg(n=agg.count()), three()
    )
    assert found.to_dicts() == [
        {"odd": 1, "hour": 0, "n": 1},
        {"odd": 0, "hour": 0, "n": 1},
        {"odd": 1, "hour": 1, "n": 1},
    ]


def test_aggregates_of_nested_values() -> None:
    """First and last also work on lists and structs."""
    nested = pl.DataFrame({"k": [1, 1], "l": [[1], [2]], "s": [{"a": 1}, {"a": 2}]})
    found = run_function(
        lambda f: f.group_by("k").agg(l=agg.first("l"), s=agg.last("s"), all=agg.reduce(pl.struct("l", "s"), 0, add)),
        nested,
    )
    assert found.to_dicts() == [{"k": 1, "l": [1], "s": {"a": 2}, "all": 6}]


def add(state: int, value: dict[str, Any]) -> int:
    return state + value["l"][0] + value["s"]["a"]


def test_a_wildcard_in_an_aggregate_does_not_catch_our_columns() -> None:
    with pytest.raises(DefinitionError, match="takes all columns"):
        run_function(lambda f: f.group_by("k").agg(pl.all().exclude("t").max()), three())
    named = run_function(lambda f: f.group_by("k").agg(pl.col("v", "t").max()), three())
    assert named.columns == ["k", "v", "t"]


def test_a_window_over_no_time_says_so() -> None:
    with pytest.raises(DefinitionError, match='Column "v" is of type Int64, not a time'):
        run_function(lambda f: f.tumbling_window("1m", on="v").agg(n=agg.count()).final(), three())
