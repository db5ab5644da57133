"""Users' Python functions in frames: typed rows, honest types, their own exceptions, and breakpoints that stop."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars import col

from harness.examples import few
from tidemill.adapters.polars.engine import PolarsEngine
from tidemill.adapters.polars.function import run_function
from tidemill.model import agg
from tidemill.model.errors import DataError, DefinitionError, UserError
from tidemill.model.frame import Frame, Row, UnknownColumn, concat
from tidemill.model.table import Schema

ENGINE = PolarsEngine()
EVERY_TYPE = pl.DataFrame(
    {
        "b": [True, None],
        "i": [1, None],
        "f": [1.5, None],
        "s": ["x", None],
        "y": [b"x", None],
        "d": [date(2024, 1, 2), None],
        "t": [time(1, 2, 3), None],
        "at": [datetime(2024, 1, 2, 3, 4, 5, 6), None],
        "utc": [datetime(2024, 1, 2, tzinfo=UTC), None],
        "long": [timedelta(seconds=1), None],
        "money": [Decimal("1.20"), None],
        "list": [[1, None], None],
        "struct": [{"a": 1, "b": "x"}, None],
        "deep": [[{"a": [1.5]}], None],
        "small": [7, None],
        "kind": ["x", None],
        "nothing": [None, None],
    },
    schema_overrides={"money": pl.Decimal(12, 2), "small": pl.Int8, "kind": pl.Enum(["x", "y"]), "i": pl.Int32},
)


def test_a_row_is_a_dict_of_python_values() -> None:
    seen: list[Row] = []
    run_function(lambda f: f.map_rows(lambda r: seen.append(r) or r), EVERY_TYPE)
    assert [dict(row) for row in seen] == EVERY_TYPE.to_dicts()
    assert all(isinstance(row, Row) for row in seen)


def test_a_function_filters_rows_and_changes_nothing() -> None:
    def has_a_number(row: Row) -> object:
        row["b"] = False
        return row["i"]

    found = run_function(lambda f: f.filter(has_a_number), EVERY_TYPE)
    assert found.schema == EVERY_TYPE.schema
    assert found.equals(EVERY_TYPE.head(1))


def test_columns_passed_on_keep_their_types() -> None:
    """Also narrow ones: an Int8 does not become an Int64 by a walk through Python."""
    found = run_function(lambda f: f.map_rows(lambda r: r), EVERY_TYPE)
    assert found.schema == EVERY_TYPE.schema
    assert found.equals(EVERY_TYPE)


def test_a_misspelt_column_of_a_row_is_a_key_error_that_helps() -> None:
    with pytest.raises(UnknownColumn) as caught:
        run_function(lambda f: f.map_rows(lambda r: {"x": r["spede"]}), pl.DataFrame({"speed": [1]}))
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, UserError)
    assert 'There is no column "spede".' in str(caught.value)
    assert 'did you mean "speed"?' in str(caught.value)


@settings(max_examples=few(100), deadline=None)
@given(
    st.lists(
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.floats(allow_nan=False),
            st.text(max_size=3),
            st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-1000, max_value=1000),
            st.dates(),
            st.datetimes(),
            st.lists(st.integers(0, 5), max_size=2),
            st.fixed_dictionaries({"a": st.integers(0, 5)}),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_values_come_back_as_they_were_or_are_refused(values: list[Any]) -> None:
    """No value is rounded, cut or turned into another type on the way (an integer among floats may become one)."""
    rows = pl.DataFrame({"n": range(len(values))}, schema={"n": pl.Int64})

    def program(f: Frame) -> Frame:
        return f.map_rows(lambda r: {"n": r["n"], "x": values[r["n"]]})

    kinds = {type(v) for v in values if v is not None}
    numbers = [v for v in values if type(v) is int]
    limit = {float: 2**53, Decimal: 10**36}.get(next(iter(kinds - {int}), int), 2**127)
    if (len(kinds) < 2 or kinds in ({int, float}, {int, Decimal})) and all(abs(v) < limit for v in numbers):
        assert run_function(program, rows)["x"].to_list() == values
    elif kinds == {int, float}:
        pass  # large integers may be floats by chance
    else:
        with pytest.raises(DefinitionError, match='returned values as "x" that make no column'):
            run_function(program, rows)


def test_numbers_from_numpy_are_numbers() -> None:
    found = run_function(
        lambda f: f.map_rows(lambda r: {"x": np.int64(r["a"]), "y": np.float32(0.5), "z": np.array([1, 2])}),
        pl.DataFrame({"a": [1]}),
    )
    assert found.to_dicts() == [{"x": 1, "y": 0.5, "z": [1, 2]}]


def test_a_column_that_appears_late_is_null_before() -> None:
    """Types are those of all rows, over all batches, not of the first."""
    rows = pl.DataFrame({"n": range(140_000)})

    def function(row: Row) -> dict[str, Any]:
        made: dict[str, Any] = {"n": row["n"], "x": None if row["n"] < 100_000 else 1}
        if row["n"] == 139_999:
            made["x"], made["late"] = 0.5, "here"
        return made

    found = run_function(lambda f: f.map_rows(function), rows)
    assert found.schema == {"n": pl.Int64, "x": pl.Float64, "late": pl.String}
    assert found["x"].null_count() == 100_000
    assert found["late"].drop_nulls().to_list() == ["here"]
    assert found["n"].to_list() == list(range(140_000))


def test_declared_types_are_held_to() -> None:
    rows = pl.DataFrame({"a": [1, 2]})
    found = run_function(lambda f: f.map_rows(lambda r: {**r, "x": r["a"]}, adds={"x": "double", "y": "string"}), rows)
    assert found.schema == {"a": pl.Int64, "x": pl.Float64, "y": pl.String}
    with pytest.raises(DataError) as wrong:
        run_function(lambda f: f.map_rows(lambda r: {"x": r["a"] / 2}, returns={"x": "long"}), rows)
    assert wrong.value.what.endswith('<lambda> returned 0.5 as "x", which is declared as Int64.')
    with pytest.raises(DefinitionError) as extra:
        run_function(lambda f: f.map_rows(lambda r: {"x": 1, "z": 2}, returns={"x": "long"}), rows)
    assert extra.value.what.endswith('<lambda> returned a column "z", which is not declared.')


def test_functions_in_a_row_declare_one_upon_the_other() -> None:
    """`adds` adds to what the function before it returned, declared or not."""
    rows = pl.DataFrame({"a": [1]})

    def b(row: Row) -> dict[str, Any]:
        return {**row, "b": 2}

    def c(row: Row) -> dict[str, Any]:
        return {**row, "c": "x"}

    for f in (
        Frame.literal(rows).map_rows(b, adds={"b": "int"}).map_rows(c, adds={"c": "string"}),
        Frame.literal(rows).map_rows(b).flat_map(lambda r: [c(r)], adds={"c": "string"}),
        Frame.literal(rows).map_rows(c).map_rows(b).select("a", "b", "c"),
        Frame.literal(rows).map_rows(c).map_rows(b, returns={"a": "long", "b": "int", "c": "string"}),
    ):
        assert ENGINE.collect(f, {}).to_dicts() == [{"a": 1, "b": 2, "c": "x"}]
        with ENGINE.batches(f, {}) as reader:
            assert reader.read_all().to_pylist() == [{"a": 1, "b": 2, "c": "x"}]


def test_a_row_may_be_changed_and_yielded_again() -> None:
    """What is natural to write gives different rows, though it is one dict."""

    def tags(row: Row) -> Iterator[Row]:
        for tag in row.pop("tags"):
            row["tag"] = tag
            yield row

    found = run_function(lambda f: f.flat_map(tags), pl.DataFrame({"n": [1], "tags": [["a", "b"]]}))
    assert found.to_dicts() == [{"n": 1, "tag": "a"}, {"n": 1, "tag": "b"}]


def test_declared_functions_at_the_end_hold_nothing() -> None:
    """Rows come out while the function still has rows to see."""
    seen = []
    rows = pl.DataFrame({"a": range(500_000)})
    f = Frame.literal(rows).map_rows(lambda r: seen.append(1) or r, adds={})
    with ENGINE.batches(f, {}) as reader:
        reader.read_next_batch()
        assert 0 < len(seen) < 200_000
    assert len(seen) < 200_000


def test_a_frame_used_twice_calls_its_functions_once() -> None:
    seen = []
    f = Frame.literal(pl.DataFrame({"a": [1, 2]})).map_rows(lambda r: seen.append(r) or r)
    found = ENGINE.collect(concat(f.filter(col("a") > 1), f.join(f, on="a")), {})
    assert found["a"].to_list() == [2, 1, 2]
    assert len(seen) == 2


def test_rows_beyond_the_limit_wait_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the files are gone afterwards, also after an error."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    rows = pl.DataFrame({"a": range(100_000), "s": ["abcdefgh"] * 100_000, "m": [{"x": 1}] * 100_000})
    f = Frame.literal(rows).map_rows(lambda r: {**r, "b": None if r["a"] % 2 else 2**70})
    small = PolarsEngine(held_in_memory=1 << 20)
    with small.batches(f.filter(col("b").is_not_null()).select("a"), {}) as reader:
        assert any(tmp_path.rglob("*.arrow"))
        assert reader.read_all()["a"].to_pylist() == list(range(0, 100_000, 2))
    assert not any(tmp_path.rglob("*.arrow"))
    with pytest.raises(ZeroDivisionError):
        small.collect(f.map_rows(lambda r: {"a": 1 // (r["a"] - 80_000)}).filter(col("a") > 0), {})
    assert not any(tmp_path.rglob("*.arrow"))


# A day without rows


def day(f: Frame) -> Frame:
    return f.map_rows(lambda r: {**r, "late": r["delay"] > 15}).filter(col("late")).group_by("late").agg(n=agg.count())


def test_a_day_without_rows_passes_through_undeclared_functions() -> None:
    """What the function would return is unknown, so nothing is said about columns; that is no failure."""
    empty = pl.DataFrame(schema={"delay": pl.Int64})
    assert run_function(day, pl.DataFrame({"delay": [20, 10]})).to_dicts() == [{"late": True, "n": 1}]
    with ENGINE.batches(day(Frame.literal(empty)), {}) as reader:
        assert reader.schema.names == []
        assert reader.read_all().num_rows == 0
    assert run_function(lambda f: f.flat_map(lambda r: []).select("new"), pl.DataFrame({"a": [1]})).is_empty()
    known = run_function(lambda f: f.map_rows(lambda r: r).map_batches(lambda df: df, returns={"b": "int"}), empty)
    assert known.schema == {"b": pl.Int32}


def test_a_day_without_rows_has_columns_where_they_are_declared() -> None:
    empty = pl.DataFrame(schema={"delay": pl.Int64})

    def program(f: Frame) -> Frame:
        return f.map_rows(lambda r: {**r, "late": True}, adds={"late": "boolean"}).filter(col("late"))

    assert run_function(program, empty).schema == {"delay": pl.Int64, "late": pl.Boolean}
    with ENGINE.batches(program(Frame.literal(empty)), {}) as reader:
        assert reader.schema.names == ["delay", "late"]


def test_a_day_without_rows_that_another_frame_needs_says_what_to_declare() -> None:
    """Rows of the other frame are there, so nothing can be skipped."""
    empty, full = pl.DataFrame(schema={"k": pl.Int64}), pl.DataFrame({"k": [1]})

    def program(f: Frame, g: Frame) -> Frame:
        return concat(f.map_rows(lambda r: {**r, "x": 1}), g).with_columns(y=col("x") + 1)

    assert run_function(program, full, full)["y"].to_list() == [2, None]
    with pytest.raises(DefinitionError) as caught:
        run_function(program, empty, full)
    assert 'There is no column "x"' in caught.value.what
    assert "got no rows this time and does not declare what it returns" in caught.value.what
    assert caught.value.hint is not None
    assert "adds=" in caught.value.hint


def test_map_batches_is_called_with_no_rows_when_there_are_none() -> None:
    """So that its columns are known."""
    found = run_function(
        lambda f: f.map_batches(lambda df: df.with_columns(y=col("x") * 2)), pl.DataFrame(schema={"x": pl.Int64})
    )
    assert found.schema == {"x": pl.Int64, "y": pl.Int64}


def test_columns_are_told_without_calling_functions() -> None:
    def never(row: Any) -> Any:
        raise AssertionError

    inputs = {"t": Schema.of({"a": "int", "s": "string"})}
    from tidemill.model.frame import Input

    f = Frame.of(Input("t"))
    assert ENGINE.columns(f.with_columns(b=col("a") * 2.5).drop("s"), inputs) == Schema.of({"a": "int", "b": "double"})
    declared = f.map_rows(never, adds={"b": "long"}).flat_map(never, returns={"c": "list<string>"}).filter(True)
    assert ENGINE.columns(declared, inputs) == Schema.of({"c": "list<string>"})
    assert ENGINE.columns(f.map_rows(never), inputs) is None
    assert ENGINE.columns(f.group_by("s").agg(x=agg.reduce("a", 0, never)), inputs) is None
    with pytest.raises(UserError, match='no column "aa"'):
        ENGINE.columns(f.filter(col("aa") > 1).map_rows(never), inputs)


# Errors


def classify(row: Row) -> dict[str, Any]:
    return {**row, "share": 1 / row["n"]}


def test_an_exception_keeps_its_traceback_and_says_which_row() -> None:
    """The class, the user's line and the row's values: what is needed to reproduce it."""
    rows = pl.DataFrame({"n": [2, 1, 0]})
    with pytest.raises(ZeroDivisionError) as caught:
        run_function(lambda departures: departures.map_rows(classify), departures=rows)
    assert any(entry.name == "classify" for entry in caught.traceback)
    (note,) = caught.value.__notes__
    assert note.startswith(f"in map_rows(classify) at {__file__}:")
    assert note.endswith("""row 2 of "departures": {'n': 0}""")


def test_row_numbers_count_over_batches() -> None:
    rows = pl.DataFrame({"n": [1] * 70_000 + [0]})
    with pytest.raises(ZeroDivisionError) as caught:
        run_function(lambda f: f.map_rows(classify), rows)
    assert "row 70000 of" in caught.value.__notes__[0]


def test_exceptions_come_through_the_reader() -> None:
    """Also while a consumer of Arrow batches reads."""
    f = Frame.literal(pl.DataFrame({"n": [1] * 70_000 + [0]})).map_rows(classify, adds={"share": "double"})
    with ENGINE.batches(f, {}) as reader:
        with pytest.raises(ZeroDivisionError) as caught:
            reader.read_all()
    assert "row 70000 of" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    "program",
    [
        lambda f: f.flat_map(lambda r: iter([1 / 0])),
        lambda f: f.map_batches(lambda df: 1 / 0),
        lambda f: f.reduce("n", {}, lambda state, row: 1 / 0),
        lambda f: f.group_by("n").agg(x=agg.reduce("n", 0, lambda state, value: 1 / 0)),
        lambda f: f.tumbling_window("1s", on="t").agg(x=agg.reduce("n", 0, lambda state, value: 1 / 0)).final(),
    ],
)
def test_every_function_names_its_step(program: Any) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_function(program, pl.DataFrame({"n": [1], "t": [datetime(2024, 1, 1)]}))
    (note,) = caught.value.__notes__
    assert f" at {__file__}:" in note
    assert "<lambda>" in note


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (lambda f: f.map_rows(lambda r: None), "map_rows: <lambda> returned nothing for a row."),
        (lambda f: f.map_rows(lambda r: 5), "map_rows: <lambda> returned int, not a row."),
        (lambda f: f.flat_map(lambda r: r), "flat_map: <lambda> returned Row, not rows."),
        (lambda f: f.flat_map(lambda r: None), "flat_map: <lambda> returned NoneType, not rows."),
        (lambda f: f.flat_map(lambda r: [1]), "flat_map: <lambda> returned int, not a row."),
        (lambda f: f.map_batches(lambda df: df.to_dicts()), "map_batches: <lambda> returned list, not a DataFrame."),
        (lambda f: f.map_rows(lambda r: {1: 2}), "map_rows: 1 is no column name."),
        (
            lambda f: f.map_rows(lambda r: {"x": {1, 2}}),
            'map_rows: <lambda> returned values as "x" that make no column: set.',
        ),
        (lambda f: f.reduce("n", {}, lambda s, r: 5), "reduce: <lambda> returned int, not a row."),
        (
            lambda f: f.map_batches(lambda df: df, returns={"z": "long"}),
            "map_batches: what <lambda> returned lacks z.",
        ),
        (
            lambda f: f.map_batches(lambda df: df.with_columns(z=1), adds={}),
            "map_batches: what <lambda> returned has z, which is not declared.",
        ),
    ],
)
def test_what_functions_return_is_checked(program: Any, text: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        run_function(program, pl.DataFrame({"n": [1]}))
    assert caught.value.what == text
    assert caught.value.where is not None
    assert "test_frame_functions.py" in caught.value.where
    assert caught.value.hint


# reduce


def balance(state: dict[str, Any], row: Row) -> dict[str, Any]:
    state["total"] += row["amount"]
    state["history"].append(row["amount"])
    return state


@settings(max_examples=few(20), deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.integers(-9, 9)), min_size=1, max_size=15))
def test_reduce_folds_each_key_in_row_order(pairs: list[tuple[str | None, int]]) -> None:
    """The initial state is copied for each key: a function may change it in place."""
    rows = pl.DataFrame(
        {"k": [k for k, _ in pairs], "amount": [v for _, v in pairs]}, schema={"k": pl.String, "amount": pl.Int64}
    )
    initial: dict[str, Any] = {"total": 0, "history": []}
    keys = dict.fromkeys(k for k, _ in pairs)
    wanted = [
        {"k": key, "total": sum(v for k, v in pairs if k == key), "history": [v for k, v in pairs if k == key]}
        for key in keys
    ]
    assert run_function(lambda f: f.reduce("k", initial, balance), rows).to_dicts() == wanted
    assert (
        run_function(lambda f: f.reduce("k", lambda: {"total": 0, "history": []}, balance), rows).to_dicts() == wanted
    )
    assert initial == {"total": 0, "history": []}


def test_reduce_of_nothing_has_the_columns_of_its_keys_and_state() -> None:
    rows = pl.DataFrame(schema={"k": pl.String, "amount": pl.Int64})
    found = run_function(lambda f: f.reduce("k", {"total": 0}, balance), rows)
    assert found.schema == {"k": pl.String, "total": pl.Int64}


def test_a_fold_that_declares_its_type_is_known_before_a_row_is_read() -> None:
    def longest(state: str, value: str | None) -> str:
        return max(state, value or "", key=len)

    rows = pl.DataFrame({"k": ["a", "a"], "v": ["x", "yy"]})
    for data in (rows, rows.clear()):
        made = Frame.literal(data).group_by("k").agg(most=agg.reduce("v", "", longest, returns="string"))
        schema = ENGINE.columns(made, {})
        assert schema is not None
        assert [(column.name, str(column.type)) for column in schema] == [("k", "string"), ("most", "string")]
        assert ENGINE.collect(made, {}).schema == {"k": pl.String, "most": pl.String}
    assert ENGINE.columns(Frame.literal(rows).group_by("k").agg(most=agg.reduce("v", "", longest)), {}) is None
    with pytest.raises(DataError, match="declared as Int64"):
        ENGINE.collect(Frame.literal(rows).group_by("k").agg(most=agg.reduce("v", "", longest, returns="long")), {})
    with pytest.raises(DefinitionError, match="reduce"):
        agg.reduce("v", "", longest, returns="strin")


def test_reduce_names_a_missing_key() -> None:
    with pytest.raises(UserError, match='no column "kk"'):
        run_function(lambda f: f.reduce("kk", {}, balance), pl.DataFrame({"k": [1]}))
