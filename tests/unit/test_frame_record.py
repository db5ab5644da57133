"""A frame is a record: verbs return new frames, the steps are data, `explain` prints them, nothing runs."""

from __future__ import annotations

import copy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars import col

from tidemill.model import agg
from tidemill.model.duration import duration_text, read_duration
from tidemill.model.errors import DefinitionError
from tidemill.model.frame import Frame, Input, as_frame, concat
from tidemill.model.frame.operation import Filter, JoinInterval, MapRows, Windowed, WithColumns
from tidemill.model.frame.window import Tumbling


def telemetry() -> Frame:
    return Frame.of(Input("telemetry"))


def test_verbs_return_new_frames() -> None:
    f = telemetry()
    g = f.filter(f["speed"] > 0)
    assert f.operations == ()
    assert [o.verb for o in g.operations] == ["filter"]
    assert [o.verb for o in g.drop("a").operations] == ["filter", "drop"]
    assert [o.verb for o in g.operations] == ["filter"]


def test_assigning_a_column_changes_this_frame_only() -> None:
    """And not those made from it before, nor what was joined with it before."""
    f = telemetry()
    before = f.drop("x")
    joined = telemetry().join(f, on="car")
    f["kmh"] = f["speed"] * 3.6
    (step,) = f.operations
    assert isinstance(step, WithColumns)
    assert list(step.named) == ["kmh"]
    assert len(before.operations) == 1
    assert [len(o.operations) for step in joined.operations for o in step.others] == [0]


def test_steps_are_values_that_know_their_line() -> None:
    """What a stream runner reads: no query, no engine, only what was said."""
    f = telemetry().filter(col("speed") > 0)
    (step,) = f.operations
    assert isinstance(step, Filter)
    assert step.at is not None
    assert step.at.file == __file__
    line = Path(__file__).read_text().splitlines()[step.at.line - 1]
    assert "telemetry().filter" in line
    with pytest.raises(AttributeError):
        step.conditions = ()  # type: ignore[misc]
    windowed = f.tumbling_window("10s", on="ts", by="car", grace="5s").agg(n=agg.count()).final()
    window = windowed.operations[-1]
    assert isinstance(window, Windowed)
    assert window.window == Tumbling("ts", timedelta(seconds=10))
    assert (window.by, window.emit, window.grace) == (("car",), "final", timedelta(seconds=5))
    near = f.join_interval(telemetry(), on="ts", within=("5s", "1m")).operations[-1]
    assert isinstance(near, JoinInterval)
    assert (near.before, near.after, near.how) == (timedelta(seconds=5), timedelta(minutes=1), "inner")


def test_steps_name_the_functions_that_they_call() -> None:
    """Streams cut a frame there, and "same code, same inputs" hashes them."""

    def double(row: Any) -> Any:
        return row

    def add(state: Any, value: Any) -> Any:
        return state

    f = telemetry().map_rows(double, adds={"x": "long"}).group_by("car").agg(n=agg.count(), x=agg.reduce("x", 0, add))
    rows, grouped = f.operations
    assert isinstance(rows, MapRows)
    assert rows.functions == (double,)
    assert grouped.functions == (add,)


def test_inputs_are_all_that_the_frame_needs() -> None:
    """Those of joined frames too, each once; a batch and the whole table of one name are two."""
    airports = Frame.of(Input("airports", "whole"))
    same = Frame.of(Input("telemetry", "whole"))
    f = telemetry().join_lookup(airports, on="faa").join(airports.join(same, on="x"), on="x")
    assert [source.key for source in f.inputs()] == ["telemetry", "whole(airports)", "whole(telemetry)"]
    assert [source.scope for source in f.inputs()] == ["batch", "whole", "whole"]


def test_a_copy_is_the_same_record() -> None:
    f = telemetry().drop("a")
    g = copy.copy(f)
    g["x"] = 1
    assert f.operations == g.operations[:1]
    assert f.source is g.source


