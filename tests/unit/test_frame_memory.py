"""Rows in memory go through table functions: Polars, pandas and Arrow in, in tests and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars import col

from harness.examples import few
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.adapters.polars.function import run_function
from tidemill.adapters.polars.tables import from_pandas, to_pandas
from tidemill.model.errors import DataError, DefinitionError
from tidemill.model.frame import Frame, Input, concat
from tidemill.model.table import Schema

ENGINE = PolarsEngine()


def clean(departures: Frame, limit: int = 15) -> Frame:
    return departures.filter(departures["delay"].is_not_null()).with_columns(late=col("delay") > limit)


ROWS = pl.DataFrame({"delay": [20, None, 10], "carrier": ["AA", "BB", "CC"]})
CLEAN = [{"delay": 20, "carrier": "AA", "late": True}, {"delay": 10, "carrier": "CC", "late": False}]


@pytest.mark.parametrize(
    "rows", [ROWS, ROWS.lazy(), ROWS.to_arrow(), ROWS.to_pandas()], ids=lambda r: type(r).__module__
)
def test_a_table_function_takes_rows_in_memory(rows: Any) -> None:
    """By position or by name, beside arguments that are no rows."""
    assert run_function(clean, rows).to_dicts() == CLEAN
    assert run_function(clean, departures=rows, limit=5)["late"].to_list() == [True, True]


def test_a_table_function_may_return_rows_in_memory() -> None:
    assert run_function(lambda f: pl.DataFrame({"a": [1]}), ROWS).to_dicts() == [{"a": 1}]


def test_an_arrow_reader_may_be_used_twice() -> None:
    """It gives its rows once; a frame that joins itself needs them twice."""
    f = Frame.of(Input("t"))
    assert ENGINE.collect(concat(f, f), {"t": ROWS.to_arrow().to_reader()}).height == 6
    assert ENGINE.collect(concat(f, Frame.of(Input("t"))), {"t": ROWS.to_arrow().to_reader()}).height == 6


def test_the_frame_given_in_is_not_changed() -> None:
    def change(f: Frame) -> Frame:
        f["delay"] = 0
        return f

    assert run_function(change, ROWS)["delay"].to_list() == [0, 0, 0]
    assert ROWS["delay"].to_list() == [20, None, 10]


def test_results_have_types_that_tables_hold() -> None:
    """Narrow, unsigned and categorical columns are widened; times of day are microseconds; zones become UTC."""
    rows = pl.DataFrame(
        {
            "i8": pl.Series([1], dtype=pl.Int8),
            "u32": pl.Series([2**32 - 1], dtype=pl.UInt32),
            "u64": pl.Series([7], dtype=pl.UInt64),
            "big": pl.Series([2**70], dtype=pl.Int128),
            "cat": pl.Series(["a"], dtype=pl.Categorical),
            "enum": pl.Series(["a"], dtype=pl.Enum(["a"])),
            "arr": pl.Series([[1, 2]], dtype=pl.Array(pl.Int16, 2)),
            "at": pl.Series([datetime(2024, 7, 1, tzinfo=UTC)])
            .dt.convert_time_zone("Asia/Tokyo")
            .dt.cast_time_unit("ns"),
            "time": [time(1, 2, 3, 4)],
            "deep": [[{"t": time(1)}]],
            "map": pl.Series([{"a": 1}], dtype=pl.Map(pl.String, pl.Int64)),
            "none": [None],
            "day": [date(2024, 1, 1)],
            "money": [Decimal("1.5")],
        },
    )
    wanted = {
        "i8": "int", "u32": "long", "u64": "long", "big": "decimal(38,0)", "cat": "string", "enum": "string",
        "arr": "list<int>", "at": "timestamptz", "time": "time", "deep": "list<struct<t:time>>",
        "map": "map<string,long>", "none": "unknown", "day": "date", "money": "decimal(38,1)",
    }  # fmt: skip
    assert ENGINE.columns(Frame.literal(rows), {}) == Schema.of(wanted)
    with ENGINE.batches(Frame.literal(rows), {}) as reader:
        table = reader.read_all()
    assert table.schema.field("time").type == pa.time64("us")
    assert table.schema.field("deep").type == pa.large_list(pa.struct([("t", pa.time64("us"))]))
    assert table.schema.field("at").type == pa.timestamp("us", "UTC")
    row = table.to_pylist()[0]
    assert row["u32"] == 2**32 - 1
    assert row["big"] == 2**70
    assert row["at"] == datetime(2024, 7, 1, tzinfo=UTC)
    assert row["time"] == time(1, 2, 3, 4)
    assert row["arr"] == [1, 2]


def test_a_number_beyond_what_tables_hold_is_a_data_error() -> None:
    rows = pl.DataFrame({"u": pl.Series([2**64 - 1], dtype=pl.UInt64)})
    with pytest.raises(DataError, match="conversion from `u64` to `i64` failed"):
        ENGINE.to_arrow(Frame.literal(rows), {})


def test_durations_belong_in_no_table() -> None:
    with pytest.raises(DefinitionError, match='Column "d" is of type Duration'):
        ENGINE.to_arrow(Frame.literal(pl.DataFrame({"d": [timedelta(1)]})), {})


def test_a_reader_left_early_leaves_nothing_running() -> None:
    """A consumer may stop after one batch; the next run is not disturbed."""
    seen: list[int] = []

    def note(batch: pl.DataFrame) -> pl.DataFrame:
        seen.append(batch.height)
        return batch

    f = Frame.literal(pl.DataFrame({"a": range(1_000_000)})).map_batches(note, adds={})
    with ENGINE.batches(f, {}) as reader:
        reader.read_next_batch()
    count = len(seen)
    assert ENGINE.collect(Frame.literal(ROWS), {}).height == 3
    assert len(seen) == count < 16


# pandas


def test_pandas_functions_take_and_return_pandas_frames() -> None:
    """Frames among the arguments are run first; others are handed over as they are."""

    def late(departures: pd.DataFrame, limit: int) -> pd.DataFrame:
        assert isinstance(departures, pd.DataFrame)
        departures["late"] = departures["delay"] > limit
        return departures[departures["delay"].notna()]

    f = Frame.of(Input("departures")).select("delay")
    made = ENGINE.call_pandas(late, {"departures": f, "limit": 15}, {"departures": ROWS})
    assert ENGINE.collect(made, {}).to_dicts() == [{"delay": 20, "late": True}, {"delay": 10, "late": False}]


def test_a_grouped_pandas_result_keeps_its_keys() -> None:
    """A groupby puts them into the index, which no table has."""

    def means(f: pd.DataFrame) -> pd.DataFrame:
        return f.groupby("carrier").agg({"delay": "mean"})

    made = ENGINE.call_pandas(means, {"f": Frame.literal(ROWS.drop_nulls())}, {})
    assert ENGINE.collect(made, {}).to_dicts() == [{"carrier": "AA", "delay": 20.0}, {"carrier": "CC", "delay": 10.0}]


def test_types_of_pandas_do_not_depend_on_nulls() -> None:
    """A day without nulls and a day with them give the same; integers stay exact."""
    full = to_pandas(pa.table({"i": [2**60 + 1], "b": [True], "f": [0.5]}))
    holes = to_pandas(
        pa.table(
            {"i": pa.array([None], pa.int64()), "b": pa.array([None], pa.bool_()), "f": pa.array([None], pa.float64())}
        )
    )
    assert (full.dtypes == holes.dtypes).all()
    assert full["i"][0] == 2**60 + 1


def rows_in_pandas() -> Iterator[tuple[str, Any]]:
    yield "i", st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
    yield "f", st.one_of(st.none(), st.floats(allow_nan=False))
    yield "s", st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3))
    yield "b", st.one_of(st.none(), st.booleans())
    yield "t", st.one_of(st.none(), st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
    yield "d", st.one_of(st.none(), st.dates())
    yield "l", st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=2))
    yield "m", st.one_of(st.none(), st.decimals(min_value=-99, max_value=99, places=2))
    yield "p", st.one_of(st.none(), st.fixed_dictionaries({"a": st.integers(0, 9)}))


PANDAS_SCHEMA = {
    "i": pl.Int64, "f": pl.Float64, "s": pl.String, "b": pl.Boolean, "t": pl.Datetime("us"), "d": pl.Date,
    "l": pl.List(pl.Int64), "m": pl.Decimal(9, 2), "p": pl.Struct({"a": pl.Int64}),
}  # fmt: skip


@settings(max_examples=few(30), deadline=None)
@given(st.lists(st.fixed_dictionaries(dict(rows_in_pandas())), max_size=5))
def test_rows_survive_the_way_through_pandas(rows: list[dict[str, Any]]) -> None:
    """Values and nulls of every type come back equal."""
    frame = pl.DataFrame(rows, schema=PANDAS_SCHEMA)
    back = pl.DataFrame(from_pandas(to_pandas(frame.to_arrow())))
    assert back.to_dicts() == rows