def test_explain_prints_one_step_a_line() -> None:
    def classify(row: Any) -> Any:
        return row

    f = telemetry()
    f["kmh"] = f["speed"] * 3.6
    laps = Frame.of(Input("laps", "whole")).rename(at="ts").cast(lap="int")
    found = (
        f.filter(f["kmh"] > 50.0, col("unit") == "m")
        .map_rows(classify, adds={"kind": "string"})
        .flat_map(classify)
        .select("car", "ts", fast=col("kmh") > 100.0)
        .join_interval(laps, on="ts", by="car", within=("5s", "1m"), how="left")
        .join(laps, on={"car": "driver"}, how="anti")
        .join_asof(laps, on="ts", by="car", tolerance="1h")
        .unique(["car", "ts"], within="1h", on="ts", keep="last")
        .tumbling_window("1h30m", on="ts", by="car", grace="5s")
        .agg(
            n=agg.count(),
            kmh=agg.mean("kmh"),
            last=agg.latest("lap"),
            p=agg.quantile("kmh", 0.9),
            mode=col("kind").mode(),
        )
        .current()
        .group_by("car", late=col("n") > 1)
        .agg(agg=agg.reduce("n", 0, max))
    )
    wanted = """\
input "telemetry" (rows of this run's batch)
with_columns kmh=[(col("speed")) * (dyn float: 3.6)]
filter [(col("kmh")) > (dyn float: 50)], [(col("unit")) == ("m")]
map_rows classify adds(kind=string)
flat_map classify
select car, ts, fast=[(col("kmh")) > (dyn float: 100)]
join_interval on=ts by=car before=5s after=1m how=left
    input "laps" (the whole table)
    rename at=ts
    cast lap=int
join on=car=driver how=anti
    input "laps" (the whole table)
    rename at=ts
    cast lap=int
join_asof on=ts by=car tolerance=1h
    input "laps" (the whole table)
    rename at=ts
    cast lap=int
unique car, ts keep=last on=ts within=1h
tumbling_window on=ts every=1h30m by=car -> n=count(), kmh=mean(kmh), last=latest(lap, on=ts), p=quantile(kmh, 0.9), \
mode=col("kind").mode() emit=current grace=5s
group_by car, late=[(col("n")) > (dyn int: 1)] -> agg=reduce(n, max)"""
    assert found.explain() == wanted
    assert repr(found) == wanted


def test_concat_explains_the_others_below() -> None:
    text = concat(telemetry(), Frame.literal(pl.DataFrame(), "extra").drop("a")).explain()
    assert text == (
        'input "telemetry" (rows of this run\'s batch)\nconcat\n    input "extra" (rows in memory)\n    drop a'
    )


def test_what_a_function_may_return() -> None:
    """A frame, or rows in memory; else the message says what to return."""
    f = telemetry()
    assert as_frame(f, "clean") is f
    assert as_frame(pl.DataFrame({"a": [1]}), "clean").source.scope == "literal"
    for value, what, hint in [
        (None, '"clean" returned nothing.', "end the function with: return f"),
        (f.group_by("a"), '"clean" returned something unfinished.', "say what to compute: .agg("),
        (f.tumbling_window("1s", on="t"), '"clean" returned something unfinished.', "say what to compute: .agg("),
        (
            f.tumbling_window("1s", on="t").agg(n=agg.count()),
            '"clean" returned something unfinished.',
            "say when results are given: .final()",
        ),
        (col("a"), '"clean" returned Expr, not a frame.', "return what the last verb gave"),
        (5, '"clean" returned int, not a frame.', "return what the last verb gave"),
    ]:
        with pytest.raises(DefinitionError) as caught:
            as_frame(value, "clean")
        assert caught.value.what == what
        assert caught.value.hint is not None
        assert caught.value.hint.startswith(hint)


@given(st.timedeltas(min_value=timedelta(microseconds=1), max_value=timedelta(days=1000)))
def test_durations_read_back(value: timedelta) -> None:
    assert read_duration(duration_text(value), "every") == value


def test_durations_are_read_in_all_units() -> None:
    assert read_duration("1w2d3h4m5s6ms7us", "x") == timedelta(
        weeks=1, days=2, hours=3, minutes=4, seconds=5, milliseconds=6, microseconds=7
    )
    assert read_duration("1h 30m", "x") == timedelta(minutes=90)
    assert read_duration("0s", "grace", zero=True) == timedelta()


def test_a_frame_is_recorded_without_polars() -> None:
    """Definitions are parsed where data libraries are not loaded; only expressions need Polars."""
    program = (
        "import sys\n"
        "from tidemill.model import agg\n"
        "from tidemill.model.frame import Frame, Input\n"
        "f = Frame.of(Input('t')).select('a').tumbling_window('1s', on='t').agg(n=agg.count()).final()\n"
        "print(f.explain(), 'polars' in sys.modules)\n"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.endswith("-> n=count() emit=final False\n")
